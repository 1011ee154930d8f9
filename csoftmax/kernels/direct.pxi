# direct.pxi - calls on NumPy arrays that need no conversion, past the machinery of gufuncs.
#
# The same Problem goes to the same run(). What is not as expected here (other types and subclasses,
# foreign byte order, operands that overlap, axes that cannot be joined to two) gives None, and the
# caller takes the gufunc.
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLong, PyLong_CheckExact

from numpy import empty_like

cdef enum:
    MAX_OPERANDS = 6
    MAX_JOINED = 4
    MAX_DIMENSIONS = 64    # of a NumPy array
    RELEASE_FROM = 4096    # entries that take longer than to release the GIL

# The axes that are left when those that one stride leads through are joined.
cdef struct Joined:
    int count
    Py_ssize_t size[MAX_JOINED]
    Py_ssize_t stride[MAX_JOINED][MAX_OPERANDS]

cdef struct Layout:
    Joined classes, others
    Py_ssize_t outer, lanes, n
    int outer_axis, lane_axis     # of the others


cdef inline bint follows(const Py_ssize_t* before, Py_ssize_t size, const Py_ssize_t* after,
                         int operands) noexcept nogil:
    # Whether `after` strides over `size` steps of `before`, in every operand.
    cdef int k
    for k in range(operands):
        if after[k] != size * before[k]:
            return False
    return True


cdef bint join(Joined* joined, const int* axes, int count, const cnp.npy_intp* shape, int operands,
               const cnp.npy_intp** strides, int most, bint in_order) noexcept nogil:
    # Whether at most `most` axes are left, the later ones varying faster (`in_order`: they must).
    cdef Py_ssize_t next_stride[MAX_OPERANDS]
    cdef int found = 0, d, k, last
    for d in range(most):
        joined.size[d] = 1
        for k in range(operands):
            joined.stride[d][k] = 0
    for d in range(count):
        if shape[axes[d]] == 1:
            continue
        for k in range(operands):
            next_stride[k] = strides[k][axes[d]]
        last = found - 1
        if found and follows(next_stride, shape[axes[d]], joined.stride[last], operands):
            joined.size[last] *= shape[axes[d]]
            for k in range(operands):
                joined.stride[last][k] = next_stride[k]
        elif (found and not in_order
              and follows(joined.stride[last], joined.size[last], next_stride, operands)):
            joined.size[last] *= shape[axes[d]]
        elif found == most:
            return False
        else:
            joined.size[found] = shape[axes[d]]
            for k in range(operands):
                joined.stride[found][k] = next_stride[k]
            found += 1
    joined.count = max(found, 1)
    return True


cdef bint lay_out(Layout* layout, int ndim, const cnp.npy_intp* shape, const int* class_axes,
                  int classes, int operands, const cnp.npy_intp** strides) noexcept nogil:
    cdef int others[MAX_DIMENSIONS]
    cdef int count = 0, d, k
    cdef bint taken
    if not join(&layout.classes, class_axes, classes, shape, operands, strides, MAX_JOINED, True):
        return False
    layout.n = 1
    for d in range(layout.classes.count):
        layout.n *= layout.classes.size[d]
    for d in range(ndim):
        taken = False
        for k in range(classes):
            taken = taken or class_axes[k] == d
        if not taken:
            others[count] = d
            count += 1
    if not join(&layout.others, others, count, shape, operands, strides, 2, False):
        return False
    # Lanes are the axis of neighbours, unless there are few of those.
    layout.lane_axis = layout.others.count - 1
    if layout.others.size[1] < 16 and layout.others.size[1] < layout.others.size[0]:
        layout.lane_axis = 0
    layout.outer_axis = 1 - layout.lane_axis
    layout.lanes = layout.others.size[layout.lane_axis]
    layout.outer = layout.others.size[layout.outer_axis]
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


cdef inline void lay(View* v, cnp.ndarray a, const Layout* layout, int operand, bint half) noexcept:
    cdef int last = layout.classes.count - 1, d
    v[0] = view(cnp.PyArray_BYTES(a), layout.others.stride[layout.lane_axis][operand],
                layout.classes.stride[last][operand], half)
    v.outer_stride = layout.others.stride[layout.outer_axis][operand]
    if last > 0:
        v.run = layout.classes.size[last]
        for d in range(MAX_JOINED - 1):      # runs lie along the axes before the last, if any
            v.run_count[d] = 1
            v.run_stride[d] = 0
        for d in range(last):
            v.run_count[MAX_JOINED - 1 - last + d] = layout.classes.size[d]
            v.run_stride[MAX_JOINED - 1 - last + d] = layout.classes.stride[d][operand]


cdef int counted_axes(object axis, int ndim, int* axes) noexcept:
    # How many, counted from 0; 0 for what is no int or tuple of such, or no axis, or repeated.
    cdef int count = 0, k
    if PyLong_CheckExact(axis):
        axes[0] = counted_axis(axis, ndim)
        return 1 if axes[0] >= 0 else 0
    if type(axis) is not tuple or len(axis) > ndim:
        return 0
    for one in axis:
        axes[count] = counted_axis(one, ndim) if PyLong_CheckExact(one) else -1
        if axes[count] < 0:
            return 0
        for k in range(count):
            if axes[k] == axes[count]:
                return 0
        count += 1
    return count


cdef bint fits_reduced(cnp.ndarray a, int ndim, const cnp.npy_intp* shape, int axis) noexcept:
    # Whether `a` has the shape without the axis.
    cdef int d
    if cnp.PyArray_NDIM(a) != ndim - 1:
        return False
    for d in range(ndim - 1):
        if cnp.PyArray_DIMS(a)[d] != (shape[d] if d < axis else shape[d + 1]):
            return False
    return True


