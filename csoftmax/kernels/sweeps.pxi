# sweeps.pxi - how a kernel goes over a matrix of rows (lanes x n).
#
# A group is one row (row form, "fold") or up to MAX_VECTORS registers of rows side by side (column
# form); a tile holds a chunk of it, dense. Every kernel is three sweeps over the chunks of a group:
#     MAXIMUM   the largest entry                       x -> row.max
#     ADD_UP    what is summed along the classes        x, y, row.anchor -> row.sum, ...
#     WRITE     the result                              x, y, row.factor, row.offset -> out
# A group that fits one tile is loaded once and stored once. Threads share the groups, or, where
# there are fewer long rows than threads, the chunks of each row; neither changes a bit of a result.
from cython.parallel cimport prange

cdef enum:
    MAX_VECTORS = 8
    TILE = 4096            # entries of a tile; Scratch in tile.hpp
    SHORT = 32             # rows up to here are worth transposing into column form
    WAVE = 64              # chunks of one row between two additions of their sums
    SERIAL_BELOW = 65536   # entries that do not pay for waking threads

cdef enum Operation:
    SOFTMAX
    LOG_SOFTMAX
    LOGSUMEXP
    SOFTMAX_VJP
    LOG_SOFTMAX_VJP
    CROSS_ENTROPY
    CCE
    CCE_GRADIENT

cdef enum Sweep:
    MAXIMUM
    ADD_UP
    WRITE


