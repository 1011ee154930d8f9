# cross_entropy.pxi - loss and gradient of one group, from the sums that the sweeps have found.
# The formulas are in loss.hpp.
from libc.string cimport memcpy


cdef inline real kept_by_label(const Problem& p) noexcept nogil:
    return <real> (1 - <long double> p.smoothing)


cdef inline real spread_to_class(const Problem& p) noexcept nogil:
    return <real> (<long double> p.smoothing / p.n) if p.n else 0


cdef inline Weights[real] weights_of_classes(real* y, bint loaded, const Problem& p, Py_ssize_t lane, Py_ssize_t lanes,
                                             Py_ssize_t width, Py_ssize_t j0, Py_ssize_t j1) noexcept nogil:
    # The w_j, put into the tile y unless they are there; those of columns with labels are common to all,
    # and target probabilities that lie as they would there need not be moved.
    cdef Weights[real] w
    cdef Py_ssize_t i, W = lanes_of(y), n = j1 - j0
    cdef bint fold = width == 1
    w.data, w.stride, w.common = y, W if width == 1 else width, False
    if p.label != NULL:
        w.common = width > 1
        if w.common:
            w.stride = width = 1
        for i in range((n + W - 1) // W * W if fold else n):
            y[i] = 0
    elif loaded:
        return w
    elif (p.direct and lanes == width and lies_directly(p.y, sizeof(real), True)
          and weighing_of(y, p) == BY_TARGET):
        w.data = <const real*> (p.y.data + lane * p.y.lane_stride + j0 * p.y.class_stride)
        w.stride = p.y.class_stride // <Py_ssize_t> sizeof(real)
        return w
    else:
        load_tile(y, p.y, lane, lanes, j0, j1, width, <real> 0)
    weigh_targets(y, p.class_weight, j0, j1, width, kept_by_label(p), spread_to_class(p))
    return w


# What follows goes lane by lane. It takes copies of the views: what is written through a char* might
# be the views themselves, for all that the compiler knows.


cdef inline void logits_at_labels(real* x_y, const int64_t* labels, bint ignored, const Problem& p,
                                  Py_ssize_t lane, Py_ssize_t lanes) noexcept nogil:
    # x_y (lanes,) <- the logit at each label, before the gradient may take its place
    cdef View x = p.x
    cdef int64_t ignore_index = p.ignore_index
    cdef Py_ssize_t k
    x.data += lane * x.lane_stride
    for k in range(lanes):
        if ignored and labels[k] == ignore_index:
            x_y[k] = 0
        else:
            x_y[k] = read_like(x_y, x.data + k * x.lane_stride + labels[k] * x.class_stride, x.half)
    if x.temperature != 1:
        for k in range(lanes):
            x_y[k] = x_y[k] / <real> x.temperature


cdef inline void weights_at_labels(real* c, real* scale, const int64_t* labels, bint ignored,
                                   const Problem& p, Py_ssize_t lane, Py_ssize_t lanes) noexcept nogil:
    # c, scale (lanes,) <- the class weight at each label, and the sample's weight, 0 if ignored
    cdef View weight = p.class_weight
    cdef int64_t ignore_index = p.ignore_index
    cdef Py_ssize_t k
    cdef real common = sample_scale(c, p, lane)
    for k in range(lanes):
        scale[k] = common
    if p.scale_stride != 0:
        for k in range(lanes):
            scale[k] = sample_scale(c, p, lane + k)
    if p.label == NULL or p.n == 0:             # without classes there are no weights
        return
    common = read_like(c, weight.data, False)
    for k in range(lanes):
        c[k] = common
    if weight.class_stride:
        for k in range(lanes):
            if not ignored or labels[k] != ignore_index:
                c[k] = read_like(c, weight.data + labels[k] * weight.class_stride, False)
    if ignored:
        for k in range(lanes):
            if labels[k] == ignore_index:
                scale[k] = 0


cdef inline void read_samples(Samples[real]& samples, const int64_t* labels, bint ignored, const Problem& p,
                              Py_ssize_t lane, Py_ssize_t lanes, Py_ssize_t used) noexcept nogil:
    # Lanes beyond the last sample, up to those used, have a scale of 0.
    cdef Py_ssize_t k
    for k in range(0 if p.label == NULL else lanes, used):
        samples.class_weight[k] = 0
    for k in range(lanes, used):
        samples.scale[k] = 0
    weights_at_labels(samples.class_weight, samples.scale, labels, ignored, p, lane, lanes)
    samples.kept, samples.spread = kept_by_label(p), spread_to_class(p)


cdef inline bint read_few_labels(real* numbers, int64_t* labels, const Problem& p, Py_ssize_t lane,
                                 Py_ssize_t lanes, Py_ssize_t used) noexcept nogil:
    # Labels as numbers of `real`. Whether one is ignored; lanes beyond the last sample, up to those used, have none.
    cdef Py_ssize_t k
    cdef bint ignored = False
    for k in range(used):
        numbers[k] = NO_LABEL
    if p.label != NULL:
        ignored = read_labels(p, lane, lanes, labels)
        for k in range(lanes):                  # of few classes: 32 bits are converted sooner than 64
            numbers[k] = <real> <int32_t> labels[k]
        if ignored:
            for k in range(lanes):
                if labels[k] == p.ignore_index:
                    numbers[k] = IGNORED
    return ignored


cdef inline void write_losses(real* losses, const int64_t* labels, bint ignored, const Problem& p,
                              Py_ssize_t lane, Py_ssize_t lanes) noexcept nogil:
    cdef View loss = p.loss
    cdef Py_ssize_t k
    loss.data += lane * loss.lane_stride
    if p.n == 0 or ignored:
        for k in range(lanes):
            if p.n == 0 or labels[k] == p.ignore_index:
                losses[k] = 0                   # 0 * NaN is no zero
    if not loss.half and loss.lane_stride == <Py_ssize_t> sizeof(real):
        memcpy(loss.data, losses, lanes * sizeof(real))
    else:
        for k in range(lanes):
            write(loss.data + k * loss.lane_stride, losses[k], loss.half)


cdef inline void write_at_labels(const real* at_label, const int64_t* labels, bint ignored,
                                 const Problem& p, Py_ssize_t lane, Py_ssize_t lanes,
                                 Py_ssize_t j0, Py_ssize_t j1) noexcept nogil:
    # The gradient at the labels, and that of ignored rows, for the classes j0 <= j < j1.
    cdef View out = p.out
    cdef int64_t ignore_index = p.ignore_index
    cdef Py_ssize_t k, j
    out.data += lane * out.lane_stride
    for k in range(lanes):
        if not ignored or labels[k] != ignore_index:
            if j0 <= labels[k] < j1:
                write(out.data + k * out.lane_stride + labels[k] * out.class_stride, at_label[k],
                      out.half)
        else:
            for j in range(j0, j1):
                write(out.data + k * out.lane_stride + j * out.class_stride, <real> 0, out.half)


cdef inline void find_losses_of_group(real* at_label, const int64_t* labels, bint ignored, const Problem& p,
                                      Py_ssize_t lane, Py_ssize_t lanes, Row[real]* rows) noexcept nogil:
    # Losses of a group, and what its writing sweep needs. at_label holds the logits at the labels, and
    # gets the gradient there.
    cdef Samples[real] samples
    cdef Py_ssize_t W = lanes_of(at_label), i = 0, count, vectors
    while i < lanes:
        count = min(lanes - i, <Py_ssize_t> MAX_LANES)
        vectors = (count + W - 1) // W
        read_samples(samples, labels + i, ignored, p, lane + i, count, vectors * W)
        find_losses(rows + i // W, vectors, has_weights(p), p.label != NULL, at_label + i, samples)
        write_losses(samples.loss, labels + i, ignored, p, lane + i, count)
        i += count


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
