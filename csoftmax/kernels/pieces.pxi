# pieces.pxi - cross-entropy of logits that are made, and used up, piece by piece; for linear.py.
#
# The sweeps of sweeps.pxi, with the classes outermost: while a piece of them is in the cache, its
# maxima and then its sums, which raise_anchor() joins to those before. After the last piece the
# losses; then the gradient, a piece at a time, with the terms found once more. In between, the Row
# of each register of samples is kept, and the gradient at each label.

PIECE = int(CHUNK)    # classes: then sums are taken in the order that they always have

cdef enum:
    STRIPE = 256      # classes that are written together

cdef enum Step:
    START_ROWS
    ADD_PIECE
    FIND_LOSSES
    WRITE_PIECE


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
        self.memory = <char*> malloc(self.room())
        if self.memory == NULL:
            raise MemoryError("csoftmax: no memory for the sums of a block of samples")
        self.take(START_ROWS, 0, 0)

    def __dealloc__(self):
        free(self.memory)

    cdef Py_ssize_t room(self):
        if self.dtype == b'f':
            return bytes_of_rows(<float*> NULL, self.p.lanes)
        if self.dtype == b'd':
            return bytes_of_rows(<double*> NULL, self.p.lanes)
        return bytes_of_rows(<long double*> NULL, self.p.lanes)

    cdef void take(self, Step step, Py_ssize_t first, Py_ssize_t last):
        cdef Py_ssize_t entries = self.p.lanes * (last - first)
        cdef int threads = <int> min(<Py_ssize_t> get_num_threads(), entries // SHARE + 1)
        cdef char* memory = aligned(self.memory)
        with nogil:
            if self.dtype == b'f':
                take_step(<float*> NULL, memory, step, self.p, first, last, threads)
            elif self.dtype == b'd':
                take_step(<double*> NULL, memory, step, self.p, first, last, threads)
            else:
                take_step(<long double*> NULL, memory, step, self.p, first, last, threads)

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


cdef Py_ssize_t bytes_of_rows(real* tag, Py_ssize_t lanes) noexcept nogil:
    cdef Py_ssize_t W = lanes_of(tag), vectors = (lanes + W - 1) // W
    return vectors * (sizeof(Row[real]) + W * sizeof(real)) + LINE


cdef void take_step(real* tag, char* memory, Step step, Problem& p, Py_ssize_t first,
                    Py_ssize_t last, int threads) noexcept nogil:
    # Over all groups of samples, as many for each thread; to write, over all stripes of the classes
    # and in each over all groups: then a thread has the classes that it has in the products.
    cdef Py_ssize_t W = lanes_of(tag), vectors = (p.lanes + W - 1) // W, group, groups, g, i
    cdef Py_ssize_t stripe = STRIPE if step == WRITE_PIECE else max(<Py_ssize_t> 1, last - first)
    cdef Py_ssize_t visits, j
    cdef Row[real]* rows = <Row[real]*> memory
    cdef real* at_label = <real*> (rows + vectors)
    if step == START_ROWS:
        for g in range(vectors):
            start_pieces(rows[g], order_of(tag, W == 1, p.n, False), True)
            store(at_label + g * W, broadcast(<real> 0))
        return
    group = min(<Py_ssize_t> MAX_VECTORS, max(<Py_ssize_t> 1, TILE // (W * W * BLOCK)))
    group = 1 if W == 1 else min(group, <Py_ssize_t> MAX_LANES // W)
    groups = ((vectors + group - 1) // group + threads - 1) // threads * threads
    group = (vectors + groups - 1) // groups
    groups = (vectors + group - 1) // group
    p.group = group * W
    p.tile_classes = CHUNK
    while p.tile_classes * p.group > TILE:
        p.tile_classes //= 2
    p.direct = W > 1 and is_direct(CROSS_ENTROPY, p, sizeof(real), True)
    visits = groups * max(<Py_ssize_t> 1, (last - first + stripe - 1) // stripe)
    if threads == 1:                          # no parallel region: this may be a forked child
        for i in range(visits):
            g = i % groups
            j = first + i // groups * stripe
            take_step_of_group(rows + g * group, at_label + g * p.group, step, p, g * p.group, j,
                               min(j + stripe, last))
    else:
        for i in prange(visits, num_threads=threads, schedule="static"):
            g = i % groups
            j = first + i // groups * stripe
            take_step_of_group(rows + g * group, at_label + g * p.group, step, p, g * p.group, j,
                               min(j + stripe, last))


cdef void take_step_of_group(Row[real]* rows, real* at_label, Step step, const Problem& whole,
                             Py_ssize_t lane, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Scratch[real] scratch
    cdef int64_t labels[MAX_LANES]
    cdef Problem p = whole
    cdef Py_ssize_t W = lanes_of(at_label), lanes = min(p.group, p.lanes - lane), v
    p.width = (lanes + W - 1) // W * W
    scratch.packed = NULL
    if step == ADD_PIECE:
        sweep_classes(scratch, CROSS_ENTROPY, MAXIMUM, p, lane, lanes, first, last, rows)
        for v in range(p.width // W):
            raise_anchor(rows[v], W == 1, has_weights(p))
        sweep_classes(scratch, CROSS_ENTROPY, ADD_UP, p, lane, lanes, first, last, rows)
        return
    if p.label != NULL:
        read_labels(p, lane, lanes, labels)
    if step == FIND_LOSSES:
        if p.label != NULL:
            logits_at_labels(at_label, labels, False, p, lane, lanes)
        find_losses(at_label, labels, False, p, lane, lanes, rows)
        return
    sweep_classes(scratch, CROSS_ENTROPY, WRITE, p, lane, lanes, first, last, rows)
    if p.label != NULL:
        write_at_labels(at_label, labels, False, p, lane, lanes, first, last)
