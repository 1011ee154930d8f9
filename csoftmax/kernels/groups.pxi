# groups.pxi - how the rows of a matrix (lanes x n) are cut into groups, and what is done with each.
#
# `run` chooses the form of the groups by layout, n and operation:
#     column form    up to MAX_VECTORS registers of rows side by side, each class a step
#     row form       ("fold") a few rows that are swept one by one, along their registers
# and whether they are worked on where they are ("direct"), by way of a dense tile, or packed; whether results go
# past the caches ("streamed"), at once or from memory aside while the next terms are found (outgoing.hpp), and what
# is asked for ahead. Threads share the groups or, where there are fewer long rows than threads, the chunks of each
# row; neither changes a bit of a result. `run_group` then calls the sweeps (sweeps.pxi), or what does without them
# (few_classes.pxi and few_classes.hpp, row_products.hpp), or does so along wide runs of rows (wide_columns.pxi).
from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc

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
    STREAMED_ROW = 32768   # and of each row, whose ends are not streamed,
    STREAMED_PAIR = 1536   # unless it takes two rows to make it;
    STREAMED_WIDE_ROW = 16384   # the same in registers of WIDE bytes
    STREAMED_RUN = 2048    # of each class in a group, which has ragged ends, too;
    ASIDE_BYTES = 131072   # of each matrix whose results go from memory aside, for parts to take turns;
    STREAMED_CLASSES = 512  # of columns where one entry is put right afterwards
    WIDE = 64              # bytes of a register from which on terms are found again sooner than read again
    SHORT_ROW = 256        # bytes of rows up to which a group in row form has two registers of WIDE bytes of rows: what
                           # is done across the lanes of one overlaps with the sweep over the other's
    GROUP_BYTES = 65536    # of rows that a group in row form has, which the second cache keeps, for what is done once for
                           # a register of rows to be done for many;
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


