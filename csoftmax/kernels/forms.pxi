# forms.pxi - what form the groups of rows of a matrix (lanes x n) have, by layout, n and operation.
#
#     column form    up to MAX_VECTORS registers of rows side by side, each class a step
#     row form       ("fold") a few rows that are swept one by one, along their registers
# And whether they are worked on where they are ("direct"), by way of a dense tile, or packed; whether results go
# past the caches ("streamed"), at once or from memory aside while the next terms are found (outgoing.hpp), and what
# is asked for ahead. Threads share the groups or, where there are fewer long rows than threads, the chunks of each
# row. None of this changes a bit of a result.

cdef enum:
    TRANSPOSED_BYTES = 3072  # of rows that are transposed together, four registers at least
    FEW_ROWS = 1024        # of few classes that are transposed in registers;
    NARROW = 48            # contiguous rows up to here are worth transposing if nothing is written,
    WHOLE = 8              # unless they are so many whole registers or fewer;
    GATHER = 2             # times the work of a register that is gathered entry by entry
    IN_PLACE = 16          # classes of columns that need no tile;
    PAIR_IN_PLACE = 524288  # nor bytes of a pair of operands, which the second cache keeps,
    WAY = 4096             # unless classes are a multiple of these bytes apart and share few sets;
    PACKED_WIDTH = 4       # nor a pair that could be packed in fewer registers of rows
    PACKED_BYTES = 1048576  # for all classes of all threads' groups, if a tile is too small: half of
    PACKED_RUN = 256       # it beyond these bytes a class, as caches hold what comes next as well
    STREAMED_BYTES = 16000000  # of a result, half of a usual last-level cache
    STREAMED_ROW = 1048576  # and of each row, which the second cache keeps for the writing sweep if it is shorter,
    STREAMED_PAIR = 1536   # unless it takes two rows to make it;
    STREAMED_WIDE_ROW = 16384   # the same in registers of WIDE bytes
    STREAMED_RUN = 2048    # of each class in a group, which has ragged ends, too;
    ASIDE_BYTES = 131072   # of each matrix whose results go from memory aside, for parts to take turns;
    STREAMED_CLASSES = 512  # of columns where one entry is put right afterwards
    WIDE = 64              # bytes of a register from which on terms are found again sooner than read again
    SHORT_ROW = 256        # bytes of rows up to which a group in row form has two registers of WIDE bytes of rows: what
                           # is done across the lanes of one overlaps with the sweep over the other's
    GROUP_BYTES = 65536    # of rows that a group in row form has, which the second cache keeps, for what is done
                           # once for a register of rows to be done for many;
    FETCHED_GROUP = 32768  # where lines of the next result are asked for before it is written, or go past the caches;
    WIDE_PART = 4          # a fourth of both in registers of WIDE bytes, and where a thread has less than
    FEW_GROUPS = 4         # so many groups;
    FETCHED_BYTES = 1048576  # of rows beyond which that is done, for
    FETCHED_ROW = 131072   # rows up to these;
    SECOND_CACHE = 524288  # within rows beyond this, a chunk before they are written
    PRODUCTS_AHEAD = 1600  # bytes to the next rows of products that are asked for,
    WIDE_AHEAD = 768       # in registers of WIDE bytes
    PAIR_BYTES = 4096      # where memory is all that takes time, reads and writes take turns sooner
    SHARE = 16384          # entries that each thread gets at least


