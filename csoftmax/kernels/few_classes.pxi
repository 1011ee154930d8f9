# few_classes.pxi - groups of columns of few classes, which need no sweeps: all entries stay in registers
# (few_classes.hpp, few_losses.hpp).

cdef enum:
    NEXT_COLUMNS = 1024    # bytes to the lines of a result in columns that are asked for


cdef inline bint has_few_classes(Operation operation, const Problem& p) noexcept nogil:
    # Whether columns of so few classes are done without sweeps.
    return (2 <= p.n <= FEW_CLASSES and operation in
            (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX_VJP, CROSS_ENTROPY))


cdef inline void run_few(Scratch[real]& scratch, Operation operation, const Problem& p, Py_ssize_t lane,
                         Py_ssize_t lanes, Row[real]* rows) noexcept nogil:
    # Whole registers of rows, where they are if they can be, as many at a time as there is room for; then the rest.
    cdef Py_ssize_t W = lanes_of(tag), end = lane + lanes - lanes % W
    cdef Py_ssize_t room = min(MAX_VECTORS * W, <Py_ssize_t> MAX_LANES)
    if operation in (SOFTMAX, LOG_SOFTMAX) and lie_dense(tag, p.x, p.n) and lie_dense(tag, p.out, p.n):
        room = lanes                          # that needs none
    lanes %= W
    while lane < end:
        room = min(room, end - lane)
        run_few_columns(scratch, operation, p, lane, room, room, rows)
        lane += room
    if lanes > 0:
        run_few_columns(scratch, operation, p, lane, lanes, W, rows)


cdef inline void run_few_columns(Scratch[real]& scratch, Operation operation, const Problem& p, Py_ssize_t lane,
                                 Py_ssize_t lanes, Py_ssize_t width, Row[real]* rows) noexcept nogil:
    if operation == CROSS_ENTROPY:
        run_few_losses(scratch, p, lane, lanes, width)
    else:
        run_few_classes(scratch, operation, p, lane, lanes, width, rows)


cdef inline Columns[real] few_columns(real* tile, const View& view, const Problem& p, Py_ssize_t lane,
                                      Py_ssize_t lanes, Py_ssize_t width) noexcept nogil:
    # Few classes of a group where they are, if these are whole registers, or in the tile.
    cdef Columns[real] columns
    cdef char* data = view.data + lane * view.lane_stride
    columns.data, columns.stride, columns.ahead = tile, width, 0
    columns.dense = lanes > 1 and lie_dense(tile, view, p.n)    # one row is spread to all lanes
    if lanes == width and (columns.dense or (p.direct and lies_directly(view, sizeof(real), True))):
        columns.data = <real*> data
        if columns.dense:
            columns.ahead = ahead_of(view, data + lanes * view.lane_stride, NEXT)
        else:
            columns.stride, columns.ahead = view.class_stride // <Py_ssize_t> sizeof(real), NEXT_COLUMNS
    return columns


cdef inline Columns[real] load_few_columns(real* tile, const View& view, const Problem& p, Py_ssize_t lane,
                                           Py_ssize_t lanes, Py_ssize_t width, real fill) noexcept nogil:
    cdef Columns[real] columns = few_columns(tile, view, p, lane, lanes, width)
    if columns.data == tile and columns.dense:
        copy_and_fill(tile, view.data + lane * view.lane_stride, lanes * p.n, width * p.n, fill)
    elif columns.data == tile:
        load_tile(tile, view, lane, lanes, 0, p.n, width, fill)
    return columns


cdef inline void store_few_columns(const Columns[real]& columns, const real* tile, const Problem& p,
                                   Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t width, real fill) noexcept nogil:
    # What is in the tile, if it is there.
    if columns.data == tile and columns.dense:
        memcpy(p.out.data + lane * p.out.lane_stride, tile, lanes * p.n * sizeof(real))
    elif columns.data == tile:
        store_tile(tile, p.out, lane, lanes, 0, p.n, width, fill)


cdef inline void run_few_classes(Scratch[real]& scratch, Operation operation, const Problem& p,
                                 Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t width,
                                 Row[real]* rows) noexcept nogil:
    cdef real* tile = &scratch.tiles[0][0]
    cdef Py_ssize_t v, W = lanes_of(tile)
    cdef Columns[real] x = load_few_columns(tile, p.x, p, lane, lanes, width,
                                            <real> 0 if operation == SOFTMAX_VJP else -INFINITY)
    cdef Columns[real] grad, out
    if operation == LOGSUMEXP:
        compute_few_classes(operation, p.n, x, x, rows, width // W)
        for v in range(width // W):
            store(tile + v * W, rows[v].factor)
        store_tile(tile, p.out, lane, lanes, 0, 1, width, <real> 0)
        return
    out = few_columns(tile, p.out, p, lane, lanes, width)
    if operation == SOFTMAX_VJP:
        grad = load_few_columns(&scratch.tiles[1][0], p.y, p, lane, lanes, width, <real> 0)
        multiply_few_classes(p.n, x, grad, out, width // W)
    else:
        compute_few_classes(operation, p.n, x, out, rows, width // W)
    store_few_columns(out, tile, p, lane, lanes, width,
                      <real> -INFINITY if operation == LOG_SOFTMAX else <real> 0)


cdef inline void run_few_losses(Scratch[real]& scratch, const Problem& p, Py_ssize_t lane,
                                Py_ssize_t lanes, Py_ssize_t width) noexcept nogil:
    cdef Samples[real] samples
    cdef int64_t labels[MAX_LANES]
    cdef real numbers[MAX_LANES]
    cdef real* tile = &scratch.tiles[0][0]
    cdef Py_ssize_t W = lanes_of(tile)
    cdef Columns[real] x = load_few_columns(tile, p.x, p, lane, lanes, width, -INFINITY)
    cdef Columns[real] w = x, out
    cdef Weights[real] weights
    cdef bint ignored = read_few_labels(numbers, labels, p, lane, lanes, width)
    read_samples(samples, labels, ignored, p, lane, lanes, width)
    if has_weights(p):
        if p.label == NULL and weighing_of(tile, p) == BY_TARGET:
            w = load_few_columns(&scratch.tiles[1][0], p.y, p, lane, lanes, width, <real> 0)
        else:
            weights = weights_of_classes(&scratch.tiles[1][0], False, p, lane, lanes, width, 0, p.n)
            w.data, w.stride, w.dense = <real*> weights.data, weights.stride, False
    out.data = NULL
    if p.out.data != NULL:
        out = few_columns(tile, p.out, p, lane, lanes, width)
    find_losses_of_few_classes(p.n, x, w, has_weights(p), p.label != NULL, out, &numbers[0], samples, width // W)
    write_losses(samples.loss, labels, ignored, p, lane, lanes)
    store_few_columns(out, tile, p, lane, lanes, width, <real> 0)
