// exact.hpp - Exact<T>: a number in two words, value + error, and what keeps the second one.
//
// The error is that of rounding the value, so |error| is at most about half a unit in its last
// place. Sources: Knuth (TwoSum), Dekker (products without fused multiply-add).
#pragma once

#include "simd.hpp"

namespace csoftmax {

template <class T> struct Exact {
    Vec<T> value, error;
    template <int by> CSOFTMAX_INLINE Exact rotated() const {
        return {rotate<by>(value), rotate<by>(error)};
    }
};
template <class T> CSOFTMAX_INLINE Exact<T> exact(Vec<T> a) { return {a, broadcast(T(0))}; }
template <class T> CSOFTMAX_INLINE Vec<T> rounded(Exact<T> a) { return a.value + a.error; }

// a + b. An infinite sum has no error worth keeping: its NaN would spoil it.
template <class T> CSOFTMAX_INLINE Exact<T> add_exactly(Exact<T> a, Exact<T> b) {
    Vec<T> s = a.value + b.value;
    Vec<T> from_b = s - a.value;
    Vec<T> lost = (a.value - (s - from_b)) + (b.value - from_b);
    lost = choose(abs(s) >= broadcast(std::numeric_limits<T>::infinity()), broadcast(T(0)), lost);
    return {s, (a.error + b.error) + lost};
}
// a + b for one more finite number b.
template <class T> CSOFTMAX_INLINE Exact<T> add_number(Exact<T> a, Vec<T> b) {
    Vec<T> s = a.value + b;
    Vec<T> from_b = s - a.value;
    return {s, a.error + ((a.value - (s - from_b)) + (b - from_b))};
}
// a + b for finite |a| >= |b|.
template <class T> CSOFTMAX_INLINE Exact<T> add_smaller(Vec<T> a, Vec<T> b) {
    Vec<T> s = a + b;
    return {s, b - (s - a)};
}

// The upper half of the bits of a, for |a| far below overflow.
template <class T> CSOFTMAX_INLINE Vec<T> upper_half(Vec<T> a) {
    constexpr int BITS = std::numeric_limits<T>::digits;
    Vec<T> far = a * broadcast(std::ldexp(T(1), (BITS + 1) / 2) + T(1));
    return far - (far - a);
}
template <class T> CSOFTMAX_INLINE Exact<T> multiply_exactly(Vec<T> a, Vec<T> b) {
    Vec<T> product = a * b;
#if defined(CSOFTMAX_FUSED)
    return {product, fma(a, b, Vec<T>{-product.v})};
#else
    Vec<T> a1 = upper_half(a), b1 = upper_half(b), a2 = a - a1, b2 = b - b1;
    return {product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2};
#endif
}

// a / b, as two words where the quotient is normal.
template <class T> CSOFTMAX_INLINE Exact<T> divide_exactly(Exact<T> a, Exact<T> b) {
    Vec<T> inverse = broadcast(T(1)) / b.value;
    Vec<T> quotient = a.value * inverse;
    Exact<T> back = multiply_exactly(quotient, b.value);
    Vec<T> missing = ((a.value - back.value) - back.error) + (a.error - quotient * b.error);
    return {quotient, missing * inverse};
}

}  // namespace csoftmax
