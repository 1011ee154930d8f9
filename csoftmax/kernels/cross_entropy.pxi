# cross_entropy.pxi - loss and gradient of one group, from the sums that the sweeps have found.
#
# With the class weights c, smoothing s and n classes, and either a label y or probabilities t:
#     w_j = c_j ((1 - s) t_j + s / n)         weights of the classes (t = 0 for a label)
#     a   = c_y (1 - s)                       and of the label, if there is one
#     loss = scale * (sum_j w_j (lse - x_j) + a (lse - x_y))
#     d loss / d x_j = scale * (p_j (sum(w) + a) - w_j - a [j = y])
# with lse - x_j = (max - x_j) + log(1 + rest). Where p_j is over 1/2, and may be nearly 1, the
# gradient is computed from the missing probability 1 - p_j = rest / (1 + rest) instead:
#     scale * ((sum(w) - w_j) - (sum(w) + a) * missing)


cdef inline bint has_weights(const Problem& p) noexcept nogil:
    return p.label == NULL or p.smoothing != 0


cdef inline void load_target_weights(real* y, const Problem& p, Py_ssize_t lane, Py_ssize_t lanes,
                                     Py_ssize_t j0, Py_ssize_t j1) noexcept nogil:
    # y (j1 - j0, width) <- w_j
    cdef Py_ssize_t i
    cdef Py_ssize_t W = lanes_of(y)
    cdef long double smoothing = p.smoothing
    if p.label == NULL:
        load_tile(y, p.y, lane, lanes, j0, j1, p.width, <real> 0)
    else:
        for i in range((j1 - j0) * p.width if p.width > 1 else (j1 - j0 + W - 1) // W * W):
            y[i] = 0
    weigh_targets(y, p.class_weight, j0, j1, p.width,
                  <real> (1 - smoothing), <real> (smoothing / p.n))


cdef inline void add_weights(const real* x, Py_ssize_t stride, const real* w,
                             Py_ssize_t w_stride, Py_ssize_t steps, const Row[real]* row,
                             Exact[real]* weight, Exact[real]* spread) noexcept nogil:
    # weight += w_j; spread += w_j (max - x_j)
    cdef Vec[real] w_j, s, t
    cdef Py_ssize_t i = 0, end
    while i < steps:
        end = min(i + BLOCK, steps)
        s = t = broadcast(<real> 0)
        while i < end:
            w_j = load(w + i * w_stride)
            s = s + w_j
            t = fma(w_j, gap(w_j, load(x + i * stride), row.anchor), t)
            i += 1
        weight[0] = add_any(weight[0], exact(s))
        spread[0] = add_any(spread[0], exact(t))


cdef inline void write_cross_entropy_gradient(
        const real* x, Py_ssize_t stride, const real* w, Py_ssize_t w_stride, real* out,
        Py_ssize_t out_stride, Py_ssize_t steps, bint kept, bint weighted,
        const Row[real]* row) noexcept nogil:
    # p_j sum(w) - w_j, scaled; the entry at the label is set right afterwards
    cdef Anchor[real] anchor = row.anchor
    cdef Divisor[real] divisor = row.divisor
    cdef Vec[real] e, usual, at_peak, w_j
    cdef Vec[real] factor = row.factor, scale = row.offset, total = row.total, lack = row.lack
    cdef Py_ssize_t i
    for i in range(steps):
        e = load(x + i * stride)
        if not kept:
            e = term(e, anchor)
        usual = divide(e, divisor) * factor
        if weighted:
            w_j = load(w + i * w_stride)
            usual = usual - w_j * scale
            at_peak = (total - w_j) * scale - lack
            usual = at_or_below_peak(e, at_peak, usual, row.peak)
        store(out + i * out_stride, usual)


cdef inline void logits_at_labels(real* x_y, const Problem& p, Py_ssize_t lane,
                                  Py_ssize_t lanes) noexcept nogil:
    # x_y (lanes,) <- the logit at each label, before the gradient may take its place
    cdef int64_t label
    cdef Py_ssize_t k
    for k in range(lanes):
        label = (<const int64_t*> (p.label + (lane + k) * p.label_stride))[0]
        if label != p.ignore_index:
            x_y[k] = read_like(x_y, p.x.data + (lane + k) * p.x.lane_stride
                               + label * p.x.class_stride, p.x.half)


cdef inline void cross_entropy_group(Scratch[real]& scratch, const real* at, const Problem& p,
                                     Py_ssize_t lane, Py_ssize_t lanes,
                                     Row[real]* rows) noexcept nogil:
    # `at` holds the logits at the labels
    cdef real* x = NULL                  # tells the type
    cdef Py_ssize_t W = lanes_of(x)
    cdef Py_ssize_t vectors = 1 if p.width == 1 else p.width // W
    cdef real at_label[MAX_LANES]        # the gradient there, of each lane
    cdef real loss, a, c, scale, x_y, log_sum, weight, lack, p_y, w_y
    cdef long double smoothing = p.smoothing
    cdef int64_t label
    cdef bint ignored
    cdef Exact[real] exact_rest, exact_log
    cdef Vec[real] rests, logs, weights, losses
    cdef Py_ssize_t v, i, k
    for v in range(vectors):
        rows[v].divisor = make_divisor(sum_of_terms(rows[v], True))
        exact_rest = rest(rows[v])
        exact_log = vec_log1p(exact_rest)
        rests = rounded(exact_rest)
        logs = rounded(exact_log) + rows[v].anchor.finite
        weights = value(rows[v].weight)
        losses = weighted_loss(rows[v], exact_log) + rows[v].anchor.finite
        rows[v].peak = dominant_peak(rows[v], rests)
        for i in range(min(W, lanes - v * W)):
            k = v * W + i                       # the row's number in the group
            scale = read_wide(x, p.scale + (lane + k) * p.scale_stride)
            log_sum = lane_value(logs, i)
            weight = lane_value(weights, i)
            lack = lane_value(rests, i) / (1 + lane_value(rests, i))    # 1 - p at the maximum
            loss = lane_value(losses, i) if p.n else 0
            ignored = False
            if p.label != NULL:
                label = (<const int64_t*> (p.label + (lane + k) * p.label_stride))[0]
                ignored = label == p.ignore_index
                if not ignored:
                    c = read_like(x, p.class_weight.data + label * p.class_weight.class_stride,
                                  False)
                    a = <real> (1 - smoothing) * c
                    x_y = at[k]
                    if a != 0:
                        loss = loss + a * ((lane_value(rows[v].max, i) - x_y) + log_sum)
                    w_y = c * <real> (smoothing / p.n)
                    if x_y == lane_value(rows[v].max, i) and lane_value(rests, i) < 1:
                        at_label[k] = ((weight - w_y) - lack * (weight + a)) * scale
                    else:
                        p_y = lane_value(divide(term(broadcast(x_y), rows[v].anchor),
                                                rows[v].divisor), i)
                        at_label[k] = ((p_y * (weight + a) - w_y) - a) * scale
                    at_label[k] += lane_value(rows[v].anchor.finite, i)
                    weight = weight + a
            if ignored:
                loss = 0
                scale = 0
            if scale == 0 and (loss == INFINITY or loss == -INFINITY):
                loss = 0
            set_lane(rows[v].factor, i, weight * scale)
            set_lane(rows[v].offset, i, scale)
            set_lane(rows[v].total, i, weight)
            set_lane(rows[v].lack, i, lack * weight * scale)
            write(p.loss.data + (lane + k) * p.loss.lane_stride, loss * scale, p.loss.half)
        fold_factor(rows[v])
    if p.out.data == NULL:
        return
    sweep_group(scratch, CROSS_ENTROPY, WRITE, p, lane, lanes, rows)
    if p.label == NULL:
        return
    for k in range(lanes):
        label = (<const int64_t*> (p.label + (lane + k) * p.label_stride))[0]
        if label != p.ignore_index:
            write(p.out.data + (lane + k) * p.out.lane_stride + label * p.out.class_stride,
                  at_label[k], p.out.half)
        else:                                   # 0 * NaN is no zero
            for i in range(p.n):
                write(p.out.data + (lane + k) * p.out.lane_stride + i * p.out.class_stride,
                      <real> 0, p.out.half)


cdef inline void add_cce(const real* y, Py_ssize_t stride, const real* yhat,
                         Py_ssize_t yhat_stride, Py_ssize_t steps,
                         Exact[real]* total) noexcept nogil:
    # total += y_j * log(yhat_j), with 0 * log(0) = 0
    cdef Vec[real] s
    cdef Py_ssize_t i = 0, end
    while i < steps:
        end = min(i + BLOCK, steps)
        s = broadcast(<real> 0)
        while i < end:
            s = s + x_log_y(load(y + i * stride), load(yhat + i * yhat_stride))
            i += 1
        total[0] = add_any(total[0], exact(s))


cdef inline void write_cce_gradient(const real* y, Py_ssize_t stride, const real* yhat,
                                    Py_ssize_t yhat_stride, real* out, Py_ssize_t out_stride,
                                    Py_ssize_t steps) noexcept nogil:
    # -y_j / yhat_j, with 0 / 0 = 0
    cdef Py_ssize_t i
    for i in range(steps):
        store(out + i * out_stride, minus_ratio(load(y + i * stride), load(yhat + i * yhat_stride)))