cdef int choose_form(Operation operation, Problem& p, int threads) noexcept nogil:
    # Returns how many threads share the groups.
    cdef Py_ssize_t size = sizeof(real), rows = p.outer * p.lanes
    cdef bint aside = may_go_aside(operation, p, size)
    p.row_threads = 1
    p.ahead = p.out_ahead = p.packed = p.head = p.aside = 0
    p.outgoing = NULL
    p.streamed = p.wide = p.direct = p.kept = False
    p.piecewise = p.n > CHUNK and not takes_pair(operation) and operation != ENTROPY
    if are_row_products(operation, p):
        share_row_products(operation, p, threads, aside)
    elif are_wide_columns(operation, p):
        aside = False
        share_wide_columns(operation, p, threads)
    elif has_few_classes(operation, p) and lie_dense(tag, p.x, p.n):
        aside = False
        share_dense_rows(p, threads)
    elif are_columns(operation, p):
        aside = share_columns(operation, p, threads, aside)
    else:
        aside = share_rows(operation, p, threads, aside)
        if p.row_threads > 1:
            threads = 1
    if aside:
        p.aside, p.group = p.group, min(p.lanes - p.head, (rows + threads - 1) // threads)
        if p.width > 1:
            p.group = round_up(p.group, p.aside)
        p.packed = 2 * room_of_results(p, size)
    return threads


cdef inline void share_row_products(Operation operation, Problem& p, int threads, bint aside) noexcept nogil:
    cdef Py_ssize_t n = max(p.n, <Py_ssize_t> 1), row = n * <Py_ssize_t> sizeof(real), rows = p.outer * p.lanes
    p.width = 1
    p.tile_classes = n
    p.direct = True
    p.group = max(<Py_ssize_t> 1, min(CHUNK // n, rows // threads))
    if aside:
        p.group = max(<Py_ssize_t> 1, FETCHED_GROUP // WIDE_PART // row)
    p.streamed = not aside and is_streamed(operation, p, sizeof(real))
    if rows * row > FETCHED_BYTES and row <= PAIR_BYTES:
        p.ahead = PRODUCTS_AHEAD if REGISTER_BYTES < WIDE else WIDE_AHEAD


cdef inline void share_dense_rows(Problem& p, int threads) noexcept nogil:
    # Of few classes, which are transposed in registers.
    cdef Py_ssize_t each = p.outer * p.lanes // threads
    p.width = p.group = round_up(max(<Py_ssize_t> 1, min(<Py_ssize_t> FEW_ROWS, each)), lanes_of(tag))
    p.tile_classes = p.n


cdef inline bint are_columns(Operation operation, const Problem& p) noexcept nogil:
    # Whether rows go side by side, transposed if need be.
    cdef Py_ssize_t W = lanes_of(tag), n = max(p.n, <Py_ssize_t> 1), vectors = (p.lanes + W - 1) // W
    cdef Py_ssize_t row_vectors = p.lanes * ((n + W - 1) // W)
    if W == 1:
        return False
    if n <= FEW:
        return True
    if (n <= NARROW and operation == LOGSUMEXP and vectors * n <= row_vectors
            and (n % W != 0 or n > WHOLE * W)):
        return True
    return p.lanes > 1 and lanes_adjacent(p.x) and vectors * n < GATHER * row_vectors


cdef inline bint share_columns(Operation operation, Problem& p, int threads, bint aside) noexcept nogil:
    # Returns whether results can go from memory aside.
    cdef Py_ssize_t size = sizeof(real), W = lanes_of(tag), n = max(p.n, <Py_ssize_t> 1), room
    cdef Py_ssize_t vectors = p.outer * ((p.lanes + W - 1) // W) // threads
    vectors = max(<Py_ssize_t> 1, min(<Py_ssize_t> min(MAX_VECTORS, MAX_LANES // W), vectors))
    room = PACKED_BYTES // threads // (size * tiles_of(operation, p) * W * n)
    if (lanes_adjacent(p.x) and vectors * n * W > TILE and n <= CHUNK
            and room * W * size >= 128
            and not (takes_pair(operation) and room < PACKED_WIDTH and is_direct(operation, p, size, True))):
        room = max(min(room, PACKED_RUN // (W * size)), room // 2)
        vectors = min(vectors, room - room % max(<Py_ssize_t> 1, LINE // (W * size)))
        p.packed = tiles_of(operation, p) * W * n
    elif 2 * n * W <= TILE:                   # two registers a class make a cache line
        room = TILE // 2 if aside and operation in (SOFTMAX, LOG_SOFTMAX) else TILE
        vectors = min(vectors, max(<Py_ssize_t> 2, room // (n * W * tiles_of(operation, p))))
    if not lanes_adjacent(p.x):
        vectors = min(vectors, max(<Py_ssize_t> 4, TRANSPOSED_BYTES // (n * W * size)))
    if vectors * n * W > TILE:                # whole blocks in each tile
        vectors = min(vectors, max(<Py_ssize_t> 1, TILE // (W * W * BLOCK)))
    p.packed *= vectors
    p.width = p.group = vectors * W
    p.head = lanes_before_line(operation, p, size)
    p.tile_classes = CHUNK
    while p.tile_classes * p.width > TILE:
        p.tile_classes //= 2
    if p.n * p.width <= TILE:
        p.tile_classes = n
    p.direct = is_direct(operation, p, size, True) and pays_directly(operation, p, size)
    aside = (aside and operation in (SOFTMAX, LOG_SOFTMAX) and not has_few_classes(operation, p)
             and not p.direct and p.packed == 0 and n <= p.tile_classes and p.width * size % LINE == 0)
    p.streamed = not aside and is_streamed(operation, p, size)
    return aside


cdef inline bint share_rows(Operation operation, Problem& p, int threads, bint aside) noexcept nogil:
    # Returns whether results can go from memory aside.
    cdef Py_ssize_t rows = p.outer * p.lanes
    p.width = p.group = 1
    p.tile_classes = CHUNK
    p.direct = is_direct(operation, p, sizeof(real), False) and sweeps_rows(tag, operation, p)
    if p.x.temperature != 1 and threads > 1 and rows < 2 * threads:
        p.direct = False
    aside = aside and p.direct and p.n <= CHUNK
    if p.direct:
        group_rows(operation, p, threads, aside)
    if threads > 1 and rows < 2 * threads and p.n > 2 * CHUNK:
        p.row_threads = threads
        if p.direct and p.piecewise and not (p.kept and is_one_wave(p)):
            p.ahead = wave_of_threads(p.row_threads) * CHUNK * <Py_ssize_t> sizeof(real)
    elif p.direct and keeps_pieces_aside(operation, p):
        p.packed = room_aside(p, threads)
    if p.direct and keeps_maxima_aside(p, threads):
        p.packed = maxima_aside(p)
    return aside


cdef inline void group_rows(Operation operation, Problem& p, int threads, bint aside) noexcept nogil:
    # How many of them make a group where they are, and what is asked for ahead.
    cdef Py_ssize_t W = lanes_of(tag), row = max(p.n, <Py_ssize_t> 1) * <Py_ssize_t> sizeof(real)
    cdef Py_ssize_t rows = p.outer * p.lanes, room, most
    cdef bint fetched
    p.streamed = not aside and is_streamed(operation, p, sizeof(real))
    p.kept = keeps_pieces(operation, p) and (
        REGISTER_BYTES < WIDE or (rows * row < STREAMED_BYTES and is_one_wave(p)))
    # log_softmax asks for lines of its result with the terms, but in rows of two registers (rows.hpp)
    fetched = (writes_rows(operation) and p.out.data != NULL and not p.streamed and not aside
               and (operation != LOG_SOFTMAX or p.n <= 2 * W)
               and row <= FETCHED_ROW and rows * row > FETCHED_BYTES)
    room = FETCHED_GROUP if fetched or aside else GROUP_BYTES
    if REGISTER_BYTES >= WIDE:
        room //= WIDE_PART
    elif threads > 1:
        room = max(room // WIDE_PART, min(room, rows // (FEW_GROUPS * threads) * row))
    if takes_pair(operation):
        room = PAIR_BYTES
    if p.n <= CHUNK:                          # whose sums are those of the whole row
        p.group = max(<Py_ssize_t> 1, min(room // (row * tiles_of(operation, p)), rows // threads))
    if p.group > W:                           # whole registers of rows
        most = MAX_VECTORS if REGISTER_BYTES < WIDE else 2 if row <= SHORT_ROW else 1
        p.group = min(p.group // W, most) * W
    if p.piecewise and (p.lanes == 1 or not p.kept):
        p.ahead = CHUNK * sizeof(real)
    elif p.lanes > p.group:
        p.ahead = p.group * p.x.lane_stride
        if fetched:
            p.out_ahead = p.group * p.out.lane_stride
    if p.kept and row > SECOND_CACHE:
        p.out_ahead = CHUNK * sizeof(real)


cdef inline Py_ssize_t lanes_before_line(Operation operation, const Problem& p,
                                         Py_ssize_t size) noexcept nogil:
    # Of columns whose classes are whole lines of the cache apart; the result, if that has columns. No more
    # than a group has, which would be passed over.
    cdef View view = p.out if p.out.data != NULL and writes_rows(operation) else p.x
    cdef Py_ssize_t distance = view.class_stride | (0 if p.outer == 1 else view.outer_stride)
    if p.lanes < 2 * p.group or p.group * size < LINE or view.lane_stride != size or distance % LINE != 0:
        return 0
    return (-<Py_ssize_t> view.data & (LINE - 1)) // size


cdef bint is_direct(Operation operation, const Problem& p, Py_ssize_t size,
                    bint columns) noexcept nogil:
    # Whether all operands hold neighbouring classes (columns: rows) side by side, and the terms can
    # be kept in `out`: the target probabilities are still needed then.
    # Quotients go by way of the tile, or row by row to where softmax and log_softmax put their result.
    if p.x.temperature != 1 and (columns or operation not in (SOFTMAX, LOG_SOFTMAX)):
        return False
    if operation == CROSS_ENTROPY and p.label == NULL and p.out.data == p.y.data:
        return False
    if not lies_directly(p.x, size, columns) or (takes_pair(operation) and not lies_directly(p.y, size, columns)):
        return False
    return not writes_rows(operation) or p.out.data == NULL or lies_directly(p.out, size, columns)


cdef inline bint lies_directly(const View& view, Py_ssize_t size, bint columns) noexcept nogil:
    # Neighbours side by side, and the others whole entries apart.
    cdef Py_ssize_t neighbours = view.lane_stride if columns else view.class_stride
    return plain(view, neighbours, size) and view.lane_stride % size == 0 and view.class_stride % size == 0


cdef bint pays_directly(Operation operation, const Problem& p, Py_ssize_t size) noexcept nogil:
    # Whether a group of columns is better left where it is than copied to tiles.
    if p.n <= IN_PLACE:
        return True
    if takes_pair(operation) and p.x.class_stride % WAY != 0:
        if 2 * p.n * p.width * size <= PAIR_IN_PLACE:
            return True
    # Otherwise it is copied for each sweep, and the terms are found twice.
    if p.packed or p.n <= p.tile_classes:
        return False
    return takes_pair(operation) or keeps_terms(operation)


cdef inline bint is_aligned(const View& view, Py_ssize_t size) noexcept nogil:
    # Whether every row begins at an address that is one of an entry.
    return (<Py_ssize_t> view.data | view.lane_stride | view.outer_stride) & (size - 1) == 0


cdef inline Py_ssize_t streamed_row(Operation operation) noexcept nogil:
    if takes_pair(operation):
        return STREAMED_PAIR
    return STREAMED_ROW if REGISTER_BYTES < WIDE else STREAMED_WIDE_ROW


cdef inline bint may_go_aside(Operation operation, const Problem& p, Py_ssize_t size) noexcept nogil:
    # Whether results can go past the caches from memory aside: of neighbouring rows, or of columns whose classes are
    # whole lines of the cache apart.
    if not SENDS or p.outer * p.lanes * p.n * size < STREAMED_BYTES or p.lanes * p.n * size < ASIDE_BYTES:
        return False
    if operation not in (SOFTMAX, LOG_SOFTMAX, SOFTMAX_VJP, CROSS_ENTROPY) or p.x.temperature != 1:
        return False
    if p.out.data == NULL or p.out.data == p.x.data or p.out.data == p.y.data or not is_aligned(p.out, size):
        return False
    if plain(p.out, p.out.lane_stride, size):
        return p.out.class_stride % LINE == 0
    return plain(p.out, p.out.class_stride, size) and p.out.lane_stride == p.n * size


cdef inline Py_ssize_t room_of_results(const Problem& p, Py_ssize_t size) noexcept nogil:
    # Entries for those of a part, and for what comes before them in their first line.
    return round_up(p.aside * p.n, LINE // size) + LINE // size


cdef bint is_streamed(Operation operation, const Problem& p, Py_ssize_t size) noexcept nogil:
    # Whether the writing sweep goes past the caches: what it writes would not fit there, and is
    # neither an operand nor read again.
    if p.out.data == NULL or not writes_rows(operation) or not is_aligned(p.out, size):
        return False
    if p.width == 1 and (not p.direct
                         or p.n * size < streamed_row(operation)
                         or (keeps_terms(operation) and not p.piecewise)):
        return False
    if p.width > 1 and (not writes_columns(operation, p, size) or p.out.class_stride % LINE != 0
                        or (p.direct and keeps_terms(operation) and not p.piecewise)
                        or (p.label != NULL and p.n < STREAMED_CLASSES)):
        return False
    return (p.outer * p.lanes * p.n * size >= STREAMED_BYTES
            and p.out.data != p.x.data and not (takes_pair(operation) and p.out.data == p.y.data))


cdef inline bint are_row_products(Operation operation, const Problem& p) noexcept nogil:
    # Whether rows are multiplied where they are.
    cdef Py_ssize_t size = sizeof(real)
    if operation != SOFTMAX_VJP or not multiplies_rows(tag, p):
        return False
    return (is_direct(operation, p, size, False) and is_aligned(p.x, size) and is_aligned(p.y, size)
            and is_aligned(p.out, size))
