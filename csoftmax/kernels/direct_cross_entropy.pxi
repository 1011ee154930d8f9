# direct_cross_entropy.pxi - cross-entropy of NumPy arrays that need no conversion.
#
# Labels are checked and counted in one pass, in their own dtype. Losses that are summed go through a
# buffer of LOSSES rows: nothing of the number of samples is allocated.
from libc.stdlib cimport free
from libcpp cimport bool as cpp_bool

cdef enum:
    LOSSES = 65536

cdef enum Reduction:
    MEAN
    SUM
    NONE


cdef inline char label_kind(cnp.ndarray a) noexcept:
    # As read_label() knows it: bytes of the integers, negative if unsigned; 0 for anything else.
    cdef int number = cnp.PyArray_TYPE(a)
    if not cnp.PyArray_ISNOTSWAPPED(a):
        return 0
    if cnp.PyTypeNum_ISUNSIGNED(number):
        return <char> -cnp.PyArray_ITEMSIZE(a)
    return <char> cnp.PyArray_ITEMSIZE(a) if cnp.PyTypeNum_ISSIGNED(number) else 0


cdef long double sum_of_losses(char* losses, char dtype, Problem& p, Py_ssize_t block) noexcept nogil:
    # `losses` has room for `block` rows.
    cdef LongSum[longdouble] total
    cdef const Kernels* kernels = kernels_of(dtype)
    cdef Py_ssize_t outer, lane
    cdef Problem q
    p.loss = view(losses, kernels.size, 0, False)
    if p.outer == 1 and p.lanes <= block:     # without copies, which take longer than a few rows
        begin(CROSS_ENTROPY, dtype, p, RELEASE_FROM)
        kernels.add_to_sum(total, losses, p.lanes)
        return total.value()
    for outer in range(p.outer):
        lane = 0
        while lane < p.lanes:
            q = part(p, outer, lane, min(block, p.lanes - lane))
            begin(CROSS_ENTROPY, dtype, q, RELEASE_FROM)
            kernels.add_to_sum(total, losses, q.lanes)
            lane += block
    return total.value()


cdef long double sum_at_labels(const Problem& p, char dtype, bint weighted, bint ignores,
                               cpp_bool* bad) noexcept nogil:
    # Checks all labels; the sum of the weights of the samples that count, or their number.
    cdef const Kernels* kernels = kernels_of(dtype)
    cdef long double total = 0
    cdef Py_ssize_t outer
    if p.outer == 1:
        return kernels.sum_weights(p, weighted, ignores, bad[0])
    for outer in range(p.outer):
        total += kernels.sum_weights(matrix(p, outer), weighted, ignores, bad[0])
    return total


