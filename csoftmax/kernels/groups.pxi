# groups.pxi - the way over the groups of rows of a matrix, in the form that forms.pxi has chosen, and what is done
# with each: the sweeps (sweeps.pxi), or what does without them (few_classes.pxi and few_classes.hpp,
# row_products.hpp), or does so along wide runs of rows (wide_columns.pxi).
from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc


cdef void run(Operation operation, Problem& p, int threads) noexcept nogil:
    cdef Py_ssize_t groups, g, size = sizeof(real)
    cdef void* memory = NULL
    cdef real* packed
    set_end(p.x, p, size)
    set_end(p.y, p, size)
    set_end(p.out, p, size)
    threads = <int> min(<Py_ssize_t> threads, p.outer * p.lanes * max(p.n, <Py_ssize_t> 1) // SHARE + 1)
    if operation == SAMPLE:
        sample_rows(p, threads)
        return
    threads = choose_form(operation, p, threads)
    if p.packed and (p.wide or p.width == 1 or not p.direct):
        p.packed = round_up(p.packed, LINE // size)
        memory = malloc(threads * p.packed * size + LINE)
    packed = <real*> aligned(memory)
    if packed == NULL:                        # or no memory: in tiles, again and again
        p.packed = 0
        if p.aside > 0:
            p.aside, p.group = 0, p.aside
        if p.wide:
            p.wide = p.direct = p.streamed = False
            p.group, p.head = p.width, 0
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
