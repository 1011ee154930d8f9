# wide_columns.pxi - columns that stay where they are and are swept class by class along wide runs of rows, so that
# memory is read in its own order; what is known of each row is in memory, too. The loops are in wide_columns.hpp.

cdef enum:
    WIDE_BYTES = 16384     # of each class in a group of columns that are multiplied where they are,
    PLAIN_BYTES = 8192     # the same of few classes, with several sums for each row; a half and a quarter
                           # in registers of WIDE bytes, which keep twice the sums
    WIDE_VECTORS = 8       # registers of rows that go along with the others at least; of few classes, MAX_LANES rows
    MAXIMA_AT_ONCE = 8     # classes whose maxima are found in one go along the rows,
    WRITTEN_AT_ONCE = 4    # or that are written


cdef inline bint are_wide_columns(Operation operation, const Problem& p) noexcept nogil:
    if lanes_of(tag) == 1 or not is_direct(operation, p, sizeof(real), True):
        return False
    if operation == SOFTMAX_VJP:
        return p.n > FEW_CLASSES and p.lanes > 2 * lanes_of(tag)
    if REGISTER_BYTES >= WIDE or p.n <= FEW_CLASSES:
        return False
    if p.lanes < (WIDE_VECTORS * lanes_of(tag) if p.n > FEW else MAX_LANES):
        return False
    if operation == CROSS_ENTROPY:            # no tile holds other weights than those of labels
        return p.label != NULL or (weighing_of(tag, p) == BY_TARGET and lies_directly(p.y, sizeof(real), True))
    return operation in (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP)


cdef inline Py_ssize_t bytes_of_wide(Operation operation, const Problem& p, Py_ssize_t lanes) noexcept nogil:
    # Of what is known of so many rows: the lanes of their sums, the rest of it, their labels and the logits there.
    cdef Py_ssize_t W = lanes_of(tag), sums = 3 if sums_more(operation, p) else 1
    if operation == SOFTMAX_VJP:
        return bytes_of_columns(tag, lanes)
    return lanes // W * (sums * W * sizeof(Exact[real]) + sizeof(Row[real]) + W * (sizeof(int64_t) + sizeof(real)))


cdef inline void share_wide_columns(Operation operation, Problem& p, int threads) noexcept nogil:
    # Groups of one width, but for the last, and for the first where results begin at a line of the cache.
    cdef Py_ssize_t size = sizeof(real), W = lanes_of(tag), rest, groups
    p.wide = p.direct = True
    p.width = W
    p.tile_classes = TILE // W
    p.group = TILE
    if operation == SOFTMAX_VJP:
        p.group = (PLAIN_BYTES if p.n <= PLAIN else WIDE_BYTES) // size
        if W * size >= WIDE:
            p.group //= 4 if p.n <= PLAIN else 2
    p.group = min(p.group, PACKED_BYTES // threads * p.group // bytes_of_wide(operation, p, p.group))
    p.group = max(W, min(p.group, min(p.lanes, p.outer * p.lanes // threads)))
    if operation == SOFTMAX_VJP:
        p.head = lanes_before_line(operation, p, size)
    rest = p.lanes - p.head
    groups = (rest + p.group - 1) // p.group
    p.group = round_up((rest + groups - 1) // groups, LINE // size)
    p.packed = bytes_of_wide(operation, p, p.head + p.group + W) // size
    p.streamed = operation == SOFTMAX_VJP and p.group * size >= STREAMED_RUN and is_streamed(operation, p, size)


cdef inline void run_wide_columns(Scratch[real]& scratch, real* memory, Operation operation, const Problem& p,
                                  Py_ssize_t lane, Py_ssize_t lanes) noexcept nogil:
    cdef Py_ssize_t W = lanes_of(tag), size = sizeof(real), whole = lanes - lanes % W, vectors = whole // W
    cdef Exact[real]* sums = <Exact[real]*> memory
    cdef Row[real]* rows
    cdef int64_t* labels
    cdef Problem part
    if operation == SOFTMAX_VJP:
        multiply_columns(
            <const real*> (p.x.data + lane * p.x.lane_stride), p.x.class_stride // size,
            <const real*> (p.y.data + lane * p.y.lane_stride), p.y.class_stride // size,
            <real*> (p.out.data + lane * p.out.lane_stride), p.out.class_stride // size, p.n, lanes,
            p.streamed, memory)
        return
    part = p
    part.packed = 0
    scratch.packed = NULL
    scratch.lane_sums.sum = scratch.lane_sums.weight = scratch.lane_sums.spread = sums
    sums += W * vectors
    if sums_more(operation, p):
        scratch.lane_sums.weight, scratch.lane_sums.spread = sums, sums + W * vectors
        sums += 2 * W * vectors
    rows = <Row[real]*> sums
    labels = <int64_t*> (rows + vectors)
    part.width = whole
    run_rows(scratch, operation, part, lane, whole, rows, labels, <real*> (labels + whole))
    if whole < lanes:                         # less than a register, in tiles
        part.wide = part.direct = False
        part.width = W
        run_group(<real*> NULL, operation, part, lane + whole, lanes - whole)


cdef inline void sweep_wide_columns(Operation operation, Sweep sweep, const real* x, Py_ssize_t stride,
                                    Weights[real] w, real* e, real* out, Py_ssize_t out_stride, Py_ssize_t steps,
                                    bint kept, bint weighted, Order order, Row[real]* rows, Py_ssize_t vectors,
                                    const LaneSums[real]& lane_sums) noexcept nogil:
    cdef Py_ssize_t count = steps
    if sweep == ADD_UP and operation != LOGSUMEXP_AGAIN:
        add_classes(x, stride, e, out_stride, w, steps, operation != SOFTMAX, weighted, order, rows, vectors,
                    lane_sums)
        return
    if sweep == MAXIMUM:
        count = MAXIMA_AT_ONCE
    elif sweep == WRITE:
        count = WRITTEN_AT_ONCE
    while steps > 0:
        count = min(count, steps)
        sweep_registers(operation, sweep, x, x, stride, 0, w, e, out_stride, out, out_stride, count, kept, weighted,
                        order, rows, vectors, lane_sums, False, NULL)
        x += count * stride
        out += count * out_stride
        w.data += count * w.stride
        steps -= count
