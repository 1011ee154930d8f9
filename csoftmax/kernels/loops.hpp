// loops.hpp - the loops that find and add up terms, over registers of rows or of one row.
//
// Several registers go side by side wherever a loop is a chain of dependent steps. `stride` is the
// distance of two classes, in entries; registers of rows lie next to each other.
#pragma once

#include <algorithm>

#include "loss.hpp"
#include "outgoing.hpp"

namespace csoftmax {

// e_j <- exp(x_j - max) * peak, for M registers of rows side by side and N / M classes,
template <class T, int N, int M>
CSOFTMAX_INLINE void terms_at(const T* x, std::ptrdiff_t stride, T* e, std::ptrdiff_t e_stride,
                              const Anchor<T> (&anchors)[M]) {
    constexpr int W = Vec<T>::LANES;
    Vec<T> some[N];
    for (int i = 0; i < N; ++i) some[i] = load(x + i / M * stride + i % M * W);
    terms(some, anchors, some);
    for (int i = 0; i < N; ++i) store(e + i / M * e_stride + i % M * W, some[i]);
}
// for all classes,
template <int M, class T>
CSOFTMAX_INLINE void find_some_terms(const T* x, std::ptrdiff_t stride, T* e,
                                     std::ptrdiff_t e_stride, std::ptrdiff_t steps,
                                     const Row<T>* rows, Outgoing* outgoing) {
    constexpr int N = TOGETHER, CLASSES = N / M;
    Anchor<T> anchors[M];
    for (int i = 0; i < M; ++i) anchors[i] = rows[i].anchor;
    for (; steps >= CLASSES; steps -= CLASSES, x += CLASSES * stride, e += CLASSES * e_stride) {
        terms_at<T, N>(x, stride, e, e_stride, anchors);
        send_registers<T, N>(outgoing);
    }
    for (; steps > 0; --steps, x += stride, e += e_stride)
        terms_at<T, M>(x, stride, e, e_stride, anchors);
}
// and for `vectors` registers of rows.
template <class T>
CSOFTMAX_APART void find_terms(const T* x, std::ptrdiff_t stride, T* e, std::ptrdiff_t e_stride,
                               std::ptrdiff_t steps, const Row<T>* rows, std::ptrdiff_t vectors,
                               Outgoing* outgoing = nullptr) {
    constexpr int W = Vec<T>::LANES, M = 2;
    for (; vectors >= M; vectors -= M, rows += M, x += M * W, e += M * W)
        find_some_terms<M>(x, stride, e, e_stride, steps, rows, outgoing);
    for (; vectors > 0; --vectors, ++rows, x += W, e += W)
        find_some_terms<1>(x, stride, e, e_stride, steps, rows, outgoing);
}

// The same for one row along its registers: strides that are known make better code.
template <class T>
CSOFTMAX_APART void find_row_terms(const T* x, T* e, std::ptrdiff_t steps, const Row<T>* row) {
    constexpr int W = Vec<T>::LANES;
    find_some_terms<1>(x, W, e, W, steps, row, nullptr);
}

// The largest of x_j, for N registers of rows side by side. A NaN may get lost here: its term will
// not.
template <int N, class T>
CSOFTMAX_INLINE void find_some_maxima(const T* x, std::ptrdiff_t stride, std::ptrdiff_t steps,
                                      Row<T>* rows) {
    constexpr int W = Vec<T>::LANES;
    Vec<T> a[N], b[N];
    for (int v = 0; v < N; ++v) a[v] = b[v] = rows[v].max;
    for (; steps >= 4; steps -= 4, x += 4 * stride)
        for (int v = 0; v < N; ++v) {
            a[v] = max(max(load(x + v * W), load(x + stride + v * W)), a[v]);
            b[v] = max(max(load(x + 2 * stride + v * W), load(x + 3 * stride + v * W)), b[v]);
        }
    for (; steps > 0; --steps, x += stride)
        for (int v = 0; v < N; ++v) a[v] = max(load(x + v * W), a[v]);
    for (int v = 0; v < N; ++v) rows[v].max = max(a[v], b[v]);
}
template <class T>
CSOFTMAX_APART void find_maxima(const T* x, std::ptrdiff_t stride, std::ptrdiff_t steps,
                                 Row<T>* rows, std::ptrdiff_t vectors) {
    constexpr int N = TOGETHER, W = Vec<T>::LANES;
    for (; vectors >= N; vectors -= N, rows += N, x += N * W)
        find_some_maxima<N>(x, stride, steps, rows);
    for (; vectors > 0; --vectors, ++rows, x += W) find_some_maxima<1>(x, stride, steps, rows);
}

// sums += up to BLOCK terms, for N registers of rows side by side. `apart`: the peak and its
// ties are counted instead of summed.
template <int count, bool apart, int N, class T>
CSOFTMAX_INLINE void add_block(const T* e, std::ptrdiff_t stride, const Vec<T> (&peaks)[N],
                               Vec<T> (&ties)[N], Exact<T> (&sums)[N]) {
    for (int v = 0; v < N; ++v) {
        Vec<T> some[BLOCK];
        for (int k = 0; k < BLOCK; ++k)
            some[k] = k < count ? load(e + k * stride + v * Vec<T>::LANES) : broadcast(T(0));
        for (int k = 0; k < count && apart; ++k) {
            ties[v] = ties[v] + tie(some[k], peaks[v]);
            some[k] = below(some[k], peaks[v]);
        }
        sums[v] = add_pairs(sums[v], some[0] + some[1], some[2] + some[3]);
    }
}
template <bool apart, int N, class T>
CSOFTMAX_INLINE void add_some_terms(const T* e, std::ptrdiff_t stride, std::ptrdiff_t steps,
                                    Row<T>* rows, Exact<T>* lanes) {
    Vec<T> peaks[N], ties[N];
    Exact<T> sums[N];
    for (int v = 0; v < N; ++v) {
        peaks[v] = rows[v].anchor.peak.value;
        ties[v] = broadcast(T(0));
        sums[v] = lanes[v];
    }
    for (; steps >= BLOCK; steps -= BLOCK, e += BLOCK * stride)
        add_block<BLOCK, apart>(e, stride, peaks, ties, sums);
    static_assert(BLOCK == 4, "the rest of a block");
    if (steps == 1) add_block<1, apart>(e, stride, peaks, ties, sums);
    if (steps == 2) add_block<2, apart>(e, stride, peaks, ties, sums);
    if (steps == 3) add_block<3, apart>(e, stride, peaks, ties, sums);
    for (int v = 0; v < N; ++v) {
        lanes[v] = sums[v];
        if (apart) rows[v].ties = rows[v].ties + ties[v];  // many at once: 2^24 + 1 is no float
    }
}
template <bool apart, class T>
CSOFTMAX_INLINE void add_all_terms(const T* e, std::ptrdiff_t stride, std::ptrdiff_t steps,
                                   Order order, Row<T>* rows, std::ptrdiff_t vectors, Exact<T>* lanes) {
    constexpr int N = TOGETHER, W = Vec<T>::LANES;
    const std::ptrdiff_t registers = order.registers;
    for (std::ptrdiff_t i = 0; i < registers && i < steps; ++i, e += stride, lanes += vectors) {
        const std::ptrdiff_t count = (steps - i + registers - 1) / registers;
        std::ptrdiff_t v = 0;
        for (; W > 1 && v + N <= vectors; v += N)  // without lanes there is no column form
            add_some_terms<apart, N>(e + v * W, stride * registers, count, rows + v, lanes + v);
        for (; v < vectors; ++v)
            add_some_terms<apart, 1>(e + v * W, stride * registers, count, rows + v, lanes + v);
    }
}
template <class T>
CSOFTMAX_INLINE void add_terms(const T* e, std::ptrdiff_t stride, std::ptrdiff_t steps, bool apart,
                               Order order, Row<T>* rows, std::ptrdiff_t vectors, Exact<T>* lanes) {
    if (apart)
        add_all_terms<true>(e, stride, steps, order, rows, vectors, lanes);
    else
        add_all_terms<false>(e, stride, steps, order, rows, vectors, lanes);
}

// Both at once, the peaks apart, for whole blocks of classes that go to the lanes of a sum in turn: each is added up
// halfway through the terms of the next one (row_loops.hpp). Returns how many classes that were.
template <class T>
CSOFTMAX_APART std::ptrdiff_t add_blocks_of_columns(const T* x, std::ptrdiff_t stride, T* e,
                                                    std::ptrdiff_t e_stride, std::ptrdiff_t steps, Order order,
                                                    Row<T>* rows, std::ptrdiff_t vectors, Exact<T>* lanes,
                                                    Outgoing* outgoing) {
    constexpr int W = Vec<T>::LANES;
    const std::ptrdiff_t registers = order.registers, step = BLOCK * registers;
    const std::ptrdiff_t whole = registers > 1 ? steps - steps % step : 0;
    for (std::ptrdiff_t v = 0; v < vectors && whole > 0; ++v) {
        const Anchor<T> anchors[1] = {rows[v].anchor};
        const Vec<T> peak = anchors[0].peak.value;
        const std::ptrdiff_t ahead = v + 1 < vectors ? W * sizeof(T) : 0;  // to the rows beside these
        Vec<T> ties = broadcast(T(0)), first = ties, second = ties;
        Exact<T>* lane = lanes + v;
        const auto add = [&]() CSOFTMAX_INLINED { *lane = add_pairs(*lane, first, second); };
        for (std::ptrdiff_t block = 0; block < whole; block += step)
            for (std::ptrdiff_t i = 0; i < registers; ++i) {
                const T* from = x + (block + i) * stride + v * W;
                Vec<T> some[BLOCK];
                send_registers<T, BLOCK>(outgoing);
                for (int k = 0; k < BLOCK; ++k) prefetch(from + k * registers * stride, ahead);
                for (int k = 0; k < BLOCK; ++k) some[k] = load(from + k * registers * stride);
                terms(some, anchors, some, add);
                for (int k = 0; k < BLOCK && e; ++k)
                    store(e + (block + i + k * registers) * e_stride + v * W, some[k]);
                set_rare_peaks_apart(some, peak, ties);
                first = some[0] + some[1];
                second = some[2] + some[3];
                lane = lanes + i * vectors + v;
            }
        add();
        rows[v].ties = rows[v].ties + ties;
    }
    return whole;
}

// lanes += y_j * grad_j, for N registers of rows side by side,
template <int N, class T>
CSOFTMAX_INLINE void add_some_products(const T* y, std::ptrdiff_t stride, const T* grad,
                                       std::ptrdiff_t grad_stride, std::ptrdiff_t steps,
                                       Exact<T>* lanes) {
    constexpr int W = Vec<T>::LANES;
    const Vec<T> zero = broadcast(T(0));
    Exact<T> sums[N];
    for (int v = 0; v < N; ++v) sums[v] = lanes[v];
    while (steps > 0) {
        Vec<T> s[N], t[N];
        const std::ptrdiff_t count = steps < BLOCK ? steps : BLOCK;
        for (int v = 0; v < N; ++v) s[v] = t[v] = zero;
        for (std::ptrdiff_t k = 0; k < count; ++k, y += stride, grad += grad_stride)
            for (int v = 0; v < N; ++v) {
                Vec<T>& chain = k % 2 ? t[v] : s[v];
                chain = fma(load(y + v * W), load(grad + v * W), chain);
            }
        for (int v = 0; v < N; ++v) sums[v] = add_exactly(sums[v], s[v] + t[v]);
        steps -= count;
    }
    for (int v = 0; v < N; ++v) lanes[v] = end_sum(sums[v]);
}
// and for `vectors` of them.
template <class T>
CSOFTMAX_APART void add_products(const T* y, std::ptrdiff_t stride, const T* grad,
                                 std::ptrdiff_t grad_stride, std::ptrdiff_t steps, Order order,
                                 std::ptrdiff_t vectors, Exact<T>* lanes) {
    constexpr int N = TOGETHER, W = Vec<T>::LANES;
    const std::ptrdiff_t registers = order.registers;
    for (std::ptrdiff_t i = 0; i < registers && i < steps; ++i, lanes += vectors) {
        const std::ptrdiff_t count = (steps - i + registers - 1) / registers;
        const T *y_i = y + i * stride, *grad_i = grad + i * grad_stride;
        std::ptrdiff_t v = 0;
        for (; v + N <= vectors; v += N)
            add_some_products<N>(y_i + v * W, stride * registers, grad_i + v * W,
                                 grad_stride * registers, count, lanes + v);
        for (; v < vectors; ++v)
            add_some_products<1>(y_i + v * W, stride * registers, grad_i + v * W,
                                 grad_stride * registers, count, lanes + v);
    }
}
// Cross-entropy: weights += w_j, spreads += w_j (max - x_j), for N registers of rows from lane
// `at` on and every `registers`-th class from i on,
template <int N, class T>
CSOFTMAX_INLINE void add_some_weights(const T* x, std::ptrdiff_t stride, const Weights<T>& w,
                                      std::ptrdiff_t steps, std::ptrdiff_t registers, const Row<T>* rows,
                                      std::ptrdiff_t at, std::ptrdiff_t i, Exact<T>* weight_lanes,
                                      Exact<T>* spread_lanes) {
    constexpr int W = Vec<T>::LANES;
    Exact<T> weights[N], spreads[N];
    Vec<T> maxima[N];
    for (int v = 0; v < N; ++v) {
        weights[v] = weight_lanes[v];
        spreads[v] = spread_lanes[v];
        maxima[v] = rows[v].anchor.max;
    }
    std::ptrdiff_t j = i;
    const auto add_block = [&](auto count) CSOFTMAX_INLINED {
        for (int v = 0; v < N; ++v) {
            Vec<T> s = broadcast(T(0)), t = s;
            for (int k = 0; k < count; ++k) {
                const Vec<T> w_j = w.at(j + k * registers, at + v * W);
                s = s + w_j;
                t = fma(w_j, gap(w_j, load(x + (j + k * registers) * stride + at + v * W), maxima[v]), t);
            }
            if (w.differ_at(at / W + v)) weights[v] = add_exactly(weights[v], s);
            spreads[v] = add_exactly(spreads[v], t);
        }
        j += count * registers;
    };
    while (j + (BLOCK - 1) * registers < steps) add_block(std::integral_constant<int, BLOCK>{});
    if (j < steps) add_block(int((steps - j + registers - 1) / registers));
    for (int v = 0; v < N; ++v) {
        weight_lanes[v] = end_sum(weights[v]);
        spread_lanes[v] = end_sum(spreads[v]);
    }
}
// and for `vectors` of them.
template <class T>
CSOFTMAX_APART void add_weights(const T* x, std::ptrdiff_t stride, const Weights<T>& w,
                                std::ptrdiff_t steps, Order order, const Row<T>* rows,
                                std::ptrdiff_t vectors, const LaneSums<T>& lanes) {
    constexpr int N = 2, W = Vec<T>::LANES;
    for (std::ptrdiff_t i = 0; i < order.registers && i < steps; ++i) {
        Exact<T> *weight = lanes.weight + i * vectors, *spread = lanes.spread + i * vectors;
        std::ptrdiff_t v = 0;
        for (; v + N <= vectors; v += N)
            add_some_weights<N>(x, stride, w, steps, order.registers, rows + v, v * W, i, weight + v, spread + v);
        for (; v < vectors; ++v)
            add_some_weights<1>(x, stride, w, steps, order.registers, rows + v, v * W, i, weight + v, spread + v);
    }
}

}  // namespace csoftmax
