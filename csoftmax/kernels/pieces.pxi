# pieces.pxi - cross-entropy of logits that are made, and used up, piece by piece; for linear.py.
#
# The sweeps of sweeps.pxi, with the classes outermost: while a piece of them is in the cache, its
# maxima and then its sums, which raise_anchor() joins to those before. After the last piece the
# losses; then the gradient, a piece at a time, with the terms found once more. In between, the Row
# of each register of samples is kept, and the gradient at each label.

cdef enum:
    STRIPE = 256      # classes that are written together


cdef Py_ssize_t bytes_of_rows(Py_ssize_t lanes) noexcept nogil:
    cdef Py_ssize_t W = lanes_of(tag), vectors = (lanes + W - 1) // W
    return vectors * (sizeof(Row[real]) + W * sizeof(real)) + LINE


cdef void take_step(char* memory, Step step, Problem& p, Py_ssize_t first, Py_ssize_t last,
                    int threads) noexcept nogil:
    # Over all groups of samples, as many for each thread; to write, over all stripes of the classes
    # and in each over all groups: then a thread has the classes that it has in the products.
    cdef Py_ssize_t W = lanes_of(tag), vectors = (p.lanes + W - 1) // W, group, groups, g, i
    cdef Py_ssize_t stripe = STRIPE if step == WRITE_PIECE else max(<Py_ssize_t> 1, last - first)
    cdef Py_ssize_t visits, j
    cdef Row[real]* rows = <Row[real]*> aligned(memory)
    cdef real* at_label = <real*> (rows + vectors)
    threads = <int> min(<Py_ssize_t> threads, p.lanes * (last - first) // SHARE + 1)
    if step == START_ROWS:
        for g in range(vectors):
            start_pieces(rows[g], order_of(tag, W == 1, p.n, False), True)
            store(at_label + g * W, broadcast(<real> 0))
        return
    group = min(<Py_ssize_t> MAX_VECTORS, max(<Py_ssize_t> 1, TILE // (W * W * BLOCK)))
    group = 1 if W == 1 else min(group, <Py_ssize_t> MAX_LANES // W)
    groups = ((vectors + group - 1) // group + threads - 1) // threads * threads
    group = (vectors + groups - 1) // groups
    groups = (vectors + group - 1) // group
    p.group = group * W
    p.tile_classes = CHUNK
    while p.tile_classes * p.group > TILE:
        p.tile_classes //= 2
    p.direct = W > 1 and is_direct(CROSS_ENTROPY, p, sizeof(real), True)
    visits = groups * max(<Py_ssize_t> 1, (last - first + stripe - 1) // stripe)
    if threads == 1:                          # no parallel region: this may be a forked child
        for i in range(visits):
            g = i % groups
            j = first + i // groups * stripe
            take_step_of_group(rows + g * group, at_label + g * p.group, step, p, g * p.group, j,
                               min(j + stripe, last))
    else:
        for i in prange(visits, num_threads=threads, schedule="static"):
            g = i % groups
            j = first + i // groups * stripe
            take_step_of_group(rows + g * group, at_label + g * p.group, step, p, g * p.group, j,
                               min(j + stripe, last))


cdef void take_step_of_group(Row[real]* rows, real* at_label, Step step, const Problem& whole,
                             Py_ssize_t lane, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Scratch[real] scratch
    cdef int64_t labels[MAX_LANES]
    cdef Problem p = whole
    cdef Py_ssize_t W = lanes_of(at_label), lanes = min(p.group, p.lanes - lane), v
    p.width = (lanes + W - 1) // W * W
    if step == ADD_PIECE:
        sweep_classes(scratch, CROSS_ENTROPY, MAXIMUM, p, lane, lanes, first, last, rows)
        for v in range(p.width // W):
            raise_anchor(rows[v], W == 1, has_weights(p))
        sweep_classes(scratch, CROSS_ENTROPY, ADD_UP, p, lane, lanes, first, last, rows)
        return
    if p.label != NULL:
        read_labels(p, lane, lanes, labels)
    if step == FIND_LOSSES:
        if p.label != NULL:
            logits_at_labels(at_label, labels, False, p, lane, lanes)
        find_losses_of_group(at_label, labels, False, p, lane, lanes, rows)
        return
    sweep_classes(scratch, CROSS_ENTROPY, WRITE, p, lane, lanes, first, last, rows)
    if p.label != NULL:
        write_at_labels(at_label, labels, False, p, lane, lanes, first, last)
