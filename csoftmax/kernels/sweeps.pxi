# sweeps.pxi - how the classes of a group of rows are swept.
#
# Every kernel is three sweeps over the classes of a group (groups.pxi), chunk by chunk:
#     MAXIMUM   the largest entry                       x -> row.max
#     ADD_UP    what is summed along the classes        x, y, row.anchor -> row.sum, ...
#     WRITE     the result                              x, y, row.factor, row.offset -> out
# Contiguous rows, and columns of few classes, are worked on where they are ("direct"); anything
# else goes through a dense tile, and a group that fits one tile is loaded once. Where a row has several
# chunks, long_rows.pxi joins the first two sweeps.

cdef enum:
    MAX_VECTORS = 16
    TILE = 4096            # entries of a tile; Scratch in tile.hpp
    STRIP = 512             # registers of a row between terms and their sum: they stay in L1


cdef inline Order order_for(Operation operation, const Problem& p) noexcept nogil:
    return order_of(tag, p.width == 1, p.n, operation == SOFTMAX_VJP)


cdef inline bint keeps_terms(Operation operation) noexcept nogil:
    return operation == SOFTMAX or operation == CROSS_ENTROPY


cdef inline Py_ssize_t tiles_of(Operation operation, const Problem& p) noexcept nogil:
    # How many operands a group keeps from one sweep to the next.
    # Weights that go with labels are common to all rows.
    return 2 if takes_pair(operation) or (operation == CROSS_ENTROPY and p.label == NULL) else 1


cdef inline Py_ssize_t vectors_of(const Problem& p, Py_ssize_t lanes) noexcept nogil:
    # How many registers of rows a group has.
    cdef Py_ssize_t W = lanes_of(tag)
    return (lanes + W - 1) // W if p.width == 1 else p.width // W


cdef inline bint sums_more(Operation operation, const Problem& p) noexcept nogil:
    # Whether there are further sums beside that of the terms.
    return operation == ENTROPY or (operation == CROSS_ENTROPY and has_weights(p))


cdef inline void add_up(Operation operation, const real* x, const real* y, Py_ssize_t stride,
                        Py_ssize_t y_stride, Weights[real] w, real* e, Py_ssize_t e_stride,
                        Py_ssize_t steps, bint weighted, Order order, Row[real]* rows,
                        Py_ssize_t vectors, const LaneSums[real]& lane_sums, Outgoing* outgoing) noexcept nogil:
    # `steps` registers of classes of `vectors` registers of rows. The terms go to e, strip by strip, if anything
    # reads them there.
    cdef Py_ssize_t W = lanes_of(x), first = 0, count, done, v
    cdef Py_ssize_t strip = STRIP if order.fold else steps
    while first < steps:
        count = min(strip, steps - first)
        if operation == CROSS_ENTROPY and weighted:
            add_weights(x, stride, w, count, order, rows, vectors, lane_sums)
            w.data += count * w.stride
        if not takes_pair(operation) and operation != LOGSUMEXP_AGAIN:
            done = 0
            if order.fold:
                find_row_terms(x, e, count, rows)
            else:
                if operation != SOFTMAX:
                    done = add_blocks_of_columns(
                        x, stride, e if keeps_terms(operation) or operation == ENTROPY else NULL, e_stride, count,
                        order, rows, vectors, lane_sums.sum, outgoing)
                find_terms(x + done * stride, stride, e + done * e_stride, e_stride, count - done, rows, vectors,
                           outgoing)
            add_terms(e + done * e_stride, e_stride, count - done, operation != SOFTMAX, order, rows, vectors,
                      lane_sums.sum)
            if operation == ENTROPY:
                add_entropy(x, stride, e, e_stride, count, order, rows, vectors, lane_sums)
        elif operation == SOFTMAX_VJP:
            add_products(x, stride, y, y_stride, count, order, vectors, lane_sums.sum)
        else:
            for v in range(vectors):
                add_lanes(operation, x + v * W, y + v * W, stride, y_stride, count, order, rows + v, vectors,
                          lane_sums.sum + v)
        x += count * stride
        y += count * y_stride
        e += count * e_stride
        first += count


