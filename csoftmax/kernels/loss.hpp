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

#include "logsumexp.hpp"
#include "tile.hpp"

namespace csoftmax {

// What up to MAX_LANES samples bring along, and their losses.
template <class T> struct Samples {
    T class_weight[MAX_LANES], scale[MAX_LANES], loss[MAX_LANES];  // the class weights at the labels
    T kept, spread;                                                // of the smoothing s, 1 - s and s / n
};

// The weights of the classes, for columns: of each class one for each row, or one that is common to all.
template <class T> struct Weights {
    const T* data;
    std::ptrdiff_t stride;  // entries from class to class
    bool common;

    CSOFTMAX_INLINE Vec<T> at(std::ptrdiff_t j, std::ptrdiff_t lane) const {
        return common ? broadcast(data[j * stride]) : load(data + j * stride + lane);
    }
    // Whether register v of rows has a sum of its own.
    CSOFTMAX_INLINE bool differ_at(std::ptrdiff_t v) const { return !common || v == 0; }
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

// The losses of register v of samples, and to the row what Gradient takes from it. `weighted`: the classes have
// weights. Returns the gradient at the labels, if there are any, of the logits x there and their terms e.
template <bool weighted, bool label, class T>
CSOFTMAX_INLINE Vec<T> find_some_losses(Row<T>& row, const Exact<T>& others, const Exact<T>& log, Vec<T> x, Vec<T> e,
                                        std::ptrdiff_t v, Samples<T>& samples) {
    constexpr int W = Vec<T>::LANES;
    const Vec<T> zero = broadcast(T(0)), finite = row.anchor.finite, scale = load(samples.scale + v * W);
    const Vec<T> weight = weighted ? rounded(row.weight) : zero, rests = rounded(others);
    const Vec<T> class_weight = label ? load(samples.class_weight + v * W) : zero;
    const Vec<T> a = label ? class_weight * broadcast(samples.kept) : zero;
    // without weights nothing but a NaN among the terms, which a label of no weight must not hide
    Vec<T> loss = (weighted ? weighted_loss(row, log) : zero * rounded(log)) + finite;
    if (label) loss = loss + nonzero_times(a, (row.max - x) + (rounded(log) + finite));
    row.offset = scale;
    row.total = weight + a;
    row.factor = row.total * scale;
    row.peak = dominant_peak(row, rests);
    fold_factor(row);
    const Vec<T> below = rounded(row.sum) + (row.ties - broadcast(T(1))) * row.anchor.peak.value;
    row.lack = divide(below, row.divisor) * row.factor;
    store(samples.loss + v * W, scaled_loss(loss, scale) + zero);  // no -0
    if (!label) return zero;
    const Vec<T> w = class_weight * broadcast(samples.spread), minus_scale = zero - scale;
    const Vec<T> at_max = fma(weight - w, scale, zero - row.lack);
    const Vec<T> elsewhere = fma(a, minus_scale, fma(w, minus_scale, divide(e, row.divisor) * row.factor));
    return at_dominant_maximum(x, row, rests, at_max, elsewhere) + finite;
}
// The same for all registers. at_label has the logits at the labels, and gets the gradient there.
template <bool weighted, bool label, class T>
CSOFTMAX_APART void find_all_losses(Row<T>* rows, std::ptrdiff_t vectors, T* at_label, Samples<T>& samples) {
    for_some(vectors, [&](auto count, std::ptrdiff_t v) CSOFTMAX_INLINED {
        constexpr int N = count.value;
        Vec<T> x[N], e[N];
        Anchor<T> anchors[N];
        Exact<T> others[N], logs[N];
        for (int i = 0; i < N; ++i) {
            x[i] = e[i] = label ? load(at_label + (v + i) * Vec<T>::LANES) : broadcast(T(0));
            anchors[i] = rows[v + i].anchor;
        }
        if (label) terms(x, anchors, e);
        find_logs(rows + v, others, logs);
        for (int i = 0; i < N; ++i) {
            const Vec<T> there =
                find_some_losses<weighted, label>(rows[v + i], others[i], logs[i], x[i], e[i], v + i, samples);
            if (label) store(at_label + (v + i) * Vec<T>::LANES, there);
        }
    });
}
template <class T>
CSOFTMAX_INLINE void find_losses(Row<T>* rows, std::ptrdiff_t vectors, bool weighted, bool label, T* at_label,
                                 Samples<T>& samples) {
    if (!label)
        find_all_losses<true, false>(rows, vectors, at_label, samples);
    else if (weighted)
        find_all_losses<true, true>(rows, vectors, at_label, samples);
    else
        find_all_losses<false, true>(rows, vectors, at_label, samples);
}

}  // namespace csoftmax
