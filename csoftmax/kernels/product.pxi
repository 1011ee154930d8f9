# product.pxi - matrix products of linear.py, shared by the threads; see product.hpp.
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uintptr_t

cdef enum:
    TERMS_OF_THREAD = 1 << 19     # multiplications that are worth waking one
    LINE = 64                     # bytes of a cache line, and of the largest register


def multiply(cnp.ndarray a, cnp.ndarray b, cnp.ndarray out, bint add):
    """out = a @ b or, if `add`, out += a @ b.

    Matrices of one dtype (float32, float64 or longdouble), aligned, with strides of whole entries;
    those of `out` are neighbours along its rows, and it overlaps neither operand.
    """
    cdef int type_number = cnp.PyArray_TYPE(out)
    cdef bint done
    if type_number == cnp.NPY_FLOAT:
        done = multiply_arrays(<float*> NULL, a, b, out, add)
    elif type_number == cnp.NPY_DOUBLE:
        done = multiply_arrays(<double*> NULL, a, b, out, add)
    else:
        done = multiply_arrays(<long double*> NULL, a, b, out, add)
    if not done:
        raise MemoryError("csoftmax: no memory for the panels of a matrix product")


cdef inline char* aligned(void* memory) noexcept nogil:
    # The first address in it where a line begins.
    return <char*> ((<uintptr_t> memory + LINE - 1) // LINE * LINE)


cdef Matrix[real] matrix_of(const real* tag, cnp.ndarray a) noexcept:
    cdef Matrix[real] m
    m.data = <real*> cnp.PyArray_DATA(a)
    m.rows = cnp.PyArray_DIMS(a)[0]
    m.columns = cnp.PyArray_DIMS(a)[1]
    m.row_stride = cnp.PyArray_STRIDES(a)[0] // <Py_ssize_t> sizeof(real)
    m.column_stride = cnp.PyArray_STRIDES(a)[1] // <Py_ssize_t> sizeof(real)
    return m


cdef bint multiply_arrays(const real* tag, cnp.ndarray a, cnp.ndarray b, cnp.ndarray out, bint add):
    cdef Matrix[real] first = matrix_of(tag, a), second = matrix_of(tag, b)
    cdef Matrix[real] result = matrix_of(tag, out)
    cdef Py_ssize_t terms = result.rows * result.columns * first.columns
    cdef Py_ssize_t parts = min(<Py_ssize_t> get_num_threads(), 1 + terms // TERMS_OF_THREAD), i
    cdef Py_ssize_t room = product_scratch(tag)
    cdef void* memory = PyMem_RawMalloc(parts * room * sizeof(real) + LINE)
    cdef real* scratch = <real*> aligned(memory)
    if memory == NULL:
        return False
    with nogil:
        if parts == 1:
            multiply_part(first, second, result, add, 0, 1, scratch)
        else:
            for i in prange(parts, num_threads=<int> parts, schedule="static"):
                multiply_part(first, second, result, add, i, parts, scratch + i * room)
    PyMem_RawFree(memory)
    return True
