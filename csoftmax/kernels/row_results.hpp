// row_results.hpp - the loops that write the result of one contiguous row, along its registers, and what weighs its
// classes in a loss.
#pragma once

#include "row_loops.hpp"

namespace csoftmax {

// Weights of the classes in the loss of a row, w_j = c_j (scale t_j + offset) (cross_entropy.pxi), by what
// they are made of.
enum Weighing { UNWEIGHTED, BY_TARGET, BY_CLASS, BY_BOTH };
template <class T> inline Weighing weighing_of(const T*, const Problem& p) {
    const bool one_weight = p.class_weight.class_stride == 0;
    if (!has_weights(p)) return UNWEIGHTED;
    if (p.label) return one_weight ? BY_BOTH : BY_CLASS;
    const bool alone = one_weight && p.smoothing == 0 && read<T>(p.class_weight.data, false) == 1;
    return alone ? BY_TARGET : BY_BOTH;
}
template <class T> struct WeightsOfRow {
    const T* t;      // nullptr: 0
    const T* c;
    bool one_weight;  // for all classes
    T common;         // that one
    T scale, offset;

    template <Weighing weighing, class Register>
    CSOFTMAX_INLINE Vec<T> at(std::ptrdiff_t j, Register part) const {
        if (weighing == BY_TARGET) return load(t + j, part, T(0));
        if (weighing == BY_CLASS) return load(c + j, part, T(0)) * broadcast(offset);
        Vec<T> target = t ? load(t + j, part, T(0)) : broadcast(T(0));
        Vec<T> weight = one_weight ? broadcast(common) : load(c + j, part, T(0));
        return part_of(weight * (broadcast(scale) * target + broadcast(offset)), part);
    }
};
template <class T>
CSOFTMAX_INLINE WeightsOfRow<T> weights_of_row(const T*, const Problem& p, std::ptrdiff_t lane,
                                               std::ptrdiff_t j0) {
    const long double smoothing = p.smoothing;
    const bool one_weight = p.class_weight.class_stride == 0;
    const T* t = nullptr;
    if (!p.label) t = reinterpret_cast<const T*>(p.y.data + lane * p.y.lane_stride) + j0;
    return {t, reinterpret_cast<const T*>(p.class_weight.data) + (one_weight ? 0 : j0), one_weight,
            read<T>(p.class_weight.data, false), T(1 - smoothing), T(smoothing / p.n)};
}
// weight += w_j, if that is wanted; spread += w_j (max - x_j)
template <Weighing weighing, bool weights, class T>
CSOFTMAX_INLINE void add_weights_of_row(const T* x, std::ptrdiff_t n, const WeightsOfRow<T>& w,
                                        const Anchor<T>& anchor, std::ptrdiff_t ahead,
                                        RowSums<T>& sums) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    Exact<T> weight = exact(broadcast(T(0))), spread = weight;
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
        constexpr int COUNT = decltype(count)::value;
        Vec<T> s = broadcast(T(0)), t = s, some[COUNT];
        load_block(x + j, last, -INFINITE<T>, some);
        constexpr std::size_t LINE = LINE_BYTES / sizeof(T);
        for (std::size_t k = 0; weighing != BY_CLASS && w.t && k < COUNT * W; k += LINE)
            prefetch(w.t + j + k, ahead);
        for (int k = 0; k < COUNT; ++k) {
            const Vec<T> w_j = k + 1 < COUNT ? w.template at<weighing>(j + k * W, Full{})
                                             : w.template at<weighing>(j + k * W, last);
            const Vec<T> gap_j = gap(w_j, some[k], anchor.max);
            s = k == 0 ? w_j : s + w_j;
            t = k == 0 ? w_j * gap_j : fma(w_j, gap_j, t);
        }
        if (weights) weight = add_exactly(weight, s);
        spread = add_exactly(spread, t);
    });
    if (weights) sums.weight = end_sum(weight);
    sums.spread = end_sum(spread);
}

// What the writing sweep makes its results of: the operand, terms that lie where these go, or terms that lie
// elsewhere.
enum Source { OPERAND, TERMS_IN_RESULT, TERMS_ASIDE };

// The writing sweep of one row, `i` among the rows: what it is divided by and so on is in lane i. Asks
// for the lines `ahead` bytes behind those that it writes, unless that is 0. Terms aside are divided by
// 2^powers.
template <Operation operation, Weighing weighing, Source source, class T>
CSOFTMAX_INLINE void write_row(const T* x, const T* y, T* out, std::ptrdiff_t n, bool streamed,
                               std::ptrdiff_t ahead, const Row<T>& rows, int i,
                               const WeightsOfRow<T>& w, int powers = 0) {
    constexpr bool takes_terms = operation == SOFTMAX || operation == CROSS_ENTROPY;
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    const Anchor<T> anchors[1] = {spread(rows.anchor, i)};
    const Gradient<T> gradient(rows, i);
    const Vec<T> maximum = spread(rows.max, i);
    const Exact<T> sum = spread(rows.sum, i);
    const Vec<T> scale = broadcast(source == TERMS_ASIDE ? std::ldexp(T(1), -powers) : T(1));
    struct Two {
        Vec<T> x, y;
    };
    for_registers(
        out, n, source != TERMS_IN_RESULT && streamed,
        [&](std::ptrdiff_t j, auto part) CSOFTMAX_INLINED {
            Two a = {load(x + j, part, T(0)), broadcast(T(0))};
            if (operation >= SOFTMAX_VJP) a.y = load(y + j, part, T(0));
            if (weighing != UNWEIGHTED) a.y = w.template at<weighing>(j, part);
            return a;
        },
        [&](std::ptrdiff_t j, const auto& some, auto part) CSOFTMAX_INLINED {
            constexpr int N = std::extent_v<std::remove_reference_t<decltype(some)>>;
            Vec<T> a[N];
            for (int k = 0; k < N; ++k) a[k] = some[k].x;
            if (takes_terms && source == OPERAND) terms(a, anchors, a);
            for (int k = 0; k < N; ++k) {
                if (source == TERMS_ASIDE) a[k] = a[k] * scale;
                const Vec<T> y = some[k].y;
                Vec<T> result;
                if (operation == SOFTMAX)
                    result = divide(a[k], gradient.divisor);
                else if (operation == LOG_SOFTMAX)
                    result = (a[k] - maximum) - gradient.offset;
                else if (operation == SOFTMAX_VJP)
                    result = a[k] * ((y - sum.error) - sum.value);
                else if (operation == LOG_SOFTMAX_VJP)
                    result = fma(exp(a[k]), broadcast(T(0)) - gradient.factor, y);
                else if (weighing != UNWEIGHTED)
                    result = gradient.at(a[k], y);
                else
                    result = gradient.at(a[k]);
                if (ahead != 0) prefetch_to_write(out + j + k * W, ahead);
                store(out + j + k * W, result, part);
            }
        });
}

// The same for a chunk of a long row, which is row 0.
template <Operation operation, Weighing weighing, Source source, class T>
CSOFTMAX_APART void write_chunk(const T* x, T* out, std::ptrdiff_t n, bool streamed,
                                std::ptrdiff_t ahead, const Row<T>& rows,
                                const WeightsOfRow<T>& w, int powers) {
    constexpr const T* none = nullptr;
    write_row<operation, weighing, source>(x, none, out, n, streamed, ahead, rows, 0, w, powers);
}

}  // namespace csoftmax
