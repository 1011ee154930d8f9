# scores.pxi - top-k, samples and temperature: what is theirs in the sweeps over groups
# (sweeps.pxi).


cdef void find_top(Scratch[real]& scratch, const Problem& p, Py_ssize_t lane, Py_ssize_t lanes,
                   Row[real]* rows) noexcept nogil:
    # Row by row and class by class, as the heap of a row is filled in the order of its classes.
    cdef bint fold = p.width == 1
    cdef bint kept = p.row_threads == 1       # what the sweeps before have left in the tiles
    cdef const real* x
    cdef Py_ssize_t W = lanes_of(tag), i, j, end
    cdef real largest, offset
    for i in range(lanes if fold else 1):
        j = 0
        while j < p.n:
            end = min(j + p.tile_classes, p.n)
            if fold and p.direct:
                x = <const real*> (p.x.data + (lane + i) * p.x.lane_stride)
                select_top(x + j, 1, p, lane + i, 1, j, end)
            else:
                visit(scratch, TOPK, WRITE, p, lane + i, 1 if fold else lanes, j, end, rows, kept)
            j = end
    for i in range(lanes):
        largest = lane_value(rows[i // W].max, <int> (i % W))
        offset = lane_value(rows[i // W].offset, <int> (i % W))
        finish_top(p, lane + i, largest, offset)


cdef void run_divided(real* packed, Operation operation, const Problem& p, Py_ssize_t lane,
                      Py_ssize_t lanes) noexcept nogil:
    # A group whose quotients are kept in the result.
    cdef Problem q = p
    divide_rows(packed, p, lane, lanes)
    q.x = q.out
    q.streamed = False
    q.kept = keeps_pieces(operation, p)
    if p.lanes > p.group:
        q.ahead = p.group * p.out.lane_stride
    run_group(packed, operation, q, lane, lanes)


cdef void sample_rows(const Problem& p, int threads) noexcept nogil:
    cdef Py_ssize_t group = sampled_lanes(tag, p, threads)
    cdef Py_ssize_t groups = p.outer * ((p.lanes + group - 1) // group), g
    if threads == 1 or groups == 1:
        for g in range(groups):
            sample_group(p, group, g)
    else:
        for g in prange(groups, num_threads=<int> min(groups, <Py_ssize_t> threads),
                        schedule="static"):
            sample_group(p, group, g)


cdef void sample_group(const Problem& p, Py_ssize_t group,
                       Py_ssize_t number) noexcept nogil:
    cdef Py_ssize_t groups = (p.lanes + group - 1) // group
    cdef Py_ssize_t lane = number % groups * group
    sample_lanes(tag, matrix(p, number // groups), lane, min(group, p.lanes - lane))