cdef inline void visit(real* x, real* y, Operation operation, Sweep sweep, const Problem& p,
                       Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t j0, Py_ssize_t j1,
                       Row[real]* rows) noexcept nogil:
    # One sweep over the classes j0 <= j < j1 of one group, in the tiles x and y.
    cdef bint fold = p.width == 1
    cdef bint only = p.n <= p.tile_classes      # what an earlier sweep left in the tiles is ours
    cdef bint pair = takes_pair(operation)
    cdef Py_ssize_t W = lanes_of(x), block = block_of(x)
    cdef Py_ssize_t vectors = 1 if fold else p.width // W
    cdef Py_ssize_t stride = W * vectors
    cdef Py_ssize_t v, j, end, at, steps
    cdef real fill = 0 if pair else -INFINITY

    if sweep == MAXIMUM or not only or (sweep == ADD_UP and pair):
        load_tile(x, p.x, lane, lanes, j0, j1, p.width, fill)
    if sweep != MAXIMUM and (not only or sweep == ADD_UP):
        if pair:
            load_tile(y, p.y, lane, lanes, j0, j1, p.width, <real> 0)
        elif operation == CROSS_ENTROPY and has_weights(p):
            load_target_weights(y, p, lane, lanes, j0, j1)

    if sweep == MAXIMUM:
        for v in range(vectors):
            find_maximum(x + v * W, tile_steps(j1 - j0, W, fold), stride, rows + v)
        return
    if sweep == WRITE:
        for v in range(vectors):
            write_result(x + v * W, y + v * W, operation, p, tile_steps(j1 - j0, W, fold), stride,
                         only, rows + v)
        store_tile(x, p.out, lane, lanes, j0, j1, p.width,
                   <real> -INFINITY if operation == LOG_SOFTMAX else <real> 0)
        return
    j = j0
    while j < j1:                               # block by block, see summation.hpp
        end = min(j1, (j // block + 1) * block)
        at = (j - j0) * p.width
        steps = tile_steps(end - j, W, fold)
        for v in range(vectors):
            add_up(x + at + v * W, y + at + v * W, operation, p, steps, stride, only, j, rows + v)
            if end % block == 0 or end == p.n:
                end_block(rows[v], fold, operation == CROSS_ENTROPY and has_weights(p))
            if end % CHUNK == 0 or end == p.n:
                end_chunk(rows[v], operation == CROSS_ENTROPY and has_weights(p))
        j = end


cdef inline bint takes_pair(Operation operation) noexcept nogil:
    # Two (lanes, n) operands and nothing to do with a maximum.
    return operation != CROSS_ENTROPY and operation >= SOFTMAX_VJP


cdef inline Py_ssize_t tile_steps(Py_ssize_t classes, Py_ssize_t W, bint fold) noexcept nogil:
    # Registers, one below the other, that hold so many classes.
    return (classes + W - 1) // W if fold else classes


cdef inline void find_maximum(const real* x, Py_ssize_t steps, Py_ssize_t stride,
                              Row[real]* row) noexcept nogil:
    # Four running maxima: one alone would wait for itself. A NaN may get lost here: its term won't.
    cdef Vec[real] a = row.max, b = row.max, c = row.max, d = row.max
    cdef Py_ssize_t i = 0
    while i + 4 <= steps:
        a = vec_max(a, load(x + i * stride))
        b = vec_max(b, load(x + (i + 1) * stride))
        c = vec_max(c, load(x + (i + 2) * stride))
        d = vec_max(d, load(x + (i + 3) * stride))
        i += 4
    while i < steps:
        a = vec_max(a, load(x + i * stride))
        i += 1
    row.max = vec_max(vec_max(a, b), vec_max(c, d))


cdef inline void add_up(real* x, const real* y, Operation operation, const Problem& p,
                        Py_ssize_t steps, Py_ssize_t stride, bint keep, Py_ssize_t j,
                        Row[real]* row) noexcept nogil:
    # Term number i of a column goes to partial sum i mod W; a row has its partial sums in lanes.
    cdef Py_ssize_t mask = 0 if p.width == 1 else lanes_of(x) - 1
    if operation == SOFTMAX_VJP:
        add_products(x, y, steps, stride, mask, j, row)
    elif operation == LOG_SOFTMAX_VJP:
        add_entries(y, steps, stride, mask, j, row)
    elif operation == CCE:
        add_cce(x, y, steps, stride, mask, j, row)
    elif operation != CCE_GRADIENT:
        if operation == CROSS_ENTROPY and has_weights(p):
            add_weights(x, y, steps, stride, mask, j, row)
        add_terms(x, steps, stride, mask, j,
                  keep and (operation == SOFTMAX or operation == CROSS_ENTROPY), row)


cdef inline void write_result(real* x, const real* y, Operation operation, const Problem& p,
                              Py_ssize_t steps, Py_ssize_t stride, bint kept,
                              const Row[real]* row) noexcept nogil:
    # The result takes the place of x in its tile.
    if operation == SOFTMAX:
        write_softmax(x, steps, stride, kept, row)
    elif operation == LOG_SOFTMAX:
        write_log_softmax(x, steps, stride, row)
    elif operation == SOFTMAX_VJP:
        write_softmax_vjp(x, y, steps, stride, row)
    elif operation == LOG_SOFTMAX_VJP:
        write_log_softmax_vjp(x, y, steps, stride, row)
    elif operation == CCE_GRADIENT:
        write_cce_gradient(x, y, steps, stride)
    elif operation == CROSS_ENTROPY:
        write_cross_entropy_gradient(x, y, has_weights(p), steps, stride, kept, row)


cdef void visit_apart(real* tag, Operation operation, Sweep sweep, const Problem& p,
                      Py_ssize_t lane, Py_ssize_t j0, Row[real]* whole,
                      ChunkOfRow[real]* chunk) noexcept nogil:
    # One chunk of a long row, in tiles of its own; what it finds goes to `chunk`.
    cdef Scratch[real] scratch
    cdef Row[real] row
    if sweep == WRITE:
        row = whole[0]
    else:
        start(row, True)
        row.anchor = whole.anchor
        row.max = whole.max
    visit(&scratch.tiles[0][0], &scratch.tiles[1][0], operation, sweep, p, lane, 1,
          j0, min(j0 + CHUNK, p.n), &row)
    if sweep != WRITE:
        chunk[0] = take_chunk(row)


cdef inline void sweep_group(real* x, real* y, Operation operation, Sweep sweep, const Problem& p,
                             Py_ssize_t lane, Py_ssize_t lanes, Row[real]* rows) noexcept nogil:
    cdef ChunkOfRow[real] chunks[WAVE]
    cdef Py_ssize_t first, j, i, count
    if p.n <= p.tile_classes or p.width != 1:
        j = 0
        while True:  # once for n = 0
            visit(x, y, operation, sweep, p, lane, lanes, j, min(j + p.tile_classes, p.n), rows)
            j += p.tile_classes
            if j >= p.n:
                return
    first = 0
    while first < p.n:
        count = min(<Py_ssize_t> WAVE, (p.n - first + CHUNK - 1) // CHUNK)
        if p.row_threads == 1:
            for i in range(count):
                visit_apart(x, operation, sweep, p, lane, first + i * CHUNK, rows, &chunks[i])
        else:
            for i in prange(count, num_threads=p.row_threads, schedule="static"):
                visit_apart(x, operation, sweep, p, lane, first + i * CHUNK, rows, &chunks[i])
        if sweep != WRITE:
            for i in range(count):
                add_chunk(rows[0], chunks[i])
        first += count * CHUNK


cdef void run_group(real* tag, Operation operation, const Problem& p, Py_ssize_t lane,
                    Py_ssize_t lanes) noexcept nogil:
    cdef Scratch[real] scratch
    cdef real* x = &scratch.tiles[0][0]
    cdef real* y = &scratch.tiles[1][0]
    cdef Row[real] rows[MAX_VECTORS]
    cdef bint fold = p.width == 1
    cdef bint pair = takes_pair(operation)
    cdef Py_ssize_t vectors = 1 if fold else p.width // lanes_of(x)
    cdef Py_ssize_t v
    for v in range(vectors):
        start(rows[v], fold)
    if not takes_pair(operation):
        sweep_group(x, y, operation, MAXIMUM, p, lane, lanes, rows)
        for v in range(vectors):
            set_anchor(rows[v], fold)
    sweep_group(x, y, operation, ADD_UP, p, lane, lanes, rows)
    for v in range(vectors):
        finish(rows[v], fold)
    if operation == CROSS_ENTROPY:
        cross_entropy_group(x, y, p, lane, lanes, rows)
        return
    for v in range(vectors):
        prepare_writing(operation, &rows[v])
    if operation == LOGSUMEXP or operation == CCE:
        for v in range(vectors):
            store(x + v * lanes_of(x), rows[v].factor)
        store_tile(x, p.out, lane, lanes, 0, 1, p.width, <real> 0)
    else:
        sweep_group(x, y, operation, WRITE, p, lane, lanes, rows)


cdef inline void prepare_writing(Operation operation, Row[real]* row) noexcept nogil:
    if operation == SOFTMAX:
        row.factor = inverse(row[0])
    elif operation == LOG_SOFTMAX:
        row.offset = vec_log1p(rest(row[0])) + row.anchor.finite
    elif operation == LOGSUMEXP:
        row.factor = row.max + vec_log1p(rest(row[0]))
    elif operation == CCE:
        row.factor = broadcast(<real> 0) - value(row.sum)
    else:
        row.factor = value(row.sum)


cdef void run(real* tag, Operation operation, Problem& p, int threads) noexcept nogil:
    # Chooses form, group and threads, and goes over all groups.
    cdef Py_ssize_t W = lanes_of(tag)
    cdef Py_ssize_t n = max(p.n, <Py_ssize_t> 1)
    cdef Py_ssize_t vectors = (p.lanes + W - 1) // W
    cdef bint adjacent = lanes_adjacent(p.x)
    cdef Py_ssize_t groups, g
    if p.lanes * n < SERIAL_BELOW:
        threads = 1
    p.row_threads = 1
    if (adjacent or n <= SHORT) and vectors * n <= p.lanes * ((n + W - 1) // W):
        vectors = max(<Py_ssize_t> 1, min(<Py_ssize_t> MAX_VECTORS, vectors // threads))
        if 2 * n * W <= TILE:                 # two registers a class make a cache line
            vectors = min(vectors, TILE // (n * W))
        p.width = vectors * W
        p.tile_classes = CHUNK
        while p.tile_classes * p.width > TILE:
            p.tile_classes //= 2
        if p.n * p.width <= TILE:
            p.tile_classes = n
    else:
        p.width = 1
        p.tile_classes = CHUNK
        if p.lanes < 2 * threads and p.n > 2 * CHUNK:
            p.row_threads = threads
            threads = 1
    groups = (p.lanes + p.width - 1) // p.width
    if threads == 1 or groups == 1:
        for g in range(groups):
            run_group(tag, operation, p, g * p.width, min(p.width, p.lanes - g * p.width))
    else:
        for g in prange(groups, num_threads=threads, schedule="static"):
            run_group(tag, operation, p, g * p.width, min(p.width, p.lanes - g * p.width))
