// few_losses.hpp - cross-entropy of columns of few classes, in registers from the logits to the losses and
// the gradient.
#pragma once

#include "few_classes.hpp"
#include "loss.hpp"

namespace csoftmax {

constexpr int NO_LABEL = -1, IGNORED = -2;  // as labels, which are numbers of T

// Of register v of samples.
template <int N, bool labelled, class T>
CSOFTMAX_INLINE void load_weights(const Columns<T>& w, std::ptrdiff_t v, Vec<T> (&weights)[N]) {
    if constexpr (labelled)
        for (int j = 0; j < N; ++j) weights[j] = broadcast(w.data[j * w.stride]);
    else
        w.template at<N>(v).template load<N, 1>(weights);
}
// N classes of M registers of samples, the first at v. w: the weights of the classes, if `weighted`; with labels one
// of each class, common to all. out: no memory if only losses are asked for.
template <int N, int M, bool weighted, bool labelled, class T>
CSOFTMAX_INLINE void find_few_losses(const Columns<T>& x, const Columns<T>& w, const Columns<T>& out, const T* label,
                                     Samples<T>& samples, std::ptrdiff_t v) {
    constexpr int W = Vec<T>::LANES;
    const Vec<T> zero = broadcast(T(0));
    Anchor<T> anchors[M];
    Vec<T> some[N * M], e[N * M], weights[M][weighted ? N : 1], labels[M], logit[M], term[M], at_label[M];
    Row<T> rows[M];
    Exact<T> others[M], logs[M];
    x.template at<N>(v).template load<N, M>(some);
    anchor_few<N, M>(some, anchors);
    sum_few<true, N, M>(some, anchors, e, rows);
    for (int i = 0; i < M; ++i) {
        if constexpr (weighted) {
            load_weights<N, labelled>(w, v + i, weights[i]);
            Exact<T> weight = exact(zero), spread = weight;
            for (int j = 0; j < N; j += BLOCK) {  // as add_some_weights has it
                Vec<T> s = zero, t = zero;
                for (int k = j; k < j + BLOCK && k < N; ++k) {
                    s = s + weights[i][k];
                    t = fma(weights[i][k], gap(weights[i][k], some[k * M + i], anchors[i].max), t);
                }
                weight = j == 0 ? exact(s) : add_exactly(weight, s);
                spread = j == 0 ? exact(t) : add_exactly(spread, t);
            }
            rows[i].weight = end_sum(weight);
            rows[i].spread = end_sum(spread);
        }
        labels[i] = load(label + (v + i) * W);
        logit[i] = term[i] = zero;
        for (int j = 0; j < N && labelled; ++j) {
            const auto here = equal(labels[i], broadcast(T(j)));
            logit[i] = choose(here, some[j * M + i], logit[i]);
            term[i] = choose(here, e[j * M + i], term[i]);
        }
    }
    find_logs(rows, others, logs);
    for (int i = 0; i < M; ++i)
        at_label[i] =
            find_some_losses<weighted, labelled>(rows[i], others[i], logs[i], logit[i], term[i], v + i, samples);
    if (!out.data) return;
    for (int i = 0; i < M; ++i) {
        const Gradient<T> gradient(rows[i]);
        const auto counts = labels[i] >= broadcast(T(NO_LABEL));
        for (int j = 0; j < N; ++j) {
            Vec<T>& e_j = e[j * M + i];
            e_j = weighted ? gradient.at(e_j, weights[i][weighted ? j : 0]) : gradient.at(e_j);
            if (labelled) e_j = choose(equal(labels[i], broadcast(T(j))), at_label[i], choose(counts, e_j, zero));
        }
    }
    out.template at<N>(v).template store<N, M>(e);
}
template <int N, bool weighted, bool labelled, class T>
CSOFTMAX_APART void find_few_losses(Columns<T> x, Columns<T> w, Columns<T> out, const T* label,
                                    Samples<T>& samples, std::ptrdiff_t vectors) {
    // side by side unless common weights take registers, too, or one is as wide as a line, where it does not pay
    constexpr int M = (weighted && labelled) || sizeof(Vec<T>) >= LINE_BYTES ? 1 : SIDE_BY_SIDE<N>;
    std::ptrdiff_t v = 0;
    for (; v + M <= vectors; v += M) find_few_losses<N, M, weighted, labelled>(x, w, out, label, samples, v);
    if (v < vectors) find_few_losses<N, 1, weighted, labelled>(x, w, out, label, samples, v);
}
// n classes, 2 to FEW_CLASSES, of `vectors` registers of samples.
template <class T>
inline void find_losses_of_few_classes(std::ptrdiff_t n, const Columns<T>& x, const Columns<T>& w, bool weighted,
                                       bool labelled, const Columns<T>& out, const T* label, Samples<T>& samples,
                                       std::ptrdiff_t vectors) {
    if constexpr (Vec<T>::LANES > 1)
        with_count(n, [&](auto count) {
            constexpr int N = count.value;
            if (!weighted)
                find_few_losses<N, false, true>(x, w, out, label, samples, vectors);
            else if (labelled)
                find_few_losses<N, true, true>(x, w, out, label, samples, vectors);
            else
                find_few_losses<N, true, false>(x, w, out, label, samples, vectors);
        });
}

}  // namespace csoftmax
