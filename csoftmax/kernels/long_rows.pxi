# long_rows.pxi - rows, and columns, of more classes than a chunk.
#
# Their maxima and sums are taken chunk by chunk, while these are in the cache, against the maximum so far;
# raise_anchor() in row.hpp joins a sum to those before. So a row comes from memory twice instead of three
# times. Terms are kept for the writing sweep: in the result where that stays in a cache, or registers are narrow.
# Then the maximum of the row is found first, if the row stays in a cache, and terms are those measured against it,
# which are the same but for a power of two. In longer rows the writing sweep divides them by that power, and so it does
# with terms aside, in memory that stays in a cache, of the last classes if it is too small. Chunks whose maximum so far
# is too small for that have their terms found once more. All of that changes no bit of a result, nor do threads that
# share the chunks of a row.

cdef enum:
    WAVE = 256             # chunks of one row between two additions of their sums,
    WAVE_BYTES = 524288    # and of one thread, where it comes back to them


cdef inline bint sums_pieces(Operation operation, Sweep sweep, const Problem& p) noexcept nogil:
    return p.piecewise and sweep == ADD_UP and operation != LOGSUMEXP_AGAIN


cdef inline bint keeps_pieces(Operation operation, const Problem& p) noexcept nogil:
    # Whether the terms of a long row can stay where the result goes.
    return p.piecewise and keeps_terms(operation) and p.out.data != NULL


cdef inline bint keeps_pieces_aside(Operation operation, const Problem& p) noexcept nogil:
    # Or else in memory aside. Simple ones of four bytes are found again sooner.
    return (keeps_pieces(operation, p) and not p.kept and p.x.temperature == 1
            and (sizeof(real) > 4 or sums_more(operation, p)))