cdef inline void add_lanes(Operation operation, const real* x, const real* y, Py_ssize_t stride,
                           Py_ssize_t y_stride, Py_ssize_t steps, Order order,
                           const Row[real]* row, Py_ssize_t vectors, Exact[real]* sums) noexcept nogil:
    # One register of rows, each lane of its sums on its own; but no terms.
    cdef Py_ssize_t registers = order.registers, i, count
    for i in range(min(registers, steps)):
        count = (steps - i + registers - 1) // registers
        if operation == LOG_SOFTMAX_VJP:
            add_entries(y, y_stride * registers, count, sums)
        elif operation == CCE:
            add_cce(x, stride * registers, y, y_stride * registers, count, sums)
        else:
            add_exact_terms(x, stride * registers, count, row, sums)
        sums += vectors
        x += stride
        y += y_stride


cdef inline void write_result(Operation operation, const real* x, const real* y, Py_ssize_t stride,
                              Py_ssize_t y_stride, real* out, Py_ssize_t out_stride,
                              Py_ssize_t steps, const Row[real]* row) noexcept nogil:
    if operation == LOG_SOFTMAX_VJP:
        write_log_softmax_vjp(x, stride, y, y_stride, out, out_stride, steps, row)
    elif operation == CCE_GRADIENT:
        write_cce_gradient(x, stride, y, y_stride, out, out_stride, steps)


