# softmax.pxi - inner loops of softmax, log_softmax, logsumexp and the vector-Jacobian products.
#
# Operands are registers, `steps` of them `stride` entries apart, in a tile or in the caller's own
# memory. In column form each lane is a row of its own, in row form all lanes belong to one row. The
# registers that a sum is given are those of one of its lanes (summation.hpp).


cdef inline void add_entries(const real* grad, Py_ssize_t stride, Py_ssize_t steps,
                             Exact[real]* total) noexcept nogil:
    # total += grad_j
    cdef Vec[real] s, t
    cdef Py_ssize_t i = 0, end
    while i < steps:
        end = min(i + BLOCK, steps)
        s = t = broadcast(<real> 0)
        while i < end:
            s = s + load(grad + i * stride)
            if i + 1 < end:
                t = t + load(grad + (i + 1) * stride)
            i += 2
        total[0] = add_any(total[0], exact(s + t))


cdef inline void write_log_softmax_vjp(const real* log_y, Py_ssize_t stride, const real* grad,
                                       Py_ssize_t grad_stride, real* out, Py_ssize_t out_stride,
                                       Py_ssize_t steps, const Row[real]* row) noexcept nogil:
    # grad_j - exp(log_y_j) * sum(grad)
    cdef Vec[real] minus_total = broadcast(<real> 0) - row.factor
    cdef Py_ssize_t i
    for i in range(steps):
        store(out + i * out_stride,
              fma(vec_exp(load(log_y + i * stride)), minus_total, load(grad + i * grad_stride)))
