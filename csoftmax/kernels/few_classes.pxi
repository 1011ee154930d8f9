# few_classes.pxi - groups of columns of few classes, which need no sweeps: all entries stay in registers
# (few_classes.hpp, few_losses.hpp).


cdef inline bint has_few_classes(Operation operation, const Problem& p) noexcept nogil:
    # Whether columns of so few classes are done without sweeps.
    return (2 <= p.n <= FEW_CLASSES and operation in
            (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX_VJP, CROSS_ENTROPY))


cdef inline const real* few_columns(real* tile, const View& view, bint direct, const Problem& p, Py_ssize_t lane,
                                    Py_ssize_t lanes, real fill, Py_ssize_t* stride) noexcept nogil:
    # Few classes of a group where they are, or loaded into the tile; `stride` entries apart.
    stride[0] = p.width
    if direct:
        stride[0] = view.class_stride // <Py_ssize_t> sizeof(real)
        return <const real*> (view.data + lane * view.lane_stride)
    load_tile(tile, view, lane, lanes, 0, p.n, p.width, fill)
    return tile


cdef inline void run_few_classes(Scratch[real]& scratch, Operation operation, const Problem& p,
                                 Py_ssize_t lane, Py_ssize_t lanes,
                                 Row[real]* rows) noexcept nogil:
    cdef real* tile = &scratch.tiles[0][0]
    cdef real* out = tile
    cdef Py_ssize_t v, W = lanes_of(tile), stride, grad_stride, out_stride = p.width
    cdef bint direct = p.direct and lanes == p.width
    cdef const real* x = few_columns(tile, p.x, direct, p, lane, lanes,
                                     <real> 0 if operation == SOFTMAX_VJP else -INFINITY, &stride)
    cdef const real* grad
    if direct and operation != LOGSUMEXP:
        out = <real*> (p.out.data + lane * p.out.lane_stride)
        out_stride = p.out.class_stride // <Py_ssize_t> sizeof(real)
    if operation == SOFTMAX_VJP:
        grad = few_columns(&scratch.tiles[1][0], p.y, direct, p, lane, lanes, <real> 0, &grad_stride)
        multiply_few_classes(p.n, x, stride, grad, grad_stride, out, out_stride, p.width // W)
    else:
        compute_few_classes(operation, p.n, x, stride, out, out_stride, rows, p.width // W)
    if operation == LOGSUMEXP:
        sum_some_again(x, stride, p.n, p.width // W, rows)
        for v in range(p.width // W):
            store(tile + v * W, rows[v].factor)
        store_tile(tile, p.out, lane, lanes, 0, 1, p.width, <real> 0)
    elif not direct:
        store_tile(tile, p.out, lane, lanes, 0, p.n, p.width,
                   <real> -INFINITY if operation == LOG_SOFTMAX else <real> 0)


cdef inline void run_few_losses(Scratch[real]& scratch, const Problem& p, Py_ssize_t lane,
                                Py_ssize_t lanes) noexcept nogil:
    cdef Samples[real] samples
    cdef int64_t labels[MAX_LANES]
    cdef real* tile = &scratch.tiles[0][0]
    cdef Weights[real] w
    cdef real* out = NULL
    cdef Py_ssize_t W = lanes_of(tile), stride, out_stride = p.width
    cdef bint direct = p.direct and lanes == p.width, ignored
    cdef const real* x = few_columns(tile, p.x, direct, p, lane, lanes, -INFINITY, &stride)
    ignored = read_samples(samples, labels, p, lane, lanes)
    w.data, w.stride, w.common = x, 0, False
    if has_weights(p):
        w = weights_of_classes(&scratch.tiles[1][0], False, p, lane, lanes, 0, p.n)
    if p.out.data != NULL:
        out = tile
        if direct:
            out = <real*> (p.out.data + lane * p.out.lane_stride)
            out_stride = p.out.class_stride // <Py_ssize_t> sizeof(real)
    find_losses_of_few_classes(p.n, x, stride, w, has_weights(p), out, out_stride, samples,
                               p.width // W)
    write_losses(samples.loss, labels, ignored, p, lane, lanes)
    if out == tile:
        store_tile(tile, p.out, lane, lanes, 0, p.n, p.width, <real> 0)
