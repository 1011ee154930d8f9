# long_rows.pxi - rows, and columns, of more classes than a chunk.
#
# Their maxima and sums are taken chunk by chunk, while these are in the cache, against the maximum so far;
# raise_anchor() in row.hpp joins a sum to those before. So a row comes from memory twice instead of three
# times. Terms are kept in the result for the writing sweep where that stays in a cache, or registers are
# narrow: of the chunks from which on the maximum so far gives the same terms as that of the row. Elsewhere
# they are found once more.
# All of that changes no bit of a result, nor do threads that share the chunks of a row.

cdef enum:
    WAVE = 256             # chunks of one row between two additions of their sums,
    WAVE_BYTES = 524288    # and of one thread, where it comes back to them


cdef inline bint sums_pieces(Operation operation, Sweep sweep, const Problem& p) noexcept nogil:
    return p.piecewise and sweep == ADD_UP and operation != LOGSUMEXP_AGAIN


cdef inline bint keeps_pieces(Operation operation, const Problem& p) noexcept nogil:
    # Whether the terms of a long row can stay where the result goes.
    return p.piecewise and keeps_terms(operation) and p.n <= WAVE * CHUNK


cdef inline void sweep_pieces(Scratch[real]& scratch, Operation operation, const Problem& p,
                              Py_ssize_t lane, Py_ssize_t lanes, Row[real]* rows) noexcept nogil:
    # Maxima and sums of a group with more classes than a chunk, piece by piece: they come from memory once.
    cdef real* tag = NULL
    cdef bint fold = p.width == 1, weighted = sums_more(operation, p)
    cdef Py_ssize_t vectors = vectors_of(tag, p, lanes), j = 0, end, v
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
    # Chunk by chunk; or, to keep terms, after a sweep for the maximum of all chunks.
    cdef real* tag = NULL
    cdef real so_far[WAVE]
    cdef Row[real] whole
    cdef bint weighted = sums_more(operation, p)
    cdef Py_ssize_t chunks = (p.n + CHUNK - 1) // CHUNK, first = 0, count, i, j
    scratch.kept_from = p.n
    start_pieces(whole, order_of(tag, True, p.n, False), False)
    while first < chunks:
        count = chunks if p.kept else 1
        for i in range(count):
            j = (first + i) * CHUNK
            sweep_rows(operation, MAXIMUM, p, lane, 1, j, min(j + CHUNK, p.n), False, row[0])
            so_far[i] = lane_value(row.max, 0)
        if p.kept:
            whole.max = row.max
            set_anchor_so_far(whole)
        for i in range(count):
            j = (first + i) * CHUNK
            row.max = broadcast(so_far[i])
            raise_anchor(row[0], True, weighted)
            if p.kept and scratch.kept_from == p.n and have_same_terms(row[0], whole):
                scratch.kept_from = j
            sweep_rows(operation, ADD_UP, p, lane, 1, j, min(j + CHUNK, p.n), j >= scratch.kept_from,
                       row[0])
        first += count


cdef inline Py_ssize_t wave_of_threads(const real* tag, int threads) noexcept nogil:
    # How many chunks stay in the threads' caches until they are summed.
    return WAVE_BYTES // (CHUNK * <Py_ssize_t> sizeof(real)) * threads


cdef void sweep_long_row(Scratch[real]& scratch, Operation operation, Sweep sweep, const Problem& p,
                         Py_ssize_t lane, Row[real]* row) noexcept nogil:
    # By threads, a wave of chunks at a time. What is summed piece by piece needs, before each chunk, the
    # maximum of all up to there.
    cdef real* tag = NULL
    cdef ChunkOfRow[real] chunks[WAVE]
    cdef Row[real] whole
    cdef Row[real]* common = row
    cdef bint weighted = sums_more(operation, p), pieces = sums_pieces(operation, sweep, p)
    cdef Py_ssize_t first = 0, kept_from = scratch.kept_from, i, count
    cdef real largest = -INFINITY
    if pieces:
        kept_from = p.n
        start_pieces(whole, order_of(tag, True, p.n, False), False)
    while first < p.n:
        count = min(<Py_ssize_t> WAVE, (p.n - first + CHUNK - 1) // CHUNK)
        if pieces:
            if not p.kept:
                count = min(count, wave_of_threads(tag, p.row_threads))
            for i in prange(count, num_threads=<int> min(count, <Py_ssize_t> p.row_threads),
                            schedule="static"):
                visit_apart(tag, operation, MAXIMUM, p, lane, first + i * CHUNK, False, row,
                            &chunks[i])
            for i in range(count):
                largest = max(largest, chunks[i].max)
                chunks[i].max = largest
            whole.max = broadcast(largest)
            set_anchor_so_far(whole)
            common = &whole
        for i in prange(count, num_threads=<int> min(count, <Py_ssize_t> p.row_threads),
                        schedule="static"):
            visit_apart(tag, operation, sweep, p, lane, first + i * CHUNK,
                        first + i * CHUNK >= kept_from, common, &chunks[i])
        if sweep != WRITE:
            for i in range(count):
                if pieces:
                    row.max = broadcast(chunks[i].max)
                    raise_anchor(row[0], True, weighted)
                    if chunks[i].kept:
                        kept_from = min(kept_from, first + i * CHUNK)
                add_chunk(row[0], chunks[i], weighted)
        first += count * CHUNK
    scratch.kept_from = kept_from


cdef void visit_apart(real* tag, Operation operation, Sweep sweep, const Problem& p,
                      Py_ssize_t lane, Py_ssize_t j0, bint keep, Row[real]* whole,
                      ChunkOfRow[real]* chunk) noexcept nogil:
    # One chunk of a long row, in tiles of its own; what it finds goes to `chunk`.
    cdef Scratch[real] scratch
    cdef Row[real] part
    cdef Row[real]* row = whole
    cdef bint weighted = sums_more(operation, p)
    scratch.packed = NULL
    if sweep != WRITE:
        row = &part
        start(part, order_of(tag, True, p.n, False), weighted)
        part.anchor = whole.anchor
        part.max = whole.max
        part.again = whole.again
        if sums_pieces(operation, sweep, p):
            part.max = broadcast(chunk.max)
            set_anchor_so_far(part)
            keep = p.kept and have_same_terms(part, whole[0])
    if p.direct:
        sweep_rows(operation, sweep, p, lane, 1, j0, min(j0 + CHUNK, p.n), keep, row[0])
    else:
        visit(scratch, operation, sweep, p, lane, 1, j0, min(j0 + CHUNK, p.n), row, False)
    if sweep != WRITE:
        chunk[0] = take_chunk(part, weighted)
        chunk.kept = keep