cdef inline void visit_directly(Scratch[real]& scratch, Operation operation, Sweep sweep, const Problem& p,
                                Py_ssize_t lane, Py_ssize_t j0, Py_ssize_t j1,
                                Row[real]* rows) noexcept nogil:
    # The classes j0 <= j < j1 of a group of columns, in the operands' own memory. The terms are kept
    # where the result goes, or put into the tile e and forgotten; target weights are made in the
    # tile y.
    cdef bint weighted = operation == CROSS_ENTROPY and has_weights(p)
    cdef bint keep = keeps_terms(operation) and not p.piecewise
    cdef real* e = &scratch.tiles[0][0]
    cdef real* y = &scratch.tiles[1][0]
    cdef Py_ssize_t W = lanes_of(y), size = sizeof(real)
    cdef const real* x = <const real*> (p.x.data + lane * p.x.lane_stride + j0 * p.x.class_stride)
    cdef const real* second = y
    cdef Weights[real] w
    cdef real* out = NULL
    w.data, w.stride, w.common = y, 0, False
    if operation == TOPK and sweep == WRITE:
        select_top(x, p.x.class_stride // size, p, lane, p.width, j0, j1)
        return
    if p.out.data != NULL and writes_rows(operation):
        out = <real*> (p.out.data + lane * p.out.lane_stride + j0 * p.out.class_stride)
        if keep:
            e = out
    if p.wide and e != out:
        e = NULL
    if takes_pair(operation):
        second = <const real*> (p.y.data + lane * p.y.lane_stride + j0 * p.y.class_stride)
    elif weighted and sweep != MAXIMUM:
        w = weights_of_classes(y, False, p, lane, p.width, p.width, j0, j1)
    if sweep == WRITE and keep:
        x = out
    if p.wide:
        sweep_wide_columns(
            operation, sweep, x, (p.out if sweep == WRITE and keep else p.x).class_stride // size, w, e, out,
            p.out.class_stride // size, j1 - j0, keep, weighted, order_for(operation, p), rows, p.width // W,
            scratch.lane_sums)
        return
    sweep_registers(
        operation, sweep, x, second,
        (p.out if sweep == WRITE and keep else p.x).class_stride // size,
        p.y.class_stride // size if takes_pair(operation) else 0, w,
        e, p.out.class_stride // size if e == out else p.width,
        out, p.out.class_stride // size, j1 - j0, keep, weighted, order_for(operation, p),
        rows, p.width // W, scratch.lane_sums, p.streamed, p.outgoing)


cdef inline void sweep_registers(Operation operation, Sweep sweep, const real* x, const real* y,
                                 Py_ssize_t stride, Py_ssize_t y_stride, const Weights[real]& w,
                                 real* e, Py_ssize_t e_stride, real* out, Py_ssize_t out_stride,
                                 Py_ssize_t steps, bint kept, bint weighted, Order order,
                                 Row[real]* rows, Py_ssize_t vectors, const LaneSums[real]& lane_sums, bint streamed,
                                 Outgoing* outgoing) noexcept nogil:
    cdef Py_ssize_t W = lanes_of(x), v
    streamed = streamed and <Py_ssize_t> out % LINE == 0
    if sweep == ADD_UP:
        add_up(operation, x, y, stride, y_stride, w, e, e_stride, steps, weighted, order, rows,
               vectors, lane_sums, outgoing)
    elif sweep == MAXIMUM:
        find_maxima(x, stride, steps, rows, vectors)
    elif operation == SOFTMAX:
        divide_terms(x, stride, out, out_stride, steps, kept, rows, vectors, streamed)
    elif operation == LOG_SOFTMAX:
        write_log_softmax(x, stride, out, out_stride, steps, rows, vectors, streamed)
    elif operation == SOFTMAX_VJP:
        write_products(x, stride, y, y_stride, out, out_stride, steps, rows, vectors, streamed)
    elif operation == CROSS_ENTROPY:
        write_gradients(x, stride, w, out, out_stride, steps, kept, weighted, rows, vectors, streamed)
    else:
        for v in range(vectors):
            write_result(operation, x + v * W, y + v * W, stride, y_stride, out + v * W,
                         out_stride, steps, rows + v)


cdef inline bint writes_columns(Operation operation, const Problem& p, Py_ssize_t size) noexcept nogil:
    # Whether results of a tile go to memory without being put back into it.
    return (operation in (SOFTMAX, LOG_SOFTMAX, SOFTMAX_VJP, CROSS_ENTROPY)
            and plain(p.out, p.out.lane_stride, size) and p.out.class_stride % size == 0)


cdef inline void visit_tile(real* x, real* y, bint loaded, Operation operation, Sweep sweep,
                            const Problem& p, Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t j0,
                            Py_ssize_t j1, Row[real]* rows, const LaneSums[real]& lane_sums) noexcept nogil:
    # The classes j0 <= j < j1 of one group, by way of the tiles x and y; `loaded`: they hold what
    # the sweep before left there.
    cdef bint fold = p.width == 1
    cdef bint pair = takes_pair(operation)
    cdef bint weighted = operation == CROSS_ENTROPY and has_weights(p)
    cdef Order order = order_for(operation, p)
    cdef Py_ssize_t W = lanes_of(x)
    cdef Py_ssize_t vectors = 1 if fold else p.width // W
    cdef Py_ssize_t stride = W * vectors
    cdef Py_ssize_t steps = (j1 - j0 + W - 1) // W if fold else j1 - j0
    cdef real fill = 0 if pair else -INFINITY
    cdef bint keep = loaded and keeps_terms(operation)
    cdef bint stored = True
    cdef Weights[real] w
    cdef real* out = x
    cdef Py_ssize_t out_stride = stride

    w.data, w.stride, w.common = y, 0, False
    if not loaded:
        load_tile(x, p.x, lane, lanes, j0, j1, p.width, fill)
    if operation == TOPK and sweep == WRITE:
        select_top(x, p.width, p, lane, lanes, j0, j1)
        return
    if sweep != MAXIMUM and pair and (sweep == ADD_UP or not loaded):
        load_tile(y, p.y, lane, lanes, j0, j1, p.width, <real> 0)
    elif sweep != MAXIMUM and weighted:
        w = weights_of_classes(y, sweep == WRITE and loaded, p, lane, lanes, p.width, j0, j1)

    if sweep == WRITE and not fold and lanes == p.width and writes_columns(operation, p, sizeof(real)):
        out = <real*> (p.out.data + lane * p.out.lane_stride + j0 * p.out.class_stride)
        out_stride = p.out.class_stride // <Py_ssize_t> sizeof(real)
        stored = False
    sweep_registers(operation, sweep, x, y, stride, stride, w, x if keeps_terms(operation) else y,
                    stride, out, out_stride, steps, keep, weighted, order, rows, vectors, lane_sums,
                    p.streamed and not stored, p.outgoing)
    if sweep == WRITE and stored:
        store_tile(x, p.out, lane, lanes, j0, j1, p.width,
                   <real> -INFINITY if operation == LOG_SOFTMAX else <real> 0)


cdef inline void visit(Scratch[real]& scratch, Operation operation, Sweep sweep, const Problem& p,
                       Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t j0, Py_ssize_t j1,
                       Row[real]* rows, bint swept_before) noexcept nogil:
    # One sweep over the classes j0 <= j < j1 of one group, or of one row in row form. `swept_before`:
    # by the same hands, so that tiles are kept.
    cdef bint fold = p.width == 1
    cdef real* x = &scratch.tiles[0][0]
    cdef real* y = &scratch.tiles[1][0]
    cdef bint loaded = swept_before and p.n <= p.tile_classes, weighted = sums_more(operation, p)
    cdef Py_ssize_t vectors = 1 if fold else p.width // lanes_of(x)
    cdef Order order = order_for(operation, p)
    if sweep == ADD_UP and j0 % CHUNK == 0:
        begin_chunk(scratch.lane_sums, order, weighted, vectors)
    if p.direct and lanes == p.width:
        visit_directly(scratch, operation, sweep, p, lane, j0, j1, rows)
    else:
        if scratch.packed != NULL:
            x = scratch.packed + j0 * p.width
            loaded = swept_before
            if tiles_of(operation, p) == 2:
                y = scratch.packed + (p.n + j0) * p.width
        visit_tile(x, y, loaded, operation, sweep, p, lane, lanes, j0, j1, rows, scratch.lane_sums)
    if sweep == ADD_UP and (j1 % CHUNK == 0 or j1 == p.n):
        end_chunk(scratch.lane_sums, order, weighted, not fold and p.label != NULL, rows, vectors)


cdef inline void sweep_group(Scratch[real]& scratch, Operation operation, Sweep sweep,
                             const Problem& p, Py_ssize_t lane, Py_ssize_t lanes,
                             Row[real]* rows) noexcept nogil:
    # One sweep over the whole group.
    cdef bint weighted = sums_more(operation, p)
    cdef Order order = order_for(operation, p)
    cdef Row[real] row
    cdef Row[real]* whole
    cdef Py_ssize_t i, j, W = lanes_of(tag)
    cdef real* terms
    cdef int at, powers
    if p.width > 1:
        sweep_classes(scratch, operation, sweep, p, lane, lanes, 0, p.n, rows)
        if sweep == WRITE and p.streamed:
            end_stream()
        return
    if p.direct and p.row_threads == 1:
        j = 0                                 # several chunks are those of a single row
        while j < p.n:
            terms = place_of_terms(scratch, operation, p, lane, j)
            powers = 0
            if p.packed > 0 and terms != NULL:
                powers = powers_of_chunk(scratch.packed[j // CHUNK], rows[0])
                if powers < 0:
                    terms = NULL
            sweep_rows(operation, sweep, p, lane, lanes, j, min(j + CHUNK, p.n), terms, powers, rows)
            j += CHUNK
        return
    for i in range(lanes):
        whole = rows + i // W
        at = <int> (i % W)
        if sweep == MAXIMUM:
            start(row, order, False)
        elif sweep == ADD_UP:
            spread_anchor(whole[0], at, order, weighted, row)
        else:
            spread_result(whole[0], at, row)
        if p.row_threads > 1:
            sweep_long_row(scratch, operation, sweep, p, lane + i, &row)
        else:
            sweep_classes(scratch, operation, sweep, p, lane + i, 1, 0, p.n, &row)
        if sweep == MAXIMUM:
            gather_maximum(whole[0], at, row)
        elif sweep == ADD_UP:
            gather_sums(whole[0], at, weighted, row)


cdef inline void sweep_classes(Scratch[real]& scratch, Operation operation, Sweep sweep,
                               const Problem& p, Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t j,
                               Py_ssize_t end, Row[real]* rows) noexcept nogil:
    # Over the classes from j on.
    cdef bint swept_before = sweep != MAXIMUM and not (sweep == ADD_UP and takes_pair(operation))
    while True:  # once for n = 0
        visit(scratch, operation, sweep, p, lane, lanes, j, min(j + p.tile_classes, end), rows,
              swept_before and not p.piecewise)
        j += p.tile_classes
        if j >= end:
            return
