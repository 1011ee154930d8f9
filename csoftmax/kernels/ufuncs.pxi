# ufuncs.pxi - the gufuncs: NumPy settles axes, broadcasting, casts and overlap, and calls loop().
#
# Every gufunc has a loop for float64, float32, float16 and longdouble, in this order: what is no
# float at all is cast to the first, float64.
cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport UINTPTR_MAX
from libc.stdlib cimport malloc
from libc.string cimport strcpy

cnp.import_array()
cnp.import_ufunc()

cdef extern from "<fenv.h>" nogil:
    int feclearexcept(int)
    const int FE_ALL_EXCEPT

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    static const int has_openmp = 1;
    #else
    static const int has_openmp = 0;
    static int omp_get_max_threads(void) { return 1; }
    #endif
    """
    const int has_openmp
    int omp_get_max_threads() noexcept nogil

cdef extern from *:
    ctypedef struct PyThreadState:
        pass
    PyThreadState* PyEval_SaveThread() nogil
    void PyEval_RestoreThread(PyThreadState*) nogil

cdef enum:
    SERIAL_BELOW = 65536      # entries that do not pay for waking threads

cdef struct Kernel:
    Operation operation
    char dtype            # 'd', 'f', 'e' or 'g'
    bint masked           # softmax family: a mask follows x
    bint labels           # cross-entropy: labels, not probabilities
    bint gradient         # cross-entropy: the gradient is wanted, too
    bint tempered         # softmax family: a temperature, one for all, comes last

cdef int requested_threads = 0    # 0: what OpenMP says, and so OMP_NUM_THREADS and threadpoolctl
cdef bint forked = False          # libgomp hangs in a forked child that goes parallel

openmp = bool(has_openmp)


def get_num_threads():
    """Number of threads that the next call may use."""
    if forked or not has_openmp:
        return 1
    return requested_threads if requested_threads > 0 else omp_get_max_threads()


def set_num_threads(int n):
    """Sets the number of threads; 0 leaves it to OpenMP again. Returns the former setting."""
    global requested_threads
    former = requested_threads
    requested_threads = n
    return former


def set_forked():
    """Tells that this process is a forked child: serial from now on."""
    global forked
    forked = True


cdef inline View view(char* data, Py_ssize_t lane_stride, Py_ssize_t class_stride,
                      bint half) noexcept nogil:
    cdef View v
    v.data = data
    v.outer_stride = v.run = 0
    v.lane_stride = lane_stride
    v.class_stride = class_stride
    v.half = half
    v.mask = NULL
    v.mask_lane_stride = v.mask_class_stride = 0
    v.temperature = 1
    v.end = UINTPTR_MAX
    return v


cdef Problem bind(const Kernel* k, char** args, const cnp.npy_intp* dimensions,
                  const cnp.npy_intp* steps) noexcept nogil:
    # Operands in the order of the signatures below; core strides follow the outer ones.
    cdef Problem p
    cdef bint half = k.dtype == b'e'
    cdef int result = 1 + k.masked + k.tempered
    cdef const cnp.npy_intp* core = steps + result + 1
    p.outer = 1
    p.lanes = dimensions[0]
    p.n = dimensions[1]
    p.label = p.scale = p.loss.data = NULL
    p.y = view(NULL, 0, 0, False)
    p.label_stride = p.scale_stride = p.label_kind = 0
    if k.operation == CROSS_ENTROPY:
        bind_cross_entropy(p, k, args, steps)
    elif takes_pair(k.operation):
        p.x = view(args[0], steps[0], steps[3], half)
        p.y = view(args[1], steps[1], steps[4], half)
        p.out = view(args[2], steps[2], 0 if k.operation == CCE else steps[5], half)
    else:
        p.x = view(args[0], steps[0], core[0], half)
        p.out = view(args[result], steps[result], 0, half)
        if k.tempered:
            p.x.temperature = (<double*> args[result - 1])[0]
        if writes_rows(k.operation):
            p.out.class_stride = core[1 + k.masked]
        if k.masked:
            p.x.mask = args[1]
            p.x.mask_lane_stride = steps[1]
            p.x.mask_class_stride = core[1]
            if writes_rows(k.operation):
                p.out.mask = args[1]
                p.out.mask_lane_stride = steps[1]
                p.out.mask_class_stride = core[1]
    return p


cdef void bind_cross_entropy(Problem& p, const Kernel* k, char** args,
                             const cnp.npy_intp* steps) noexcept nogil:
    # labels:        x, label, scale, class_weight, smoothing, ignore_index -> loss[, gradient]
    # probabilities: x, y,     scale, class_weight, smoothing               -> loss[, gradient]
    # smoothing and ignore_index hold one value for the whole call.
    cdef bint half = k.dtype == b'e'
    cdef int loss = 6 if k.labels else 5
    cdef const cnp.npy_intp* core = steps + loss + 1 + k.gradient
    p.x = view(args[0], steps[0], core[0], half)
    if k.labels:
        p.label = args[1]
        p.label_kind = sizeof(int64_t)
        p.label_stride = steps[1]
        p.ignore_index = (<int64_t*> args[5])[0]
    else:
        p.y = view(args[1], steps[1], core[1], half)
        core += 1
    p.scale = args[2]
    p.scale_bytes = sizeof(long double) if k.dtype == b'g' else sizeof(double)
    p.factor = 1
    p.scale_stride = steps[2]
    p.class_weight = view(args[3], 0, core[1], False)
    p.smoothing = (<double*> args[4])[0]
    p.loss = view(args[loss], steps[loss], 0, False)
    if k.gradient:
        p.out = view(args[loss + 1], steps[loss + 1], core[2], half)
    else:
        p.out = view(NULL, 0, 0, half)


cdef const Kernels* table_of(module) except NULL:
    return <const Kernels*> PyCapsule_GetPointer(module.table, "csoftmax.Kernels")


cdef const Kernels* float32 = table_of(of_float32)
cdef const Kernels* float64 = table_of(of_float64)
cdef const Kernels* extended = table_of(of_longdouble)


cdef inline const Kernels* kernels_of(char dtype) noexcept nogil:
    return float64 if dtype == b'd' else extended if dtype == b'g' else float32


cdef void begin(Operation operation, char dtype, Problem& p, Py_ssize_t release_from) noexcept nogil:
    # Settles threads and the GIL, which problems from that many entries on give up.
    cdef Py_ssize_t entries = p.outer * p.lanes * p.n
    cdef PyThreadState* state = NULL
    cdef int threads = 1
    if entries >= SERIAL_BELOW and not forked:
        threads = requested_threads if requested_threads > 0 else omp_get_max_threads()
    if entries >= release_from and holds_gil():
        state = PyEval_SaveThread()
    kernels_of(dtype).run(operation, p, threads)
    if state != NULL:
        PyEval_RestoreThread(state)


cdef void loop(char** args, const cnp.npy_intp* dimensions, const cnp.npy_intp* steps,
               void* data) noexcept nogil:
    cdef const Kernel* k = <const Kernel*> data
    cdef Problem p = bind(k, args, dimensions, steps)
    # NumPy keeps the GIL if there are few rows, however long they are.
    begin(k.operation, k.dtype, p, SERIAL_BELOW)
    feclearexcept(FE_ALL_EXCEPT)    # of unused lanes, and of infinities that are the right answer


cdef object gufunc(str name, str signature, str types, Kernel kernel):
    # `types` has a letter an operand: T is the dtype of the loop, C the one it computes in,
    # W double or wider.
    cdef bytes c_name = name.encode()
    cdef bytes c_signature = signature.encode()
    cdef int inputs = types.index(">")
    cdef int operands = len(types) - 1
    cdef Kernel* kernels = <Kernel*> malloc(4 * sizeof(Kernel))
    cdef void** data = <void**> malloc(4 * sizeof(void*))
    cdef char* codes = <char*> malloc(4 * operands)
    cdef cnp.PyUFuncGenericFunction* loops = <cnp.PyUFuncGenericFunction*> malloc(
        4 * sizeof(cnp.PyUFuncGenericFunction))
    cdef char* strings = <char*> malloc(len(c_name) + len(c_signature) + 2)
    if kernels == NULL or data == NULL or codes == NULL or loops == NULL or strings == NULL:
        raise MemoryError(f"csoftmax: no memory to register {name}")
    code_of = {"?": cnp.NPY_BOOL, "i": cnp.NPY_INT64, "d": cnp.NPY_DOUBLE, "f": cnp.NPY_FLOAT,
               "e": cnp.NPY_FLOAT16, "g": cnp.NPY_LONGDOUBLE}
    for i, dtype in enumerate("dfeg"):
        kernels[i] = kernel
        kernels[i].dtype = ord(dtype)
        data[i] = &kernels[i]
        loops[i] = <cnp.PyUFuncGenericFunction> loop
        computed = "f" if dtype == "e" else dtype
        wide = "g" if dtype == "g" else "d"
        for j, letter in enumerate(types.replace(">", "")):
            letter = {"T": dtype, "C": computed, "W": wide}.get(letter, letter)
            codes[i * operands + j] = code_of[letter]
    # All of this lives as long as the process, as the gufunc does.
    strcpy(strings, c_name)
    strcpy(strings + len(c_name) + 1, c_signature)
    return cnp.PyUFunc_FromFuncAndDataAndSignature(
        loops, data, codes, 4, inputs, operands - inputs, cnp.PyUFunc_None, strings,
        strings + len(c_name), 0, strings + len(c_name) + 1)


for name, signature, types, operation, masked, labels, gradient, *tempered in (
    ("softmax", "(n)->(n)", "T>T", SOFTMAX, 0, 0, 0),
    ("softmax_where", "(n),(n)->(n)", "T?>T", SOFTMAX, 1, 0, 0),
    ("log_softmax", "(n)->(n)", "T>T", LOG_SOFTMAX, 0, 0, 0),
    ("log_softmax_where", "(n),(n)->(n)", "T?>T", LOG_SOFTMAX, 1, 0, 0),
    ("softmax_tempered", "(n),()->(n)", "Td>T", SOFTMAX, 0, 0, 0, 1),
    ("softmax_where_tempered", "(n),(n),()->(n)", "T?d>T", SOFTMAX, 1, 0, 0, 1),
    ("log_softmax_tempered", "(n),()->(n)", "Td>T", LOG_SOFTMAX, 0, 0, 0, 1),
    ("log_softmax_where_tempered", "(n),(n),()->(n)", "T?d>T", LOG_SOFTMAX, 1, 0, 0, 1),
    ("softmax_entropy", "(n)->()", "T>T", ENTROPY, 0, 0, 0),
    ("softmax_entropy_tempered", "(n),()->()", "Td>T", ENTROPY, 0, 0, 0, 1),
    ("logsumexp", "(n)->()", "T>T", LOGSUMEXP, 0, 0, 0),
    ("logsumexp_where", "(n),(n)->()", "T?>T", LOGSUMEXP, 1, 0, 0),
    ("softmax_vjp", "(n),(n)->(n)", "TT>T", SOFTMAX_VJP, 0, 0, 0),
    ("log_softmax_vjp", "(n),(n)->(n)", "TT>T", LOG_SOFTMAX_VJP, 0, 0, 0),
    ("cce", "(n),(n)->()", "TT>T", CCE, 0, 0, 0),
    ("cce_gradient", "(n),(n)->(n)", "TT>T", CCE_GRADIENT, 0, 0, 0),
    ("cross_entropy_labels", "(n),(),(),(n),(),()->()", "TiWCdi>C", CROSS_ENTROPY, 0, 1, 0),
    ("cross_entropy_labels_with_grad", "(n),(),(),(n),(),()->(),(n)", "TiWCdi>CT",
     CROSS_ENTROPY, 0, 1, 1),
    ("cross_entropy_probabilities", "(n),(n),(),(n),()->()", "TTWCd>C", CROSS_ENTROPY, 0, 0, 0),
    ("cross_entropy_probabilities_with_grad", "(n),(n),(),(n),()->(),(n)", "TTWCd>CT",
     CROSS_ENTROPY, 0, 0, 1),
):
    globals()[name] = gufunc(
        name, signature, types,
        Kernel(operation=operation, dtype=0, masked=masked, labels=labels, gradient=gradient,
               tempered=bool(tempered)))

# The same by number, for direct().
numbers = {"softmax": SOFTMAX, "log_softmax": LOG_SOFTMAX, "logsumexp": LOGSUMEXP,
           "softmax_entropy": ENTROPY,
           "softmax_vjp": SOFTMAX_VJP, "log_softmax_vjp": LOG_SOFTMAX_VJP, "cce": CCE,
           "cce_gradient": CCE_GRADIENT}