cdef void run(Operation operation, Problem& p, int threads) noexcept nogil:
    # Chooses form, group and threads, and goes over all groups.
    cdef Py_ssize_t W = lanes_of(tag)
    cdef Py_ssize_t n = max(p.n, <Py_ssize_t> 1)
    cdef Py_ssize_t vectors = (p.lanes + W - 1) // W
    cdef Py_ssize_t groups, g, row_vectors, most, room, size, rows = p.outer * p.lanes
    cdef Py_ssize_t row
    cdef bint fetched, aside = may_go_aside(operation, p, sizeof(real))
    cdef void* memory = NULL
    cdef real* packed
    set_end(p.x, p, sizeof(real))
    set_end(p.y, p, sizeof(real))
    set_end(p.out, p, sizeof(real))
    threads = <int> min(<Py_ssize_t> threads, rows * n // SHARE + 1)
    if operation == SAMPLE:
        sample_rows(p, threads)
        return
    p.row_threads = 1
    p.ahead = p.out_ahead = p.packed = p.head = p.aside = 0
    p.outgoing = NULL
    p.streamed = p.wide = False
    p.piecewise = p.n > CHUNK and not takes_pair(operation) and operation != ENTROPY
    p.kept = False
    row_vectors = p.lanes * ((n + W - 1) // W)
    if are_row_products(operation, p):
        p.width = 1
        p.tile_classes = n
        p.direct = True
        p.group = max(<Py_ssize_t> 1, min(CHUNK // n, rows // threads))
        row = n * <Py_ssize_t> sizeof(real)
        if aside:
            p.group = max(<Py_ssize_t> 1, FETCHED_GROUP // WIDE_PART // row)
        p.streamed = not aside and is_streamed(operation, p, sizeof(real))
        if rows * row > FETCHED_BYTES and row <= PAIR_BYTES:
            p.ahead = PRODUCTS_AHEAD if W * <Py_ssize_t> sizeof(real) < WIDE else WIDE_AHEAD
    elif are_wide_columns(operation, p):
        aside = False
        share_wide_columns(operation, p, threads)
    elif has_few_classes(operation, p) and lie_dense(tag, p.x, n):
        p.width = p.group = round_up(max(<Py_ssize_t> 1, min(<Py_ssize_t> FEW_ROWS, rows // threads)), W)
        p.tile_classes = n
        p.direct = aside = False
    elif W > 1 and (n <= FEW
                  or (n <= NARROW and operation == LOGSUMEXP and vectors * n <= row_vectors
                      and (n % W != 0 or n > WHOLE * W))
                  or (p.lanes > 1 and lanes_adjacent(p.x)
                      and vectors * n < GATHER * row_vectors)):
        vectors = max(<Py_ssize_t> 1, min(<Py_ssize_t> min(MAX_VECTORS, MAX_LANES // W),
                                                   p.outer * vectors // threads))
        room = PACKED_BYTES // threads // (sizeof(real) * tiles_of(operation, p) * W * n)
        if (lanes_adjacent(p.x) and vectors * n * W > TILE and n <= CHUNK
                and room * W * <Py_ssize_t> sizeof(real) >= 128
                and not (takes_pair(operation) and room < PACKED_WIDTH
                         and is_direct(operation, p, sizeof(real), True))):
            size = W * <Py_ssize_t> sizeof(real)
            room = max(min(room, PACKED_RUN // size), room // 2)
            vectors = min(vectors, room - room % max(<Py_ssize_t> 1, LINE // size))
            p.packed = tiles_of(operation, p) * W * n
        elif 2 * n * W <= TILE:               # two registers a class make a cache line
            room = TILE // 2 if aside and operation in (SOFTMAX, LOG_SOFTMAX) else TILE
            vectors = min(vectors, max(<Py_ssize_t> 2, room // (n * W * tiles_of(operation, p))))
        if not lanes_adjacent(p.x):
            vectors = min(vectors, max(<Py_ssize_t> 4, TRANSPOSED_BYTES // (n * W * <Py_ssize_t> sizeof(real))))
        if vectors * n * W > TILE:            # whole blocks in each tile
            vectors = min(vectors, max(<Py_ssize_t> 1, TILE // (W * W * BLOCK)))
        p.packed *= vectors
        p.width = p.group = vectors * W
        p.head = lanes_before_line(operation, p, sizeof(real))
        p.tile_classes = CHUNK
        while p.tile_classes * p.width > TILE:
            p.tile_classes //= 2
        if p.n * p.width <= TILE:
            p.tile_classes = n
        p.direct = (is_direct(operation, p, sizeof(real), True)
                    and pays_directly(operation, p, sizeof(real)))
        aside = (aside and operation in (SOFTMAX, LOG_SOFTMAX) and not has_few_classes(operation, p)
                 and not p.direct and p.packed == 0 and n <= p.tile_classes
                 and p.width * <Py_ssize_t> sizeof(real) % LINE == 0)
        p.streamed = not aside and is_streamed(operation, p, sizeof(real))
    else:
        p.width = p.group = 1
        p.tile_classes = CHUNK
        p.direct = is_direct(operation, p, sizeof(real), False) and sweeps_rows(tag, operation, p)
        if p.x.temperature != 1 and threads > 1 and rows < 2 * threads:
            p.direct = False
        aside = aside and p.direct and n <= CHUNK
        if p.direct:
            p.streamed = not aside and is_streamed(operation, p, sizeof(real))
            row = n * <Py_ssize_t> sizeof(real)
            p.kept = keeps_pieces(operation, p) and (
                W * <Py_ssize_t> sizeof(real) < WIDE
                or (rows * row < STREAMED_BYTES and is_one_wave(p)))
            # log_softmax asks for lines of its result with the terms, but in rows of two registers (rows.hpp)
            fetched = (writes_rows(operation) and p.out.data != NULL and not p.streamed and not aside
                       and (operation != LOG_SOFTMAX or n <= 2 * W)
                       and row <= FETCHED_ROW and rows * row > FETCHED_BYTES)
            room = FETCHED_GROUP if fetched or aside else GROUP_BYTES
            if W * <Py_ssize_t> sizeof(real) >= WIDE:
                room //= WIDE_PART
            elif threads > 1:
                room = max(room // WIDE_PART, min(room, rows // (FEW_GROUPS * threads) * row))
            if takes_pair(operation):
                room = PAIR_BYTES
            if p.n <= CHUNK:                  # whose sums are those of the whole row
                p.group = max(<Py_ssize_t> 1, min(room // (row * tiles_of(operation, p)), rows // threads))
            if p.group > W:                   # whole registers of rows
                most = MAX_VECTORS if W * <Py_ssize_t> sizeof(real) < WIDE else 2 if row <= SHORT_ROW else 1
                p.group = min(p.group // W, most) * W
            if p.piecewise and (p.lanes == 1 or not p.kept):
                p.ahead = CHUNK * sizeof(real)
            elif p.lanes > p.group:
                p.ahead = p.group * p.x.lane_stride
                if fetched:
                    p.out_ahead = p.group * p.out.lane_stride
            if p.kept and row > SECOND_CACHE:
                p.out_ahead = CHUNK * sizeof(real)
        if threads > 1 and rows < 2 * threads and p.n > 2 * CHUNK:
            p.row_threads = threads
            threads = 1
            if p.direct and p.piecewise and not (p.kept and is_one_wave(p)):
                p.ahead = wave_of_threads(p.row_threads) * CHUNK * <Py_ssize_t> sizeof(real)
        elif p.direct and keeps_pieces_aside(operation, p):
            p.packed = room_aside(p, threads)
    if aside:
        p.aside, p.group = p.group, min(p.lanes - p.head, (rows + threads - 1) // threads)
        if p.width > 1:
            p.group = round_up(p.group, p.aside)
        p.packed = 2 * room_of_results(p, sizeof(real))
    if p.packed and (p.wide or p.width == 1 or not p.direct):
        p.packed = round_up(p.packed, LINE // sizeof(real))
        memory = malloc(threads * p.packed * sizeof(real) + LINE)
    packed = <real*> aligned(memory)
    if packed == NULL:                        # or no memory: in tiles, again and again
        p.packed = 0
        if p.aside > 0:
            p.aside, p.group = 0, p.aside
        if p.wide:
            p.wide = p.direct = p.streamed = False
            p.group, p.head = W, 0
    groups = p.outer * groups_of_matrix(p)
    if threads == 1 or groups == 1:
        for g in range(groups):
            run_numbered_group(packed, operation, p, g)
    else:
        for g in prange(groups, num_threads=<int> min(groups, <Py_ssize_t> threads),
                        schedule="static"):
            run_numbered_group(packed + threadid() * p.packed, operation, p, g)
    free(memory)


cdef void run_numbered_group(real* packed, Operation operation, const Problem& p,
                             Py_ssize_t number) noexcept nogil:
    cdef Py_ssize_t groups = groups_of_matrix(p), W = lanes_of(tag)
    cdef Py_ssize_t outer = 0 if p.outer == 1 else number // groups
    cdef Py_ssize_t lane = (number - outer * groups) * p.group, end, width = p.width
    cdef Problem part
    if p.wide:
        end = p.lanes if number == (outer + 1) * groups - 1 else p.head + lane + p.group
        if lane > 0:
            lane += p.head
    else:
        if p.head > 0:
            lane = max(<Py_ssize_t> 0, lane - p.group + p.head)
        end = min(p.head if lane < p.head else lane + p.group, p.lanes)
    if p.width > 1 and p.aside == 0:          # no more registers than there are rows for
        width = (end - lane + W - 1) // W * W
    if outer == 0 and (p.wide or width == p.width):
        run_group(packed, operation, p, lane, end - lane)
    else:
        part = matrix(p, outer)
        part.width = width
        run_group(packed, operation, part, lane, end - lane)


cdef inline Py_ssize_t groups_of_matrix(const Problem& p) noexcept nogil:
    if p.wide:
        # less than a register that is left over belongs to the last one
        return max(<Py_ssize_t> 1, (p.lanes - p.head + p.group - p.width) // p.group)
    return (p.head > 0) + (p.lanes - p.head + p.group - 1) // p.group


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


cdef void run_group(real* packed, Operation operation, const Problem& p, Py_ssize_t lane,
                    Py_ssize_t lanes) noexcept nogil:
    cdef Scratch[real] scratch
    scratch.packed = packed
    cdef real at_label[MAX_LANES]
    cdef int64_t labels[MAX_LANES]
    cdef Row[real] rows[MAX_VECTORS]
    if p.aside > 0:
        run_aside(packed, operation, p, lane, lanes)
        return
    if p.direct and p.x.temperature != 1:
        run_divided(packed, operation, p, lane, lanes)
        return
    if are_row_products(operation, p):
        multiply_rows(&scratch.tiles[0][0], p, lane, lanes)
        return
    if p.wide:
        run_wide_columns(scratch, packed, operation, p, lane, lanes)
        return
    if p.width > 1 and has_few_classes(operation, p):
        run_few(scratch, operation, p, lane, lanes, rows)
        return
    run_rows(scratch, operation, p, lane, lanes, rows, labels, at_label)


cdef inline void run_rows(Scratch[real]& scratch, Operation operation, const Problem& p, Py_ssize_t lane,
                          Py_ssize_t lanes, Row[real]* rows, int64_t* labels, real* at_label) noexcept nogil:
    # The sweeps over a group, in the memory that is given for each of its rows.
    cdef real* x = &scratch.tiles[0][0]
    cdef bint ignored = False
    cdef Py_ssize_t vectors = vectors_of(p, lanes), v
    for v in range(vectors):
        start(rows[v], order_for(operation, p), operation in (CROSS_ENTROPY, ENTROPY))
    if p.label != NULL:
        ignored = read_labels(p, lane, lanes, labels)
        logits_at_labels(at_label, labels, ignored, p, lane, lanes)
    if p.piecewise:
        sweep_pieces(scratch, operation, p, lane, lanes, rows)
    else:
        if not takes_pair(operation):
            sweep_group(scratch, operation, MAXIMUM, p, lane, lanes, rows)
            set_anchors(&rows[0], vectors)
        sweep_group(scratch, operation, ADD_UP, p, lane, lanes, rows)
    if operation == CROSS_ENTROPY:
        find_losses_of_group(at_label, labels, ignored, p, lane, lanes, rows)
        if p.out.data != NULL:
            sweep_group(scratch, CROSS_ENTROPY, WRITE, p, lane, lanes, rows)
            if p.label != NULL:
                write_at_labels(at_label, labels, ignored, p, lane, lanes, 0, p.n)
        return
    prepare_writing(operation, p.n, rows, vectors)
    if operation == TOPK:
        find_top(scratch, p, lane, lanes, rows)
        return
    if operation == LOGSUMEXP:
        sum_again(scratch, p, lane, lanes, rows)
    if writes_rows(operation):
        sweep_group(scratch, operation, WRITE, p, lane, lanes, rows)
    else:
        for v in range(vectors):
            store(x + v * lanes_of(x), rows[v].factor)
        store_tile(x, p.out, lane, lanes, 0, 1, vectors * lanes_of(x), <real> 0)


cdef void run_aside(real* packed, Operation operation, const Problem& p, Py_ssize_t lane,
                    Py_ssize_t lanes) noexcept nogil:
    # In parts, the results of which go out while the next one's terms are computed.
    cdef Problem part = p, rest
    cdef Py_ssize_t stride = p.out.lane_stride, count, size = sizeof(real)
    cdef char* out = p.out.data + lane * stride
    cdef Outgoing results = outgoing(packed, room_of_results(p, size) * size)
    part.aside = part.packed = 0
    rest = part
    part.outgoing = &results
    if p.out.class_stride == size:
        begin_rows(results, out)
    else:
        part.out.class_stride = p.aside * size
    while lanes > 0:
        count = min(p.aside, lanes)
        part.out.data = place_of_results(results) - lane * stride
        if p.out.class_stride == size:
            part.width = 1 if p.width == 1 else round_up(count, lanes_of(packed))
            run_group(<real*> NULL, operation, part, lane, count)
            send_rows(results, count * stride)
        elif count == p.aside and <Py_ssize_t> out % LINE == 0:
            run_group(<real*> NULL, operation, part, lane, count)
            send_columns(results, out, p.n, count * size, p.out.class_stride)
        else:
            rest.width = round_up(count, lanes_of(packed))
            run_group(<real*> NULL, operation, rest, lane, count)
        lane += count
        lanes -= count
        out += count * stride
    end_sending(results)


cdef void sum_again(Scratch[real]& scratch, const Problem& p, Py_ssize_t lane, Py_ssize_t lanes,
                    Row[real]* rows) noexcept nogil:
    # factor <- logsumexp of the rows that a first sum does not do for
    cdef Columns[real] x
    cdef bint fold = p.width == 1, again = False
    cdef Py_ssize_t vectors = vectors_of(p, lanes), v
    if not fold and p.n <= FEW:            # which lie in the tile, or where they always do
        x.data, x.stride, x.dense = &scratch.tiles[0][0], p.width, False
        if p.direct and lanes == p.width:
            x.data = <real*> (p.x.data + lane * p.x.lane_stride)
            x.stride = p.x.class_stride // <Py_ssize_t> sizeof(real)
        sum_some_again(x, p.n, vectors, rows)
        return
    for v in range(vectors):
        again = again or any_again(rows[v])
    if again:
        for v in range(vectors):
            rows[v].sum = exact(broadcast(<real> 0))
        sweep_group(scratch, LOGSUMEXP_AGAIN, ADD_UP, p, lane, lanes, rows)
        for v in range(vectors):
            rows[v].factor = logsumexp_again(rows[v], rows[v].factor)


cdef inline void prepare_writing(Operation operation, Py_ssize_t n, Row[real]* rows, Py_ssize_t vectors) noexcept nogil:
    cdef Py_ssize_t v
    if n == 1:              # e / e, so that a single class gets exactly 1
        for v in range(vectors):
            rows[v].anchor.peak = exact(rows[v].anchor.peak.value)
    if operation in (LOG_SOFTMAX, TOPK):
        find_offsets(rows, vectors)
    elif operation == LOGSUMEXP:
        find_logsumexp(rows, vectors)
    else:
        for v in range(vectors):
            prepare_register(operation, n, &rows[v])


cdef inline void prepare_register(Operation operation, Py_ssize_t n, Row[real]* row) noexcept nogil:
    if operation == SOFTMAX:
        row.divisor = make_divisor(sum_of_terms(row[0], False))
    elif operation == ENTROPY:
        row.factor = row_entropy(row[0])
    elif operation == CCE:
        row.factor = broadcast(<real> 0) - rounded(row.sum)
    elif operation == SOFTMAX_VJP and n <= PLAIN:
        row.sum = exact(row.sum.value)
    elif operation == LOG_SOFTMAX_VJP:
        row.factor = rounded(row.sum)
