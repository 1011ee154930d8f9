# product.pxi - matrix products of linear.py, shared by the threads; see product.hpp.
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uintptr_t

cdef enum:
    TERMS_OF_THREAD = 1 << 19     # multiplications that are worth waking one
    LINE = 64                     # bytes of a cache line, and of the largest register


cdef inline char* aligned(void* memory) noexcept nogil:
    # The first address in it where a line begins.
    return <char*> ((<uintptr_t> memory + LINE - 1) // LINE * LINE)


cdef inline Matrix[real] matrix_of(const View& a, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Matrix[real] m
    m.data = <real*> a.data
    m.rows, m.columns = rows, columns
    m.row_stride = a.lane_stride // <Py_ssize_t> sizeof(real)
    m.column_stride = a.class_stride // <Py_ssize_t> sizeof(real)
    return m


cdef cpp_bool multiply(const View& a, const View& b, const View& out, Py_ssize_t rows, Py_ssize_t terms,
                       Py_ssize_t columns, cpp_bool add, int threads) noexcept nogil:
    cdef Matrix[real] first = matrix_of(a, rows, terms), second = matrix_of(b, terms, columns)
    cdef Matrix[real] result = matrix_of(out, rows, columns)
    cdef Py_ssize_t parts = min(<Py_ssize_t> threads, 1 + rows * terms * columns // TERMS_OF_THREAD), i
    cdef Py_ssize_t room = product_scratch(tag)
    cdef void* memory = PyMem_RawMalloc(parts * room * sizeof(real) + LINE)
    cdef real* scratch = <real*> aligned(memory)
    if memory == NULL:
        return False
    if parts == 1:
        multiply_part(first, second, result, add, 0, 1, scratch)
    else:
        for i in prange(parts, num_threads=<int> parts, schedule="static"):
            multiply_part(first, second, result, add, i, parts, scratch + i * room)
    PyMem_RawFree(memory)
    return True
