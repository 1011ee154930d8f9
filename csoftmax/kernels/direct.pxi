# direct.pxi - calls on NumPy arrays that need no conversion, past the machinery of gufuncs.
#
# The same Problem goes to the same run(). What is not as expected here (other types and subclasses,
# foreign byte order, operands that overlap, axes that cannot be joined to two) gives None, and the
# caller takes the gufunc.
from cpython.long cimport PyLong_AsLong, PyLong_CheckExact

cdef enum:
    MAX_OPERANDS = 6
    MAX_DIMENSIONS = 64    # of a NumPy array
    RELEASE_FROM = 4096    # entries that take longer than to release the GIL

# All axes but that of the classes, joined to `lanes` and `outer` of them, with each operand's strides.
cdef struct Layout:
    Py_ssize_t outer, lanes
    Py_ssize_t outer_stride[MAX_OPERANDS]
    Py_ssize_t lane_stride[MAX_OPERANDS]


cdef inline bint follows(const Py_ssize_t* before, Py_ssize_t size, const Py_ssize_t* after,
                         int operands) noexcept nogil:
    # Whether `after` strides over `size` steps of `before`, in every operand.
    cdef int k
    for k in range(operands):
        if after[k] != size * before[k]:
            return False
    return True


cdef bint lay_out(Layout* layout, int ndim, const cnp.npy_intp* shape, int axis, int operands,
                  const cnp.npy_intp** strides) noexcept nogil:
    cdef Py_ssize_t size[2]
    cdef Py_ssize_t stride[3][MAX_OPERANDS]       # of the two joined axes, and of the next one
    cdef int found = 0, d, k, last
    size[0] = size[1] = 1
    for k in range(operands):
        stride[0][k] = stride[1][k] = 0
    for d in range(ndim):
        if d == axis or shape[d] == 1:
            continue
        for k in range(operands):
            stride[2][k] = strides[k][d]
        last = found - 1
        if found and follows(stride[2], shape[d], stride[last], operands):
            size[last] *= shape[d]
            for k in range(operands):
                stride[last][k] = stride[2][k]
        elif found and follows(stride[last], size[last], stride[2], operands):
            size[last] *= shape[d]
        elif found == 2:
            return False
        else:
            size[found] = shape[d]
            for k in range(operands):
                stride[found][k] = stride[2][k]
            found += 1
    # Lanes are the axis of neighbours, unless there are few of those.
    last = 1 if found == 2 and (size[1] >= 16 or size[1] >= size[0]) else 0
    layout.lanes = size[last]
    layout.outer = size[1 - last]
    for k in range(operands):
        layout.lane_stride[k] = stride[last][k]
        layout.outer_stride[k] = stride[1 - last][k]
    return True


cdef inline void span(cnp.ndarray a, char** low, char** high) noexcept:
    # The bytes from the first to the last that `a` may touch; it has entries.
    cdef int d
    low[0] = cnp.PyArray_BYTES(a)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(a)
    for d in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDES(a)[d] > 0:
            high[0] += cnp.PyArray_STRIDES(a)[d] * (cnp.PyArray_DIMS(a)[d] - 1)
        else:
            low[0] += cnp.PyArray_STRIDES(a)[d] * (cnp.PyArray_DIMS(a)[d] - 1)


cdef bint same_entries(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int d
    if cnp.PyArray_BYTES(a) != cnp.PyArray_BYTES(b) or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for d in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDES(a)[d] != cnp.PyArray_STRIDES(b)[d]:
            return False
    return True


cdef bint may_write(cnp.ndarray out, cnp.ndarray operand, bint in_place) noexcept:
    # Whether writing `out` entry by entry leaves the operand as it is, or `out` is the operand.
    cdef char* low
    cdef char* high
    cdef char* first
    cdef char* end
    if in_place and same_entries(out, operand):
        return True
    span(out, &low, &high)
    span(operand, &first, &end)
    return end <= low or high <= first


cdef bint distinct(cnp.ndarray a) noexcept:
    # Whether no two entries of `a` share memory, by the simplest rule that tells.
    cdef int d
    if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a):
        return True
    for d in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDES(a)[d] == 0 and cnp.PyArray_DIMS(a)[d] > 1:
            return False
    return True


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int d
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for d in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[d] != cnp.PyArray_DIMS(b)[d]:
            return False
    return True


cdef inline char loop_of(cnp.ndarray a) noexcept:
    # The gufunc loop for the dtype, 0 if there is none.
    cdef int number = cnp.PyArray_TYPE(a)
    if not cnp.PyArray_ISNOTSWAPPED(a):
        return 0
    if number == cnp.NPY_DOUBLE:
        return b'd'
    if number == cnp.NPY_FLOAT:
        return b'f'
    if number == cnp.NPY_FLOAT16:
        return b'e'
    return b'g' if number == cnp.NPY_LONGDOUBLE else 0


