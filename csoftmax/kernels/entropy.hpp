// entropy.hpp - the entropy of softmax, from sums that have nothing but positive terms.
//
//   H = log(1 + rest) + sum_j e_j (max - x_j) / sum_j e_j,   e_j = exp(x_j - max)
// with the rest as for logsumexp: what is 1e-30 in a confident row keeps all its digits.
#pragma once

#include "logsumexp.hpp"

namespace csoftmax {

// Terms further below the maximum are 0, and times their distance as well.
template <class T> struct Vanishing { static constexpr T GAP = Constants<T>::NEGLIGIBLE; };
template <> struct Vanishing<long double> { static constexpr long double GAP = 12000; };

// s += e (max - x), products in two words, which keeps one error in a confident row: that of its
// term. The kept term of x = -inf is tiny, but not 0.
template <class T>
CSOFTMAX_INLINE void add_gap(Vec<T> x, Vec<T> e, Vec<T> max, Exact<T>& s) {
    const Vec<T> zero = broadcast(T(0));
    Exact<T> gap = two_sum(max, Vec<T>{-x.v});
    const auto near = gap.value <= broadcast(Vanishing<T>::GAP);
    gap = {choose(near, gap.value, zero), choose(near, gap.error, zero)};
    const Exact<T> product = two_product(e, gap.value);
    s.value = s.value + product.value;
    s.error = s.error + fma(e, gap.error, product.error);
}
// total += the same for all classes, block by block.
template <class T>
CSOFTMAX_INLINE void add_gaps(const T* x, std::ptrdiff_t stride, const T* e,
                              std::ptrdiff_t e_stride, std::ptrdiff_t steps, const Row<T>* row,
                              Exact<T>* total) {
    const Vec<T> max = row->anchor.max;
    Exact<T> sum = *total;
    while (steps > 0) {
        Exact<T> s = exact(broadcast(T(0)));
        for (int k = 0; k < BLOCK && steps > 0; ++k, --steps, x += stride, e += e_stride)
            add_gap(load(x), load(e), max, s);
        sum = add_any(sum, s);
    }
    *total = sum;
}

// The same of `steps` registers of classes of `vectors` registers of rows, each lane of a sum on its own.
template <class T>
CSOFTMAX_APART void add_entropy(const T* x, std::ptrdiff_t stride, const T* e,
                                std::ptrdiff_t e_stride, std::ptrdiff_t steps, Order order,
                                const Row<T>* rows, std::ptrdiff_t vectors, const LaneSums<T>& lanes) {
    const std::ptrdiff_t registers = order.registers;
    for (std::ptrdiff_t v = 0; v < vectors; ++v, x += Vec<T>::LANES, e += Vec<T>::LANES)
        for (std::ptrdiff_t i = 0; i < registers && i < steps; ++i)
            add_gaps(x + i * stride, stride * registers, e + i * e_stride, e_stride * registers,
                     (steps - i + registers - 1) / registers, rows + v, lanes.spread + i * vectors + v);
}

template <class T> CSOFTMAX_APART Vec<T> entropy(const Row<T>& row) {
    Exact<T> mean = divide_exactly(row.spread, sum_of_terms(row, true));
    Exact<T> others[1], log[1];
    find_logs(&row, others, log);
    return rounded(add_any(log[0], mean)) + row.anchor.finite;
}

}  // namespace csoftmax
