# direct_scores.pxi - scores of NumPy arrays that need no conversion; None for anything else.


cdef bint bind_scores(Problem* p, cnp.ndarray a, int along, double temperature,
                      cnp.ndarray first, const cnp.npy_intp* first_strides,
                      cnp.ndarray second, const cnp.npy_intp* second_strides,
                      View* first_view, View* second_view) noexcept:
    # Binds `a` and two arrays of its shape without the axis, given by their strides along that.
    cdef cnp.npy_intp reduced[2][MAX_DIMENSIONS]
    cdef const cnp.npy_intp* strides[3]
    cdef Layout layout
    cdef int ndim = cnp.PyArray_NDIM(a)
    cdef bint half = cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT16
    without_axis(reduced[0], first_strides, along, ndim, 0)
    without_axis(reduced[1], second_strides, along, ndim, 0)
    strides[0] = cnp.PyArray_STRIDES(a)
    strides[1] = reduced[0]
    strides[2] = reduced[1]
    if not lay_out(&layout, ndim, cnp.PyArray_DIMS(a), &along, 1, 3, strides):
        return False
    p.outer = layout.outer
    p.lanes = layout.lanes
    p.n = layout.n
    p.label = p.scale = NULL
    p.label_stride = p.scale_stride = p.label_kind = 0
    p.y = p.out = p.loss = view(NULL, 0, 0, False)
    lay(&p.x, a, &layout, 0, half)
    p.x.temperature = temperature
    lay(first_view, first, &layout, 1, False)
    lay(second_view, second, &layout, 2, False)
    return True


cpdef direct_gather(x, target, axis, temperature):
    """log_softmax(x / temperature) at the labels."""
    cdef double divisor = temperature_of(temperature)
    if not cnp.PyArray_CheckExact(x) or not cnp.PyArray_CheckExact(target):
        return None
    if label_kind(<cnp.ndarray> target) == 0 or not divides(divisor, loop_of(<cnp.ndarray> x)):
        return None
    return direct_cross_entropy(x, target, axis, None, None, None, 0.0, "none", False, None,
                                divisor, -1)


def direct_topk(x, k, axis, temperature):
    """(values, indices), contiguous, with the k of a row on the last axis; float16 gives float32."""
    cdef cnp.npy_intp shape[MAX_DIMENSIONS]
    cdef cnp.ndarray a, values, indices
    cdef double divisor = temperature_of(temperature)
    cdef Problem p
    cdef char dtype
    cdef int ndim, along, d
    if not cnp.PyArray_CheckExact(x) or not PyLong_CheckExact(axis) or not PyLong_CheckExact(k):
        return None
    a = <cnp.ndarray> x
    ndim = cnp.PyArray_NDIM(a)
    along = counted_axis(axis, ndim)
    dtype = loop_of(a)
    if dtype == 0 or along < 0 or cnp.PyArray_SIZE(a) == 0 or not divides(divisor, dtype):
        return None
    if not 1 <= k <= cnp.PyArray_DIMS(a)[along]:
        return None
    p.count = k
    for d in range(ndim - 1):
        shape[d] = cnp.PyArray_DIMS(a)[d if d < along else d + 1]
    shape[ndim - 1] = p.count
    values = cnp.PyArray_EMPTY(
        ndim, shape, cnp.NPY_FLOAT if dtype == b'e' else cnp.PyArray_TYPE(a), 0)
    indices = cnp.PyArray_EMPTY(ndim, shape, cnp.NPY_INT64, 0)
    if not bind_scores(&p, a, along, divisor, values, cnp.PyArray_STRIDES(values), indices,
                       cnp.PyArray_STRIDES(indices), &p.out, &p.loss):
        return None
    begin(TOPK, dtype, p, RELEASE_FROM)
    return values, indices


def direct_sample(x, cnp.ndarray uniforms not None, axis, temperature):
    """Classes for the contiguous uniforms (m, ...) of each row, in their memory, as int64.

    Whether each row has a distribution; where one has none, the classes are -1.
    """
    cdef cnp.ndarray a
    cdef double divisor = temperature_of(temperature)
    cdef Problem p
    cdef char dtype
    cdef int ndim, along, d
    cdef Py_ssize_t k
    cdef const int64_t* drawn
    if not cnp.PyArray_CheckExact(x) or not PyLong_CheckExact(axis):
        return None
    a = <cnp.ndarray> x
    ndim = cnp.PyArray_NDIM(a)
    along = counted_axis(axis, ndim)
    dtype = loop_of(a)
    if dtype == 0 or along < 0 or cnp.PyArray_SIZE(a) == 0 or not divides(divisor, dtype):
        return None
    if (not cnp.PyArray_IS_C_CONTIGUOUS(uniforms) or cnp.PyArray_TYPE(uniforms) != cnp.NPY_DOUBLE
            or cnp.PyArray_NDIM(uniforms) != ndim):
        return None
    for d in range(ndim - 1):
        if (cnp.PyArray_DIMS(uniforms)[d + 1]
                != cnp.PyArray_DIMS(a)[d if d < along else d + 1]):
            return None
    if not bind_scores(&p, a, along, divisor, uniforms, cnp.PyArray_STRIDES(uniforms) + 1, uniforms,
                       cnp.PyArray_STRIDES(uniforms) + 1, &p.y, &p.out):
        return None
    p.count = cnp.PyArray_DIMS(uniforms)[0]
    p.y.class_stride = p.out.class_stride = cnp.PyArray_STRIDES(uniforms)[0]
    begin(SAMPLE, dtype, p, RELEASE_FROM if p.count < RELEASE_FROM else 0)
    drawn = <const int64_t*> cnp.PyArray_DATA(uniforms)
    for k in range(cnp.PyArray_SIZE(uniforms)):
        if drawn[k] < 0:
            return False
    return True