cdef bint fits_with_ones(cnp.ndarray a, int ndim, const cnp.npy_intp* shape, const int* axes,
                         int count) noexcept:
    # Whether `a` has the shape with 1 in the place of the axes.
    cdef int d, k
    cdef Py_ssize_t size
    if cnp.PyArray_NDIM(a) != ndim:
        return False
    for d in range(ndim):
        size = shape[d]
        for k in range(count):
            if axes[k] == d:
                size = 1
        if cnp.PyArray_DIMS(a)[d] != size:
            return False
    return True


cdef inline double temperature_of(object temperature) noexcept:
    # 0 for what is no float.
    return PyFloat_AS_DOUBLE(temperature) if PyFloat_CheckExact(temperature) else 0


cdef inline bint divides(double temperature, char dtype) noexcept nogil:
    # Whether it is positive and finite, also in the dtype that is computed in.
    cdef float narrow
    if temperature == 1:
        return True
    narrow = <float> temperature
    if dtype in (b'f', b'e'):
        return 0 < narrow < INFINITY
    return 0 < temperature < INFINITY


cdef inline void lay_rows(Problem& p, cnp.ndarray a, cnp.ndarray b, cnp.ndarray result, bint reduces,
                          bint half) noexcept:
    # The classes on the last axis of contiguous arrays.
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(a)
    p.n = cnp.PyArray_DIMS(a)[cnp.PyArray_NDIM(a) - 1]
    p.lanes = cnp.PyArray_SIZE(a) // p.n
    p.outer = 1
    p.x = view(cnp.PyArray_BYTES(a), p.n * size, size, half)
    p.y = view(cnp.PyArray_BYTES(b), p.n * size, size, half)
    p.out = view(cnp.PyArray_BYTES(result), size if reduces else p.n * size,
                 0 if reduces else size, half)


cpdef direct(int number, x, y, axis, out, temperature=1.0):
    """Kernel `number` on `x`, or `x` and `y`, into `out` or a new array; None where it will not do.

    The arrays may be of any strides, and have the dtype of the result. A kernel that reduces several
    axes needs an `out`, where they have length 1.
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
    cdef int axes[MAX_DIMENSIONS]
    cdef int ndim, d, classes, along
    cdef double divisor = temperature_of(temperature)
    if not cnp.PyArray_CheckExact(x):
        return None
    a = <cnp.ndarray> x
    ndim = cnp.PyArray_NDIM(a)
    shape = cnp.PyArray_DIMS(a)
    dtype = loop_of(a)
    classes = counted_axes(axis, ndim, axes)
    if dtype == 0 or classes == 0 or cnp.PyArray_SIZE(a) == 0 or not divides(divisor, dtype):
        return None
    along = axes[0]
    b = a
    if y is not None:
        if not cnp.PyArray_CheckExact(y):
            return None
        b = <cnp.ndarray> y
        if not same_shape(a, b) or loop_of(b) != dtype:
            return None
    if out is None:
        if reduces:
            if classes > 1:
                return None
            for d in range(ndim - 1):
                reduced[d] = shape[d] if d < along else shape[d + 1]
            result = cnp.PyArray_EMPTY(ndim - 1, reduced, cnp.PyArray_TYPE(a), 0)
        elif cnp.PyArray_IS_C_CONTIGUOUS(a):
            result = cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(a), 0)
        elif cnp.PyArray_IS_F_CONTIGUOUS(a):
            result = cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(a), 1)
        else:
            result = empty_like(a)
    else:
        if not cnp.PyArray_CheckExact(out):
            return None
        result = <cnp.ndarray> out
        if loop_of(result) != dtype or not cnp.PyArray_ISWRITEABLE(result) or not distinct(result):
            return None
        if reduces:
            if not (fits_reduced(result, ndim, shape, along) if classes == 1
                    else fits_with_ones(result, ndim, shape, axes, classes)):
                return None
        elif not same_shape(a, result):
            return None
        if not may_write(result, a, not reduces) or not may_write(result, b, not reduces):
            return None
    p.label = p.scale = p.loss.data = NULL
    p.label_stride = p.scale_stride = p.label_kind = 0
    if (classes == 1 and along == ndim - 1 and cnp.PyArray_IS_C_CONTIGUOUS(a)
            and cnp.PyArray_IS_C_CONTIGUOUS(b) and cnp.PyArray_IS_C_CONTIGUOUS(result)):
        lay_rows(p, a, b, result, reduces, dtype == b'e')     # most calls
    else:
        strides[0] = cnp.PyArray_STRIDES(a)
        strides[1] = cnp.PyArray_STRIDES(b)
        strides[2] = cnp.PyArray_STRIDES(result)
        if reduces:
            if classes == 1:
                without_axis(reduced, strides[2], along, ndim, 0)
            for d in range(ndim if classes > 1 else 0):
                reduced[d] = strides[2][d]
            for d in range(classes if classes > 1 else 0):
                reduced[axes[d]] = 0
            strides[2] = reduced
        if not lay_out(&layout, ndim, shape, axes, classes, 3, strides):
            return None
        p.lanes = layout.lanes
        p.outer = layout.outer
        p.n = layout.n
        lay(&p.x, a, &layout, 0, dtype == b'e')
        lay(&p.y, b, &layout, 1, dtype == b'e')
        lay(&p.out, result, &layout, 2, dtype == b'e')
        if reduces:
            p.out.run = 0
    p.x.temperature = divisor
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
