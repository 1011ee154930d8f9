# linear.pxi - what linear.py calls: matrix products, and cross-entropy of logits that they make piece by piece.


def multiply(cnp.ndarray a, cnp.ndarray b, cnp.ndarray out, bint add):
    """out = a @ b or, if `add`, out += a @ b.

    Matrices of one dtype (float32, float64 or longdouble), aligned, with strides of whole entries;
    those of `out` are neighbours along its rows, and it overlaps neither operand.
    """
    cdef const Kernels* kernels = kernels_of(loop_of(out))
    cdef View first = matrix_view(a), second = matrix_view(b), result = matrix_view(out)
    cdef Py_ssize_t rows = cnp.PyArray_DIMS(a)[0], terms = cnp.PyArray_DIMS(a)[1]
    cdef Py_ssize_t columns = cnp.PyArray_DIMS(b)[1]
    cdef int threads = get_num_threads()
    cdef bint done
    with nogil:
        done = kernels.multiply(first, second, result, rows, terms, columns, add, threads)
    if not done:
        raise MemoryError("csoftmax: no memory for the panels of a matrix product")


PIECE = int(CHUNK)    # classes: then sums are taken in the order that they always have


cdef class PiecewiseCrossEntropy:
    """Losses and gradients of logits (samples, classes); samples are neighbours in memory.

    `add` takes the classes first <= j < last, PIECE of them or up to the last class, once their
    logits are there; after all, there are `losses`; and `write_gradient` puts the gradient in the
    place of logits. `target` holds int64 labels or, in the dtype of the logits, probabilities;
    `scale` (samples,) and `class_weight` are those of `csoftmax.losses.Problem`.
    """
    cdef Problem p
    cdef char dtype
    cdef char* memory
    cdef cnp.ndarray logits, target, scale, class_weight

    def __cinit__(self, cnp.ndarray logits, cnp.ndarray target, cnp.ndarray scale,
                  cnp.ndarray class_weight, double smoothing):
        self.logits, self.target = logits, target
        self.scale, self.class_weight = scale, class_weight
        self.dtype = loop_of(logits)
        self.p.outer = 1
        self.p.lanes = cnp.PyArray_DIMS(logits)[0]
        self.p.n = cnp.PyArray_DIMS(logits)[1]
        self.p.x = self.p.out = matrix_view(logits)
        self.p.label = NULL
        self.p.label_stride = self.p.label_kind = 0
        if label_kind(target) != 0:
            self.p.label = cnp.PyArray_BYTES(target)
            self.p.label_kind = label_kind(target)
            self.p.label_stride = cnp.PyArray_STRIDES(target)[0]
        else:
            self.p.y = matrix_view(target)
        self.p.ignore_index = -1            # none of those that are here
        self.p.scale = cnp.PyArray_BYTES(scale)
        self.p.scale_bytes = <int> cnp.PyArray_ITEMSIZE(scale)
        self.p.scale_stride = cnp.PyArray_STRIDES(scale)[0]
        self.p.factor = 1
        self.p.class_weight = view(cnp.PyArray_BYTES(class_weight), 0,
                                   cnp.PyArray_STRIDES(class_weight)[0], False)
        self.p.smoothing = smoothing
        self.p.piecewise = True
        self.p.streamed = self.p.kept = False
        self.p.packed = self.p.ahead = self.p.out_ahead = 0
        self.p.row_threads = 1
        self.memory = <char*> malloc(kernels_of(self.dtype).bytes_of_rows(self.p.lanes))
        if self.memory == NULL:
            raise MemoryError("csoftmax: no memory for the sums of a block of samples")
        self.take(START_ROWS, 0, 0)

    def __dealloc__(self):
        free(self.memory)

    cdef void take(self, Step step, Py_ssize_t first, Py_ssize_t last):
        cdef int threads = get_num_threads()
        with nogil:
            kernels_of(self.dtype).take_step(self.memory, step, self.p, first, last, threads)

    def add(self, Py_ssize_t first, Py_ssize_t last):
        """Adds these classes to maxima and sums."""
        self.take(ADD_PIECE, first, last)

    def losses(self):
        """The losses (samples,)."""
        cdef cnp.npy_intp lanes = self.p.lanes
        cdef cnp.ndarray losses = cnp.PyArray_EMPTY(1, &lanes, cnp.PyArray_TYPE(self.logits), 0)
        self.p.loss = view(cnp.PyArray_BYTES(losses), cnp.PyArray_STRIDES(losses)[0], 0, False)
        self.take(FIND_LOSSES, 0, 0)
        return losses

    def write_gradient(self, Py_ssize_t first, Py_ssize_t last):
        """Turns the logits of these classes into the gradient."""
        self.take(WRITE_PIECE, first, last)


cdef inline View matrix_view(cnp.ndarray a) noexcept:
    return view(cnp.PyArray_BYTES(a), cnp.PyArray_STRIDES(a)[0], cnp.PyArray_STRIDES(a)[1], False)