cdef inline void without_axis(cnp.npy_intp* target, const cnp.npy_intp* source, int axis, int ndim,
                              cnp.npy_intp at_axis) noexcept nogil:
    # target (ndim,) <- source (ndim - 1,) with `at_axis` in the place of the axis that it lacks
    cdef int d
    for d in range(ndim):
        target[d] = source[d] if d < axis else at_axis if d == axis else source[d - 1]


cdef inline View laid_view(cnp.ndarray a, const Layout* layout, int operand, Py_ssize_t class_stride,
                           bint half) noexcept:
    cdef View v = view(cnp.PyArray_BYTES(a), layout.lane_stride[operand], class_stride, half)
    v.outer_stride = layout.outer_stride[operand]
    return v


def direct(int number, x, y, axis, out):
    """Kernel `number` on `x`, or `x` and `y`, into `out` or a new array; None where it will not do.

    The arrays may be of any strides, and have the dtype of the result.
    """
    cdef Operation operation = <Operation> number
    cdef cnp.npy_intp reduced[MAX_DIMENSIONS]
    cdef const cnp.npy_intp* strides[3]
    cdef cnp.npy_intp* shape
    cdef Layout layout
    cdef Problem p
    cdef cnp.ndarray a, b, result
    cdef bint reduces = not writes_rows(operation)
    cdef char dtype
    cdef int ndim, d, along
    if not cnp.PyArray_CheckExact(x) or not PyLong_CheckExact(axis):
        return None
    a = <cnp.ndarray> x
    ndim = cnp.PyArray_NDIM(a)
    shape = cnp.PyArray_DIMS(a)
    dtype = loop_of(a)
    along = counted_axis(axis, ndim)
    if dtype == 0 or along < 0 or cnp.PyArray_SIZE(a) == 0:
        return None
    b = a
    if y is not None:
        if not cnp.PyArray_CheckExact(y):
            return None
        b = <cnp.ndarray> y
        if not same_shape(a, b) or loop_of(b) != dtype:
            return None
    if out is None:
        if reduces:
            for d in range(ndim - 1):
                reduced[d] = shape[d] if d < along else shape[d + 1]
            result = cnp.PyArray_EMPTY(ndim - 1, reduced, cnp.PyArray_TYPE(a), 0)
        elif cnp.PyArray_IS_C_CONTIGUOUS(a):
            result = cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(a), 0)
        elif cnp.PyArray_IS_F_CONTIGUOUS(a):
            result = cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(a), 1)
        else:
            return None
    else:
        if not cnp.PyArray_CheckExact(out):
            return None
        result = <cnp.ndarray> out
        if loop_of(result) != dtype or not cnp.PyArray_ISWRITEABLE(result) or not distinct(result):
            return None
        if reduces:
            if cnp.PyArray_NDIM(result) != ndim - 1:
                return None
            for d in range(ndim - 1):
                if cnp.PyArray_DIMS(result)[d] != (shape[d] if d < along else shape[d + 1]):
                    return None
        elif not same_shape(a, result):
            return None
        if not may_write(result, a, not reduces) or not may_write(result, b, not reduces):
            return None
    strides[0] = cnp.PyArray_STRIDES(a)
    strides[1] = cnp.PyArray_STRIDES(b)
    strides[2] = cnp.PyArray_STRIDES(result)
    if reduces:
        without_axis(reduced, strides[2], along, ndim, 0)
        strides[2] = reduced
    if not lay_out(&layout, ndim, shape, along, 3, strides):
        return None
    p.lanes = layout.lanes
    p.outer = layout.outer
    p.n = shape[along]
    p.label = p.scale = p.loss.data = NULL
    p.x = laid_view(a, &layout, 0, strides[0][along], dtype == b'e')
    p.y = laid_view(b, &layout, 1, strides[1][along], dtype == b'e')
    p.out = laid_view(result, &layout, 2, strides[2][along], dtype == b'e')
    begin(operation, dtype, p, RELEASE_FROM)
    return result[()] if reduces and ndim == 1 and out is None else result


cdef inline int counted_axis(object axis, int ndim) noexcept:
    # The axis counted from 0; -1 for none of them.
    cdef long number
    try:
        number = PyLong_AsLong(axis)
    except OverflowError:
        return -1
    if number < 0:
        number += ndim
    return <int> number if 0 <= number < ndim else -1