cpdef direct_cross_entropy(x, target, axis, class_weight, sample_weight, ignore_index, smoothing,
                           reduction, bint gradient, out, double temperature=1, double factor=1):
    """loss, or (loss, gradient); None where the arguments are not as simple as they could be.

    The loss of logits / temperature, times the factor.
    """
    cdef cnp.npy_intp reduced[4][MAX_DIMENSIONS]
    cdef const cnp.npy_intp* strides[5]
    cdef cnp.npy_intp* shape
    cdef Layout layout
    cdef Problem p
    cdef cnp.ndarray a, t, result = None, loss = None, weights = None, samples = None
    cdef char dtype
    cdef int ndim, along, d
    cdef bint labels
    cdef cpp_bool bad = False
    cdef Reduction reduced_by
    cdef long double total, count
    cdef double no_weight = 1
    cdef long double few[64]
    cdef char* losses = <char*> few
    cdef Py_ssize_t block
    if (not cnp.PyArray_CheckExact(x) or not cnp.PyArray_CheckExact(target)
            or not PyLong_CheckExact(axis) or not PyFloat_CheckExact(smoothing) or type(reduction) is not str):
        return None
    a = <cnp.ndarray> x
    t = <cnp.ndarray> target
    ndim = cnp.PyArray_NDIM(a)
    shape = cnp.PyArray_DIMS(a)
    dtype = loop_of(a)
    along = counted_axis(axis, ndim)
    if dtype == 0 or along < 0 or cnp.PyArray_SIZE(a) == 0 or not 0 <= <double> smoothing <= 1:
        return None
    if reduction == "mean":
        reduced_by = MEAN
    elif reduction == "sum":
        reduced_by = SUM
    elif reduction == "none":
        reduced_by = NONE
    else:
        return None
    labels = label_kind(t) != 0
    if labels:
        if not fits_reduced(t, ndim, shape, along):
            return None
    elif loop_of(t) != dtype or not same_shape(a, t) or ignore_index is not None:
        return None

    p.n = shape[along]
    p.smoothing = smoothing
    p.ignore_index = -1                 # none: labels are checked
    if ignore_index is not None:
        if not PyLong_CheckExact(ignore_index):
            return None
        try:
            p.ignore_index = ignore_index
        except OverflowError:
            return None
    p.class_weight = view(<char*> kernels_of(dtype).one, 0, 0, False)
    if class_weight is not None:
        if not cnp.PyArray_CheckExact(class_weight):
            return None
        weights = <cnp.ndarray> class_weight
        if cnp.PyArray_NDIM(weights) != 1 or cnp.PyArray_DIMS(weights)[0] != p.n:
            return None
        if loop_of(weights) not in (b'f', b'd', b'g'):
            return None
        if loop_of(weights) != (b'f' if dtype == b'e' else dtype):
            weights = cnp.PyArray_Cast(weights, cnp.NPY_FLOAT if dtype == b'e' else
                                       cnp.PyArray_TYPE(a))
        p.class_weight = view(cnp.PyArray_BYTES(weights), 0, cnp.PyArray_STRIDES(weights)[0], False)

    if sample_weight is not None:
        if not cnp.PyArray_CheckExact(sample_weight):
            return None
        samples = <cnp.ndarray> sample_weight
        if loop_of(samples) not in (b'f', b'd', b'g') or not fits_reduced(samples, ndim, shape, along):
            return None

    if gradient:
        if out is not None:
            if not cnp.PyArray_CheckExact(out):
                return None
            result = <cnp.ndarray> out
            if (loop_of(result) != dtype or not cnp.PyArray_ISWRITEABLE(result)
                    or not distinct(result) or not same_shape(a, result)
                    or not may_write(result, a, True) or not may_write(result, t, not labels)
                    or (weights is not None and not may_write(result, weights, False))
                    or (samples is not None and not may_write(result, samples, False))):
                return None
        elif cnp.PyArray_IS_C_CONTIGUOUS(a):
            result = cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(a), 0)
        else:
            result = empty_like(a)
    if reduced_by == NONE:
        for d in range(ndim - 1):
            reduced[0][d] = shape[d] if d < along else shape[d + 1]
        loss = cnp.PyArray_EMPTY(ndim - 1, reduced[0], cnp.PyArray_TYPE(a), 0)

    strides[0] = strides[1] = strides[2] = strides[3] = strides[4] = cnp.PyArray_STRIDES(a)
    if labels:
        without_axis(reduced[1], cnp.PyArray_STRIDES(t), along, ndim, 0)
        strides[1] = reduced[1]
    else:
        strides[1] = cnp.PyArray_STRIDES(t)
    if gradient:
        strides[2] = cnp.PyArray_STRIDES(result)
    if loss is not None:
        without_axis(reduced[2], cnp.PyArray_STRIDES(loss), along, ndim, 0)
        strides[3] = reduced[2]
    if samples is not None:
        without_axis(reduced[3], cnp.PyArray_STRIDES(samples), along, ndim, 0)
        strides[4] = reduced[3]
    if not lay_out(&layout, ndim, shape, &along, 1, 5, strides):
        return None
    p.lanes = layout.lanes
    p.outer = layout.outer
    lay(&p.x, a, &layout, 0, dtype == b'e')
    p.x.temperature = temperature
    p.label = NULL
    p.label_stride = p.label_outer_stride = p.label_kind = 0
    p.y = p.out = p.loss = view(NULL, 0, 0, dtype == b'e')
    p.scale = <char*> &no_weight
    p.scale_bytes = sizeof(double)
    p.scale_stride = p.scale_outer_stride = 0
    if samples is not None:
        p.scale = cnp.PyArray_BYTES(samples)
        p.scale_bytes = <int> cnp.PyArray_ITEMSIZE(samples)
        p.scale_stride = layout.others.stride[layout.lane_axis][4]
        p.scale_outer_stride = layout.others.stride[layout.outer_axis][4]
    if labels:
        p.label = cnp.PyArray_BYTES(t)
        p.label_kind = label_kind(t)
        p.label_stride = layout.others.stride[layout.lane_axis][1]
        p.label_outer_stride = layout.others.stride[layout.outer_axis][1]
    else:
        lay(&p.y, t, &layout, 1, dtype == b'e')
    p.factor = factor
    count = sum_at_labels(p, dtype, (labels and weights is not None) or samples is not None,
                          ignore_index is not None, &bad)
    if bad:
        return None
    if reduced_by == MEAN:
        if not count > 0 and not count < 0:
            return None
        p.factor = factor / count
    if gradient:
        lay(&p.out, result, &layout, 2, dtype == b'e')

    if loss is not None:
        lay(&p.loss, loss, &layout, 3, dtype == b'e')
        begin(CROSS_ENTROPY, dtype, p, RELEASE_FROM)
        answer = loss if ndim > 1 else loss[()]
    else:
        block = min(<Py_ssize_t> LOSSES, p.lanes)
        if block > 64:
            losses = <char*> malloc(block * kernels_of(dtype).size)
            if losses == NULL:
                raise MemoryError("csoftmax: no memory for a buffer of losses")
        total = sum_of_losses(losses, dtype, p, block)
        if losses != <char*> few:
            free(losses)
        answer = scalar_like(a, dtype, total)
    return (answer, result) if gradient else answer


cdef object scalar_like(cnp.ndarray a, char dtype, long double value):
    # A NumPy scalar of the array's dtype.
    cdef long double wide = value
    cdef double d = <double> value
    cdef float f = <float> d
    cdef uint16_t h = float_to_half(f)
    return cnp.PyArray_ToScalar(<void*> &d if dtype == b'd' else <void*> &f if dtype == b'f' else
                                <void*> &h if dtype == b'e' else <void*> &wide, a)


def exact_sum(a):
    """Sum of a float32, float64 or longdouble array, as a longdouble: rounded once or twice."""
    cdef cnp.ndarray terms = cnp.PyArray_GETCONTIGUOUS(a)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(terms)
    cdef char dtype = loop_of(terms)
    cdef LongSum[longdouble] total
    cdef long double value
    if dtype not in (b'f', b'd', b'g'):
        raise TypeError(f"a has dtype {a.dtype}: expected float32, float64 or longdouble")
    kernels_of(dtype).add_to_sum(total, cnp.PyArray_BYTES(terms), n)
    value = total.value()
    return cnp.PyArray_ToScalar(&value, cnp.PyArray_EMPTY(0, NULL, cnp.NPY_LONGDOUBLE, 0))
