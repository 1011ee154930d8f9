// loss.hpp - the loss of a register of rows, and what their gradient takes, from the sums of the terms.
//
// With the class weights c, smoothing s and n classes, and either a label y or probabilities t:
//     w_j = c_j ((1 - s) t_j + s / n)         weights of the classes (t = 0 for a label)
//     a   = c_y (1 - s)                       and of the label, if there is one
//     loss = scale * (sum_j w_j (lse - x_j) + a (lse - x_y))
//     d loss / d x_j = scale * (p_j (sum(w) + a) - w_j - a [j = y])
// with lse - x_j = (max - x_j) + log(1 + rest). Where p_j is over 1/2, and may be nearly 1, the
// gradient is computed from the missing probability 1 - p_j = rest / (1 + rest) instead:
//     scale * ((sum(w) - w_j) - (sum(w) + a) * missing)
#pragma once

#include "row.hpp"

namespace csoftmax {

// Of a register of labels: their logits and terms, the class weights there and the samples' own; the
// smoothing's parts of the label and of each class, 1 - s and s / n.
template <class T> struct Labelled {
    Vec<T> x, e, class_weight, scale, kept, spread;
};

// The weights of the classes, for columns: of each class one for each row, or one that is common to all.
template <class T> struct Weights {
    const T* data;
    std::ptrdiff_t stride;  // entries from class to class
    bool common;

    CSOFTMAX_INLINE Vec<T> at(std::ptrdiff_t j, std::ptrdiff_t lane) const {
        return common ? broadcast(data[j * stride]) : load(data + j * stride + lane);
    }
};

// What the gradient takes of a row, or of a register of rows.
template <class T> struct Gradient {
    Divisor<T> divisor;
    Vec<T> factor, offset, total, lack, peak;

    CSOFTMAX_INLINE explicit Gradient(const Row<T>& row)
        : divisor(row.divisor), factor(row.factor), offset(row.offset), total(row.total),
          lack(row.lack), peak(row.peak) {}
    // that of row i
    CSOFTMAX_INLINE Gradient(const Row<T>& rows, int i)
        : divisor(spread(rows.divisor, i)), factor(spread(rows.factor, i)),
          offset(spread(rows.offset, i)), total(spread(rows.total, i)), lack(spread(rows.lack, i)),
          peak(spread(rows.peak, i)) {}

    // d loss / d x_j, of the term of x_j and its weight w_j, but for the label's own entry
    CSOFTMAX_INLINE Vec<T> at(Vec<T> e) const { return divide(e, divisor) * factor; }
    CSOFTMAX_INLINE Vec<T> at(Vec<T> e, Vec<T> w) const {
        const Vec<T> usual = fma(divide(e, divisor), factor, Vec<T>{-(w * offset).v});
        return at_or_below_peak(e, fma(total - w, offset, Vec<T>{-lack.v}), usual, peak);
    }
};

// The losses; at_label <- the gradient there, and to the row what Gradient takes from it. `weighted`: the
// classes have weights.
template <class T>
CSOFTMAX_INLINE Vec<T> find_loss(Row<T>& row, bool weighted, bool label, const Labelled<T>& y,
                                 Vec<T>& at_label) {
    const Vec<T> zero = broadcast(T(0)), finite = row.anchor.finite;
    const Exact<T> others = rest(row), log = log1p_of_positive(others);
    const Vec<T> weight = weighted ? rounded(row.weight) : zero, rests = rounded(others);
    const Vec<T> a = label ? y.class_weight * y.kept : zero;
    // without weights nothing but a NaN among the terms, which a label of no weight must not hide
    Vec<T> loss = (weighted ? weighted_loss(row, log) : zero * rounded(log)) + finite;
    if (label) loss = loss + nonzero_times(a, (row.max - y.x) + (rounded(log) + finite));
    row.offset = y.scale;
    row.total = weight + a;
    row.factor = row.total * y.scale;
    row.peak = dominant_peak(row, rests);
    fold_factor(row);
    const Vec<T> below = rounded(row.sum) + (row.ties - broadcast(T(1))) * row.anchor.peak.value;
    row.lack = divide(below, row.divisor) * row.factor;
    if (label) {
        const Vec<T> w = y.class_weight * y.spread, minus_scale = zero - y.scale;
        const Vec<T> at_max = fma(weight - w, y.scale, zero - row.lack);
        const Vec<T> elsewhere =
            fma(a, minus_scale, fma(w, minus_scale, divide(y.e, row.divisor) * row.factor));
        at_label = at_dominant_maximum(y.x, row, rests, at_max, elsewhere) + finite;
    }
    return scaled_loss(loss, y.scale) + zero;  // no -0
}

}  // namespace csoftmax
