// logsumexp.hpp - the logarithms of the sums of rows: what log_softmax subtracts, and logsumexp.
#pragma once

#include "row.hpp"

namespace csoftmax {

// log(1 + rest) of N registers of rows, in two words, and the rest: long chains, which are computed side by side.
template <int N, class T>
CSOFTMAX_INLINE void find_logs(const Row<T>* rows, Exact<T> (&others)[N], Exact<T> (&logs)[N]) {
    for (int i = 0; i < N; ++i) others[i] = rest(rows[i]);
    log1p_of_positive(others, logs);
}

// What log_softmax subtracts beside the maximum.
template <class T> CSOFTMAX_APART void find_offsets(Row<T>* rows, std::ptrdiff_t vectors) {
    for_some(vectors, [&](auto count, std::ptrdiff_t v) CSOFTMAX_INLINED {
        constexpr int N = count.value;
        Exact<T> others[N], logs[N];
        find_logs(rows + v, others, logs);
        for (int i = 0; i < N; ++i) rows[v + i].offset = rounded(logs[i]) + rows[v + i].anchor.finite;
    });
}

// logsumexp near 0, where the maximum cancels digits of the logarithm: as near as the probability of
// what is not the maximum, which the errors of the terms are relative to. There the sum is taken
// once more, of exp(x) itself in two words, and 1 subtracted from it. And where the maximum is +inf:
// the terms are NaN, but the result is so only if an entry is.
template <class T> CSOFTMAX_INLINE bool any_again(const Row<T>& row) {
    return lane(max_lanes(row.again), 0) > 0;
}
// factor <- logsumexp of a row, and whether it needs a second sum.
template <class T>
CSOFTMAX_INLINE void find_logsumexp(Vec<T> max, const Exact<T>& others, const Exact<T>& log, Row<T>& row) {
    const Vec<T> zero = broadcast(T(0)), one = broadcast(T(1));
    const Vec<T> result = rounded(add_any(exact(max), log));
    Vec<T> again = zero;
    if constexpr (!BY_LIBRARY<T>) {
        auto near = broadcast(T(1.5)) * others.value > abs(result) * (one + others.value);
        again = choose(near, one, zero);
    }
    row.factor = result;
    row.again = choose(max >= broadcast(INFINITE<T>), one, again);
}
template <class T> CSOFTMAX_APART void find_logsumexp(Row<T>* rows, std::ptrdiff_t vectors) {
    for_some(vectors, [&](auto count, std::ptrdiff_t v) CSOFTMAX_INLINED {
        constexpr int N = count.value;
        Exact<T> others[N], logs[N];
        find_logs(rows + v, others, logs);
        for (int i = 0; i < N; ++i) find_logsumexp(rows[v + i].max, others[i], logs[i], rows[v + i]);
    });
}

// total += exp(x_j) for a few registers; where the maximum is infinite, 0 or NaN.
template <int N, class T>
CSOFTMAX_INLINE void add_exact_block(const Vec<T> (&x)[N], Vec<T> max, Exact<T>& total) {
    const Vec<T> zero = broadcast(T(0)), infinite = broadcast(INFINITE<T>);
    Exact<T> e[N];
    if constexpr (BY_LIBRARY<T>)
        for (int k = 0; k < N; ++k) e[k] = exact(zero);
    else
        exp_exactly(x, e);
    for (int k = 0; k < N; ++k) {
        auto above_all = max >= infinite;
        e[k].value = choose(above_all, choose(x[k] <= infinite, zero, x[k]), e[k].value);
        e[k].error = choose(above_all, zero, e[k].error);
        total = add_any(total, e[k]);
    }
}
// The same for all classes, in rows that need it.
template <class T>
inline void add_exact_terms(const T* x, std::ptrdiff_t stride, std::ptrdiff_t steps,
                            const Row<T>* row, Exact<T>* total) {
    if (!any_again(*row)) return;
    constexpr int N = 4;
    for (std::ptrdiff_t i = 0; i < steps; i += N) {
        Vec<T> some[N];
        for (int k = 0; k < N; ++k)
            some[k] = i + k < steps ? load(x + (i + k) * stride) : broadcast(-INFINITE<T>);
        add_exact_block(some, row->max, *total);
    }
}

// `usual`, but what the second sum gives where that was taken.
template <class T> CSOFTMAX_INLINE Vec<T> logsumexp_again(const Row<T>& row, Vec<T> usual) {
    Exact<T> above = add_exactly(row.sum, broadcast(T(-1)));
    Vec<T> precise = rounded(log1p(two_sum(above.value, above.error)));
    precise = choose(row.max >= broadcast(INFINITE<T>), row.max + row.sum.value, precise);
    return choose(row.again > broadcast(T(0)), precise, usual);
}

}  // namespace csoftmax
