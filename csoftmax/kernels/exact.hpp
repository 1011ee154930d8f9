// exact.hpp - Exact<T>: a number in two words, value + error, and what keeps the second one.
//
// The error is what rounding the value has lost. two_sum is by Knuth, fast_two_sum and the product
// without fused multiply-add are by Dekker.
#pragma once

#include "lanes.hpp"

namespace csoftmax {

template <class T> struct Exact {
    Vec<T> value, error;
    template <int by> CSOFTMAX_INLINE Exact rotated() const {
        return {rotate<by>(value), rotate<by>(error)};
    }
    template <int half, bool second> CSOFTMAX_INLINE static Exact halves(Exact a, Exact b) {
        return {csoftmax::halves<half, second>(a.value, b.value),
                csoftmax::halves<half, second>(a.error, b.error)};
    }
};
template <class T> CSOFTMAX_INLINE Exact<T> exact(Vec<T> a) { return {a, broadcast(T(0))}; }
template <class T> CSOFTMAX_INLINE Vec<T> rounded(Exact<T> a) { return a.value + a.error; }

template <class T> CSOFTMAX_INLINE Exact<T> two_sum(Vec<T> a, Vec<T> b) {
    Vec<T> s = a + b, from_b = s - a;
    return {s, (a - (s - from_b)) + (b - from_b)};
}
// The same for |a| >= |b|, or a = 0.
template <class T> CSOFTMAX_INLINE Exact<T> fast_two_sum(Vec<T> a, Vec<T> b) {
    Vec<T> s = a + b;
    return {s, b - (s - a)};
}
// a + b, where b is finite; or any number, if end_sum() comes after the last one.
template <class T> CSOFTMAX_INLINE Exact<T> add_exactly(Exact<T> a, Vec<T> b) {
    Exact<T> s = two_sum(a.value, b);
    return {s.value, a.error + s.error};
}
// a + (b + c) with all errors kept, where b and c are finite; two sums at a time.
template <class T> CSOFTMAX_INLINE Exact<T> add_pairs(Exact<T> a, Vec<T> b, Vec<T> c) {
    Exact<T> both = two_sum(b, c), s = two_sum(a.value, both.value);
    return {s.value, (a.error + both.error) + s.error};
}
// a + b for any numbers: an infinite sum has no error worth keeping, whose NaN would spoil it.
template <class T> CSOFTMAX_INLINE Exact<T> add_any(Exact<T> a, Exact<T> b) {
    Exact<T> s = two_sum(a.value, b.value);
    auto infinite = abs(s.value) >= broadcast(std::numeric_limits<T>::infinity());
    return {s.value, (a.error + b.error) + choose(infinite, broadcast(T(0)), s.error)};
}
// An infinite sum of add_exactly() has an error of NaN, which is not worth keeping.
template <class T> CSOFTMAX_INLINE Exact<T> end_sum(Exact<T> a) {
    return {a.value, choose(equal(a.error, a.error), a.error, broadcast(T(0)))};
}
template <class T> CSOFTMAX_INLINE Exact<T> two_sum_any(Vec<T> a, Vec<T> b) {
    Exact<T> s = two_sum(a, b);
    auto infinite = abs(s.value) >= broadcast(std::numeric_limits<T>::infinity());
    return {s.value, choose(infinite, broadcast(T(0)), s.error)};
}
// Sums that are one word yet, of `count` rows: like across_rows.
template <int lanes, class T>
CSOFTMAX_INLINE Exact<T> sum_across_rows(const Vec<T> (&rows)[lanes], int count) {
    if constexpr (lanes == 1) {
        return exact(rows[0]);
    } else {
        constexpr int half = lanes / 2;
        Vec<T> values[lanes];
        Exact<T> states[half];
        auto pair = [&](int i, int j) {
            states[i / 2] = two_sum_any(halves<half, false>(values[i], values[j]),
                                        halves<half, true>(values[i], values[j]));
        };
        if (count == lanes) {
            order_rows<PIECE<T>>(rows, lanes, values);
            for (int i = 0; i < lanes; i += 2) pair(i, i + 1);
            return across_some<half / 2>(states, half, add_any<T>);
        }
        const int some = order_rows<PIECE<T>>(rows, count, values);
        CSOFTMAX_ASSUME(some > 0);
        for (int i = 0; i < some; i += 2) pair(i, i + 1 < some ? i + 1 : i);
        return across_some<half / 2>(states, (some + 1) / 2, add_any<T>);
    }
}

// The upper half of the bits of a, for |a| far below overflow.
template <class T> CSOFTMAX_INLINE Vec<T> upper_half(Vec<T> a) {
    constexpr int BITS = std::numeric_limits<T>::digits;
    Vec<T> far = a * broadcast(std::ldexp(T(1), (BITS + 1) / 2) + T(1));
    return far - (far - a);
}
template <class T> CSOFTMAX_INLINE Exact<T> two_product(Vec<T> a, Vec<T> b) {
    Vec<T> product = a * b;
#if defined(CSOFTMAX_FUSED)
    return {product, fma(a, b, Vec<T>{-product.v})};
#else
    Vec<T> a1 = upper_half(a), b1 = upper_half(b), a2 = a - a1, b2 = b - b1;
    return {product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2};
#endif
}

template <class T> CSOFTMAX_INLINE Exact<T> multiply_exactly(Exact<T> a, Exact<T> b) {
    Exact<T> product = two_product(a.value, b.value);
    return {product.value, product.error + fma(a.value, b.error, a.error * b.value)};
}

// a / b, as two words where the quotient is normal.
template <class T> CSOFTMAX_INLINE Exact<T> divide_exactly(Exact<T> a, Exact<T> b) {
    Vec<T> inverse = broadcast(T(1)) / b.value;
    Vec<T> quotient = a.value * inverse;
    Exact<T> back = two_product(quotient, b.value);
    Vec<T> missing = ((a.value - back.value) - back.error) + (a.error - quotient * b.error);
    return {quotient, missing * inverse};
}

}  // namespace csoftmax
