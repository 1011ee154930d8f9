// few_classes.hpp - columns of few classes, in registers from the logits to the result of softmax,
// log_softmax, logsumexp and softmax_vjp: the operations of the sweeps, in order. And the second sums of logsumexp
// of up to FEW classes. few_losses.hpp has cross-entropy.
#pragma once

#include <algorithm>

#include "few_columns.hpp"
#include "logsumexp.hpp"
#include "loops.hpp"
#include "operations.hpp"

namespace csoftmax {

constexpr int FEW_CLASSES = 10;
// Registers of rows of N classes that are computed together, as far as there are registers.
template <int N> constexpr int SIDE_BY_SIDE = N <= 4 ? 2 : 1;

// call(n), as a constant.
template <int N = 2, int LAST = FEW_CLASSES, class Call>
CSOFTMAX_INLINE void with_count(std::ptrdiff_t n, Call call) {
    if (n == N)
        call(std::integral_constant<int, N>{});
    else if constexpr (N < LAST)
        with_count<N + 1, LAST>(n, call);
}

// The sum of N terms by blocks, as add_block has it, without the zeros that fill up the last one.
template <int N, class T> CSOFTMAX_INLINE Exact<T> sum_of_few(const Vec<T> (&e)[N]) {
    const auto pair = [&](int k) { return k + 1 < N ? e[k] + e[std::min(k + 1, N - 1)] : e[k]; };
    Exact<T> sum = N > 2 ? two_sum(pair(0), pair(std::min(2, N - 1))) : exact(pair(0));
    for (int j = BLOCK; j < N; j += BLOCK)
        sum = j + 2 < N ? add_pairs(sum, pair(j), pair(std::min(j + 2, N - 1))) : add_exactly(sum, pair(j));
    return sum;
}
// N classes of M registers of rows side by side: the logits, the terms, and of each row the maximum, the anchor and
// the sum. `apart`: without the peak and its ties.
template <int N, int M, class T>
CSOFTMAX_INLINE void anchor_few(const Vec<T> (&some)[N * M], Anchor<T> (&anchors)[M]) {
    Vec<T> maxima[M];
    for (int v = 0; v < M; ++v) {  // as find_some_maxima has it
        Vec<T> a = broadcast(-INFINITE<T>), b = a;
        int j = 0;
        for (; j + 4 <= N; j += 4) {
            a = max(max(some[j * M + v], some[(j + 1) * M + v]), a);
            b = max(max(some[(j + 2) * M + v], some[(j + 3) * M + v]), b);
        }
        for (; j < N; ++j) a = max(some[j * M + v], a);
        maxima[v] = N < 4 ? a : max(a, b);
    }
    find_anchors(maxima, anchors);
}
template <bool apart, int N, int M, class T>
CSOFTMAX_INLINE void sum_few(const Vec<T> (&some)[N * M], const Anchor<T> (&anchors)[M], Vec<T> (&e)[N * M],
                             Row<T> (&rows)[M]) {
    terms(some, anchors, e);
    for (int v = 0; v < M; ++v) {
        Row<T>& row = rows[v];
        row.max = anchors[v].max;
        row.anchor = anchors[v];
        Vec<T> some_terms[N], ties = broadcast(T(0));
        for (int j = 0; j < N; ++j) {
            const Vec<T> e_j = e[j * M + v], peak = anchors[v].peak.value;
            if (apart) ties = ties + tie(e_j, peak);
            some_terms[j] = apart ? below(e_j, peak) : e_j;
        }
        row.ties = ties;
        row.sum = sum_of_few(some_terms);
    }
}
// (x - max) - offset, of logits that are read once more: rows that lie one after the other as they lie.
template <int N, class T, int... k>
CSOFTMAX_INLINE void subtract_from_rows(const T* x, const Row<T>& row, T* out, std::ptrdiff_t ahead,
                                        std::integer_sequence<int, k...>) {
    constexpr int W = Vec<T>::LANES;
    for (int i = 0; i < N * W; i += LINE_BYTES / sizeof(T)) prefetch_to_write(out + i, ahead);
    (store(out + k * W,
           (load(x + k * W) - lanes_of_rows<N, k * W>(row.max)) - lanes_of_rows<N, k * W>(row.offset)),
     ...);
}
template <int N, int M, class T>
CSOFTMAX_INLINE void subtract_few(const Columns<T>& x, const Row<T> (&rows)[M], const Columns<T>& out) {
    constexpr int SIZE = N * Vec<T>::LANES;
    if (x.dense && out.dense) {
        for (int v = 0; v < M; ++v)
            subtract_from_rows<N>(x.data + v * SIZE, rows[v], out.data + v * SIZE, out.ahead,
                                  std::make_integer_sequence<int, N>{});
    } else {
        Vec<T> some[N * M];
        x.template load<N, M>(some);
        for (int i = 0; i < N * M; ++i) some[i] = (some[i] - rows[i % M].max) - rows[i % M].offset;
        out.template store<N, M>(some);
    }
}
template <Operation operation, int N, int M, class T>
CSOFTMAX_INLINE void compute_few(const Columns<T>& x, const Columns<T>& out, Row<T>* results) {
    Vec<T> some[N * M], e[N * M];
    Anchor<T> anchors[M];
    Row<T> rows[M];
    x.template load<N, M>(some);
    anchor_few<N, M>(some, anchors);
    sum_few<operation != SOFTMAX, N, M>(some, anchors, e, rows);
    if constexpr (operation == SOFTMAX) {
        for (int v = 0; v < M; ++v) {
            const Divisor<T> sum = divisor(sum_of_terms(rows[v], false));
            for (int j = 0; j < N; ++j) e[j * M + v] = divide(e[j * M + v], sum);
        }
        out.template store<N, M>(e);
    } else {
        Exact<T> others[M], logs[M];
        find_logs(rows, others, logs);
        for (int v = 0; v < M; ++v) {
            if constexpr (operation == LOG_SOFTMAX)
                rows[v].offset = rounded(logs[v]) + rows[v].anchor.finite;
            else
                find_logsumexp(rows[v].max, others[v], logs[v], results[v]);
        }
        if constexpr (operation == LOG_SOFTMAX) subtract_few<N, M>(x, rows, out);
    }
}
// logsumexp of registers of n classes, `stride` apart, near 0: of terms in two words each. For float two of
// double are cheaper, by the usual exp: 1 + tiny has all digits of the tiny number in its second word.
template <class T> using Finer = std::conditional_t<sizeof(T) == 4, double, T>;
template <class T>
CSOFTMAX_INLINE Vec<Finer<T>> precise_logsumexp(const Finer<T>* x, std::ptrdiff_t stride, std::ptrdiff_t n) {
    if constexpr (sizeof(T) == 4) {
        using C = Constants<double>;
        constexpr int N = 4, LOW = -200;  // what is below rounds to 0 in float
        const Vec<double> infinite = broadcast(INFINITE<double>), zero = broadcast(0.0);
        Exact<double> sum = exact(zero);
        for (std::ptrdiff_t i = 0; i < n; i += N) {
            Vec<double> some[N], k[N];
            Exact<double> e[N];
            for (int j = 0; j < N; ++j)
                some[j] = max(broadcast(double(LOW)), load(x + std::min(i + j, n - 1) * stride));
            exp_reduced(some, k, e);
            for (int j = 0; j < N && i + j < n; ++j) {
                const Vec<double> scale = from_bits<double>((bits(k[j]) + C::EXPONENT_BIAS)
                                                            << C::MANTISSA_BITS);
                const auto above_all = some[j] >= infinite;
                sum = add_any(sum, {choose(above_all, infinite, e[j].value * scale),
                                    choose(above_all, zero, e[j].error * scale)});
            }
        }
        const Exact<double> above = add_exactly(sum, broadcast(-1.0));
        const Vec<double> log = rounded(log1p(two_sum(above.value, above.error)));
        return choose(sum.value >= infinite, infinite, log);
    } else {
        Row<T> row;
        row.again = broadcast(T(1));
        row.max = broadcast(-INFINITE<T>);
        for (std::ptrdiff_t j = 0; j < n; ++j) row.max = max(load(x + j * stride), row.max);
        row.sum = exact(broadcast(T(0)));
        add_exact_terms(x, stride, n, &row, &row.sum);
        return logsumexp_again(row, row.max);
    }
}
// factor <- logsumexp of the rows that need a second sum, of up to FEW classes. They are gathered LANES at a time:
// among few classes some do in nearly every register.
template <class T>
CSOFTMAX_APART void sum_some_again(const Columns<T>& x, std::ptrdiff_t n, std::ptrdiff_t vectors, Row<T>* rows) {
    constexpr int W = Vec<T>::LANES;
    const std::ptrdiff_t lane_stride = x.dense ? n : 1, stride = x.dense ? 1 : x.stride;
    std::int32_t found[MAX_LANES + W];
    for (int first = 0; first < vectors; first += MAX_LANES / W) {
        int count = 0;
        for (int v = first; v < vectors && v < first + MAX_LANES / W; ++v)
            count += find_positive(rows[v].again, v * W, found + count);
        for (int done = 0; done < count; done += W) {
            const int now = count - done < W ? count - done : W;
            std::int32_t* at = found + done;
            for (int i = now; i < W; ++i) at[i] = at[0];  // lanes beyond: once more the first
            Finer<T> tile[FEW * W], results[W];
            for (std::ptrdiff_t j = 0; j < n; ++j)
                for (int i = 0; i < W; ++i)
                    tile[j * W + i] = read<T>(
                        reinterpret_cast<const char*>(x.data + j * stride + at[i] * lane_stride), false);
            for (int i = 0; i < W; i += Vec<Finer<T>>::LANES)
                store(results + i, precise_logsumexp<T>(tile + i, W, n));
            for (int i = 0; i < now; ++i) set_lane(rows[at[i] / W].factor, at[i] % W, T(results[i]));
        }
    }
}
// softmax_vjp, y * (grad - sum(y * grad)), of N classes. The sum is that of rows along registers.
template <int N, class T>
CSOFTMAX_INLINE void multiply_few(const Columns<T>& y, const Columns<T>& grad, const Columns<T>& out) {
    constexpr int W = Vec<T>::LANES;
    Vec<T> some[N], grads[N], sums[W];
    y.template load<N, 1>(some);
    grad.template load<N, 1>(grads);
    for (int first = 0; first < N; first += BLOCK * W) {
        Vec<T> chains[W][2];
        for (int i = 0; i < W; ++i) chains[i][0] = chains[i][1] = broadcast(T(0));
        for (int j = first; j < std::min(N, first + BLOCK * W); ++j) {
            Vec<T>& chain = chains[j % W][j / W % 2];
            chain = fma(some[j], grads[j], chain);
        }
        for (int i = 0; i < std::min(N - first, W); ++i) {
            const Vec<T> block = i + W < N - first ? chains[i][0] + chains[i][1] : chains[i][0];
            sums[i] = first == 0 ? block : sums[i] + block;
        }
    }
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half && i + half < N; ++i) sums[i] = sums[i] + sums[i + half];
    for (int j = 0; j < N; ++j) some[j] = some[j] * (grads[j] - sums[0]);
    out.template store<N, 1>(some);
}
template <int N, class T>
CSOFTMAX_APART void multiply_few(Columns<T> y, Columns<T> grad, Columns<T> out, std::ptrdiff_t vectors) {
    for (std::ptrdiff_t v = 0; v < vectors; ++v)
        multiply_few<N>(y.template at<N>(v), grad.template at<N>(v), out.template at<N>(v));
}
template <Operation operation, int N, class T>
CSOFTMAX_APART void compute_few(Columns<T> x, Columns<T> out, Row<T>* rows, std::ptrdiff_t vectors) {
    constexpr int M = SIDE_BY_SIDE<N>;
    std::ptrdiff_t v = 0;
    for (; v + M <= vectors; v += M)
        compute_few<operation, N, M>(x.template at<N>(v), out.template at<N>(v), rows + v);
    if (v < vectors) compute_few<operation, N, 1>(x.template at<N>(v), out.template at<N>(v), rows + v);
}
// n classes, 2 to FEW_CLASSES, of `vectors` registers of rows: softmax or log_softmax to out, logsumexp to row.factor.
template <class T>
inline void compute_few_classes(Operation operation, std::ptrdiff_t n, const Columns<T>& x,
                                const Columns<T>& out, Row<T>* rows, std::ptrdiff_t vectors) {
    const auto compute = [&](auto kernel) {
        with_count(n, [&](auto count) {
            compute_few<kernel.value, count.value>(x, out, rows, vectors);
        });
    };
    if constexpr (Vec<T>::LANES == 1) {
        return;  // there are no columns
    } else if (operation == SOFTMAX) {
        compute(std::integral_constant<Operation, SOFTMAX>{});
    } else if (operation == LOG_SOFTMAX) {
        compute(std::integral_constant<Operation, LOG_SOFTMAX>{});
    } else {
        compute(std::integral_constant<Operation, LOGSUMEXP>{});
        sum_some_again(x, n, vectors, rows);
    }
}
template <class T>
inline void multiply_few_classes(std::ptrdiff_t n, const Columns<T>& y, const Columns<T>& grad,
                                 const Columns<T>& out, std::ptrdiff_t vectors) {
    if constexpr (Vec<T>::LANES > 1)
        with_count(n, [&](auto count) { multiply_few<count.value>(y, grad, out, vectors); });
}

}  // namespace csoftmax