cdef inline bint keeps_maxima_aside(const Problem& p, int threads) noexcept nogil:
    # Whether terms stay in the result, and the maximum of a row is not found before them: of rows that would come from
    # memory for that alone. The operand must last, too, for chunks whose terms are found once more.
    cdef Py_ssize_t size = sizeof(real)
    return (p.kept and p.n * size >= STREAMED_BYTES and p.out.data != p.x.data and p.x.temperature == 1
            and maxima_aside(p) * size <= PACKED_BYTES // threads)


cdef inline bint finds_maximum_first(const Problem& p) noexcept nogil:
    return p.kept and p.packed == 0


cdef inline Py_ssize_t maxima_aside(const Problem& p) noexcept nogil:
    # Entries aside before terms that are: the maximum so far of each chunk, in whole lines of the cache.
    return round_up((p.n + CHUNK - 1) // CHUNK, LINE // sizeof(real))


cdef inline Py_ssize_t room_aside(const Problem& p, int threads) noexcept nogil:
    # Entries a thread for these and for terms; 0 if that is too small for half of them.
    cdef Py_ssize_t room = min(PACKED_BYTES // (threads * <Py_ssize_t> sizeof(real)), maxima_aside(p) + p.n)
    return room if 2 * (room - maxima_aside(p)) >= p.n else 0


cdef inline real* place_of_terms(Scratch[real]& scratch, Operation operation, const Problem& p, Py_ssize_t lane,
                                 Py_ssize_t j) noexcept nogil:
    # Of the classes from j on; NULL if they do not stay.
    if not keeps_terms(operation) or p.out.data == NULL or j < scratch.kept_from:
        return NULL
    if p.packed > 0 and not p.kept:
        return scratch.packed + maxima_aside(p) + (j - scratch.kept_from)
    return <real*> (p.out.data + lane * p.out.lane_stride) + j


cdef inline int powers_of_chunk(real maximum, const Row[real]& whole) noexcept nogil:
    # Those of two by which terms against a maximum so far are too large, or -1.
    cdef Row[real] so_far
    so_far.max = broadcast(maximum)
    if maximum == lane_value(whole.max, 0):
        return 0
    set_anchor_so_far(so_far)
    return powers_below(so_far, whole)


cdef inline bint is_one_wave(const Problem& p) noexcept nogil:
    return p.n <= WAVE * CHUNK


cdef inline void sweep_pieces(Scratch[real]& scratch, Operation operation, const Problem& p,
                              Py_ssize_t lane, Py_ssize_t lanes, Row[real]* rows) noexcept nogil:
    # Maxima and sums of a group with more classes than a chunk, piece by piece: they come from memory once.
    cdef bint fold = p.width == 1, weighted = sums_more(operation, p)
    cdef Py_ssize_t vectors = vectors_of(p, lanes), j = 0, end, v
    for v in range(vectors):
        start_pieces(rows[v], order_of(tag, fold, p.n, False), weighted)
    if p.row_threads > 1:
        sweep_long_row(scratch, operation, ADD_UP, p, lane, rows)
    elif fold and p.direct:
        sweep_pieces_of_row(scratch, operation, p, lane, rows)
    else:
        while j < p.n:
            end = min(j + CHUNK, p.n)
            sweep_classes(scratch, operation, MAXIMUM, p, lane, lanes, j, end, rows)
            for v in range(vectors):
                raise_anchor(rows[v], fold, weighted)
            sweep_classes(scratch, operation, ADD_UP, p, lane, lanes, j, end, rows)
            j = end
    if fold:
        gather_sums(rows[0], 0, weighted, rows[0])


cdef inline void sweep_pieces_of_row(Scratch[real]& scratch, Operation operation, const Problem& p,
                                     Py_ssize_t lane, Row[real]* row) noexcept nogil:
    # Chunk by chunk; perhaps after a sweep for the maximum of all chunks.
    cdef bint maximum_first = finds_maximum_first(p)
    cdef real so_far[WAVE]
    cdef real* nowhere = NULL
    cdef Row[real] whole
    cdef bint weighted = sums_more(operation, p)
    cdef Py_ssize_t j = 0, end
    cdef int powers = -1
    scratch.kept_from = p.n
    if p.packed > 0 and p.kept:
        scratch.kept_from = 0
    elif p.packed > 0:                        # the last classes, from a chunk's first on
        scratch.kept_from = max(<Py_ssize_t> 0, p.n - (p.packed - maxima_aside(p)))
        scratch.kept_from = round_up(scratch.kept_from, CHUNK)
    start_pieces(whole, order_of(tag, True, p.n, False), False)
    while maximum_first and j < p.n:
        sweep_rows(operation, MAXIMUM, p, lane, 1, j, min(j + CHUNK, p.n), nowhere, 0, &whole)
        if j < WAVE * CHUNK:
            so_far[j // CHUNK] = lane_value(whole.max, 0)
        j += CHUNK
    whole.max = broadcast(lane_value(whole.max, 0))
    set_anchor_so_far(whole)
    j = 0
    while j < p.n:
        end = min(j + CHUNK, p.n)
        if maximum_first and j < WAVE * CHUNK:
            row.max = broadcast(so_far[j // CHUNK])
        elif not (maximum_first and lane_value(row.max, 0) >= lane_value(whole.max, 0)):
            sweep_rows(operation, MAXIMUM, p, lane, 1, j, end, nowhere, 0, row)
        raise_anchor(row[0], True, weighted)
        if maximum_first:
            powers = powers_below(row[0], whole)
        if powers >= 0:
            scratch.kept_from = min(scratch.kept_from, j)
            lower_terms(row[0], powers)
        sweep_rows(operation, ADD_UP, p, lane, 1, j, end, place_of_terms(scratch, operation, p, lane, j), 0, row)
        if powers >= 0:
            lower_terms(row[0], -powers)
        if p.packed > 0:
            scratch.packed[j // CHUNK] = lane_value(row.max, 0)
        j = end


cdef inline Py_ssize_t wave_of_threads(int threads) noexcept nogil:
    # How many chunks stay in the threads' caches until they are summed.
    return WAVE_BYTES // (CHUNK * <Py_ssize_t> sizeof(real)) * threads


cdef void sweep_long_row(Scratch[real]& scratch, Operation operation, Sweep sweep, const Problem& p,
                         Py_ssize_t lane, Row[real]* row) noexcept nogil:
    # By threads, a wave of chunks at a time. What is summed piece by piece needs, before each chunk, the
    # maximum of all up to there.
    cdef ChunkOfRow[real] chunks[WAVE]
    cdef Row[real] whole
    cdef Row[real]* common = row
    cdef bint weighted = sums_more(operation, p), pieces = sums_pieces(operation, sweep, p)
    cdef bint at_once = p.kept and is_one_wave(p)
    cdef Py_ssize_t first = 0, kept_from = scratch.kept_from, i, count
    cdef real largest = -INFINITY
    if pieces:
        kept_from = p.n
        common = &whole
        start_pieces(whole, order_of(tag, True, p.n, False), False)
        while finds_maximum_first(p) and not at_once and first < p.n:
            count = min(<Py_ssize_t> WAVE, (p.n - first + CHUNK - 1) // CHUNK)
            largest = find_maxima_so_far(operation, p, lane, first, count, largest, chunks)
            first += count * CHUNK
        whole.max = broadcast(largest)
        set_anchor_so_far(whole)
        largest = -INFINITY
        first = 0
    while first < p.n:
        count = min(<Py_ssize_t> WAVE, (p.n - first + CHUNK - 1) // CHUNK)
        if pieces:
            if not at_once:
                count = min(count, wave_of_threads(p.row_threads))
            largest = find_maxima_so_far(operation, p, lane, first, count, largest, chunks)
            if not p.kept or at_once:
                whole.max = broadcast(largest)
                set_anchor_so_far(whole)
        for i in range(count if sweep == WRITE and p.packed > 0 else 0):
            chunks[i].max = scratch.packed[first // CHUNK + i]
        for i in prange(count, num_threads=<int> min(count, <Py_ssize_t> p.row_threads),
                        schedule="static"):
            visit_apart(operation, sweep, p, lane, first + i * CHUNK,
                        first + i * CHUNK >= kept_from, common, &chunks[i])
        if sweep != WRITE:
            for i in range(count):
                if pieces:
                    row.max = broadcast(chunks[i].max)
                    raise_anchor(row[0], True, weighted)
                    if chunks[i].kept:
                        kept_from = min(kept_from, first + i * CHUNK)
                    if p.packed > 0:
                        scratch.packed[first // CHUNK + i] = chunks[i].max
                add_chunk(row[0], chunks[i], weighted)
        first += count * CHUNK
    scratch.kept_from = kept_from


cdef real find_maxima_so_far(Operation operation, const Problem& p, Py_ssize_t lane, Py_ssize_t first,
                             Py_ssize_t count, real largest, ChunkOfRow[real]* chunks) noexcept nogil:
    # Of some chunks, by threads, with `largest` before the first.
    cdef Row[real] none
    cdef Py_ssize_t i
    start_pieces(none, order_of(tag, True, p.n, False), False)
    for i in prange(count, num_threads=<int> min(count, <Py_ssize_t> p.row_threads), schedule="static"):
        visit_apart(operation, MAXIMUM, p, lane, first + i * CHUNK, False, &none, &chunks[i])
    for i in range(count):
        chunks[i].max = max(largest if i == 0 else chunks[i - 1].max, chunks[i].max)
    return chunks[count - 1].max


cdef void visit_apart(Operation operation, Sweep sweep, const Problem& p,
                      Py_ssize_t lane, Py_ssize_t j0, bint keep, Row[real]* whole,
                      ChunkOfRow[real]* chunk) noexcept nogil:
    # One chunk of a long row, in tiles of its own; what it finds goes to `chunk`.
    cdef Scratch[real] scratch
    cdef Row[real] part
    cdef Row[real]* row = whole
    cdef bint weighted = sums_more(operation, p)
    cdef int powers = -1, too_large = 0
    if sweep != WRITE:
        row = &part
        start(part, order_of(tag, True, p.n, False), weighted)
        part.anchor = whole.anchor
        part.max = whole.max
        part.again = whole.again
        if sums_pieces(operation, sweep, p):
            part.max = broadcast(chunk.max)
            set_anchor_so_far(part)
            if finds_maximum_first(p):
                powers = powers_below(part, whole[0])
                lower_terms(part, max(powers, 0))
            keep = powers >= 0 or p.packed > 0
    elif p.packed > 0 and keep:
        too_large = powers_of_chunk(chunk.max, row[0])
        keep = too_large >= 0
    if p.direct:
        scratch.kept_from = 0 if keep else p.n
        sweep_rows(operation, sweep, p, lane, 1, j0, min(j0 + CHUNK, p.n),
                   place_of_terms(scratch, operation, p, lane, j0), too_large, row)
    else:
        visit(scratch, operation, sweep, p, lane, 1, j0, min(j0 + CHUNK, p.n), row, False)
    if sweep != WRITE:
        if powers >= 0:
            lower_terms(part, -powers)
        chunk[0] = take_chunk(part, weighted)
        chunk.kept = keep
