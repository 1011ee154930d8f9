// few_losses.hpp - cross-entropy of columns of few classes, in registers from the logits to the losses and
// the gradient.
#pragma once

#include "few_classes.hpp"

namespace csoftmax {

constexpr int NO_LABEL = -1, IGNORED = -2;
// What a group of samples brings along, and its losses; a label is a number of T.
template <class T> struct Samples {
    T label[MAX_LANES], class_weight[MAX_LANES], scale[MAX_LANES], loss[MAX_LANES];
    T kept, spread;  // 1 - s and s / n, of the smoothing s
    bool labelled;   // the samples have labels, not target probabilities
};

// N classes of one register of samples, the one at `at`; the formulas are in loss.hpp. w: the weights of the classes,
// if `weighted`; with labels one of each class, common to all. out: no memory if only losses are asked for.
template <int N, bool weighted, bool labelled, class T>
CSOFTMAX_INLINE void find_some_losses(const Columns<T>& x, const Columns<T>& w, const Columns<T>& out,
                                      Samples<T>& samples, std::ptrdiff_t at) {
    const Vec<T> zero = broadcast(T(0));
    Anchor<T> anchors[1];
    Vec<T> some[N], e[N], weights[weighted ? N : 1];
    Row<T> rows[1];
    Row<T>& row = rows[0];
    x.template load<N, 1>(some);
    anchor_few<N, 1>(some, anchors);
    sum_few<true, N, 1>(some, anchors, e, rows);
    if constexpr (weighted) {
        if (labelled)
            for (int j = 0; j < N; ++j) weights[j] = broadcast(w.data[j * w.stride]);
        else
            w.template load<N, 1>(weights);
        Exact<T> weight = exact(zero), spread = weight;
        for (int j = 0; j < N; j += BLOCK) {  // as add_some_weights has it
            Vec<T> s = zero, t = zero;
            for (int k = j; k < j + BLOCK && k < N; ++k) {
                s = s + weights[k];
                t = fma(weights[k], gap(weights[k], some[k], row.anchor.max), t);
            }
            weight = j == 0 ? exact(s) : add_exactly(weight, s);
            spread = j == 0 ? exact(t) : add_exactly(spread, t);
        }
        row.weight = end_sum(weight);
        row.spread = end_sum(spread);
    }
    const Vec<T> label = load(samples.label + at);
    Labelled<T> y = {zero, zero, load(samples.class_weight + at), load(samples.scale + at),
                     broadcast(samples.kept), broadcast(samples.spread)};
    for (int j = 0; j < N && labelled; ++j) {
        const auto here = equal(label, broadcast(T(j)));
        y.x = choose(here, some[j], y.x);
        y.e = choose(here, e[j], y.e);
    }
    Vec<T> at_label;
    store(samples.loss + at, find_loss(row, weighted, labelled, y, at_label));
    if (!out.data) return;
    const Gradient<T> gradient(row);
    const auto counts = label >= broadcast(T(NO_LABEL));
    for (int j = 0; j < N; ++j) {
        e[j] = weighted ? gradient.at(e[j], weights[j]) : gradient.at(e[j]);
        if (labelled) e[j] = choose(equal(label, broadcast(T(j))), at_label, choose(counts, e[j], zero));
    }
    out.template store<N, 1>(e);
}
template <int N, bool weighted, bool labelled, class T>
CSOFTMAX_APART void find_few_losses(Columns<T> x, Columns<T> w, Columns<T> out, Samples<T>& samples,
                                    std::ptrdiff_t vectors) {
    constexpr int W = Vec<T>::LANES;
    for (std::ptrdiff_t at = 0; at < vectors * W; at += W) {
        find_some_losses<N, weighted, labelled>(x, w, out, samples, at);
        x.template skip<N>(1);
        if (!labelled) w.template skip<N>(1);
        out.template skip<N>(1);
    }
}
// n classes, 2 to FEW_CLASSES, of `vectors` registers of samples.
template <class T>
inline void find_losses_of_few_classes(std::ptrdiff_t n, const Columns<T>& x, const Columns<T>& w,
                                       bool weighted, const Columns<T>& out, Samples<T>& samples,
                                       std::ptrdiff_t vectors) {
    if constexpr (Vec<T>::LANES > 1)
        with_count(n, [&](auto count) {
            constexpr int N = count.value;
            if (!weighted)
                find_few_losses<N, false, true>(x, w, out, samples, vectors);
            else if (samples.labelled)
                find_few_losses<N, true, true>(x, w, out, samples, vectors);
            else
                find_few_losses<N, true, false>(x, w, out, samples, vectors);
        });
}

}  // namespace csoftmax
