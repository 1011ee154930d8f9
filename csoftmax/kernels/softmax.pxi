# softmax.pxi - the inner loops of softmax, log_softmax, logsumexp and their vector-Jacobian products.
#
# x, y and the result are tiles; `steps` registers lie `stride` entries apart. In column form each
# lane is a row of its own, in row form all lanes belong to one row.


cdef inline void add_terms(real* x, Py_ssize_t steps, Py_ssize_t stride, Py_ssize_t mask,
                           Py_ssize_t j, bint keep, Row[real]* row) noexcept nogil:
    # e_j = exp(x_j - max) * peak; sum += e_j below the maximum; keep: x_j <- e_j
    cdef Anchor[real] anchor = row.anchor
    cdef Vec[real] x_j, e, s = row.sum.partial[0], ties = broadcast(<real> 0)
    cdef Py_ssize_t i
    if mask == 0:
        for i in range(steps):
            x_j = load(x + i * stride)
            e = term(x_j, anchor)
            if keep:
                store(x + i * stride, e)
            s = s + below(e, x_j, anchor)
            ties = ties + tie(x_j, anchor)
        row.sum.partial[0] = s
    else:
        for i in range(steps):
            x_j = load(x + i * stride)
            e = term(x_j, anchor)
            if keep:
                store(x + i * stride, e)
            row.sum.partial[(i + j) & mask] = row.sum.partial[(i + j) & mask] + below(e, x_j, anchor)
            ties = ties + tie(x_j, anchor)
    row.ties = row.ties + ties


cdef inline void write_softmax(real* x, Py_ssize_t steps, Py_ssize_t stride, bint kept,
                               const Row[real]* row) noexcept nogil:
    # e_j / sum(e); the tile holds e_j if it was kept, else x_j
    cdef Anchor[real] anchor = row.anchor
    cdef Vec[real] factor = row.factor
    cdef Py_ssize_t i
    if kept:
        for i in range(steps):
            store(x + i * stride, load(x + i * stride) * factor)
    else:
        for i in range(steps):
            store(x + i * stride, term(load(x + i * stride), anchor) * factor)


cdef inline void write_log_softmax(real* x, Py_ssize_t steps, Py_ssize_t stride,
                                   const Row[real]* row) noexcept nogil:
    # (x_j - max) - log(sum(exp(x - max)))
    cdef Vec[real] maximum = row.max, offset = row.offset
    cdef Py_ssize_t i
    for i in range(steps):
        store(x + i * stride, (load(x + i * stride) - maximum) - offset)


cdef inline void add_products(const real* y, const real* grad, Py_ssize_t steps, Py_ssize_t stride,
                              Py_ssize_t mask, Py_ssize_t j, Row[real]* row) noexcept nogil:
    # sum += y_j * grad_j
    cdef Py_ssize_t i
    for i in range(steps):
        row.sum.partial[(i + j) & mask] = fma(load(y + i * stride), load(grad + i * stride),
                                              row.sum.partial[(i + j) & mask])


cdef inline void write_softmax_vjp(real* y, const real* grad, Py_ssize_t steps, Py_ssize_t stride,
                                   const Row[real]* row) noexcept nogil:
    # y_j * (grad_j - sum(y * grad))
    cdef Vec[real] dot = row.factor
    cdef Py_ssize_t i
    for i in range(steps):
        store(y + i * stride, load(y + i * stride) * (load(grad + i * stride) - dot))


cdef inline void add_entries(const real* grad, Py_ssize_t steps, Py_ssize_t stride,
                             Py_ssize_t mask, Py_ssize_t j, Row[real]* row) noexcept nogil:
    # sum += grad_j
    cdef Py_ssize_t i
    for i in range(steps):
        row.sum.partial[(i + j) & mask] = row.sum.partial[(i + j) & mask] + load(grad + i * stride)


cdef inline void write_log_softmax_vjp(real* log_y, const real* grad, Py_ssize_t steps,
                                       Py_ssize_t stride, const Row[real]* row) noexcept nogil:
    # grad_j - exp(log_y_j) * sum(grad)
    cdef Vec[real] total = row.factor
    cdef Py_ssize_t i
    for i in range(steps):
        store(log_y + i * stride,
              load(grad + i * stride) - vec_exp(load(log_y + i * stride)) * total)
