// vecmath.hpp - exp and log on Vec<T>.
//
// Polynomial coefficients and the two words of ln 2 are printed by tools/minimax.py, with the error
// of each approximation. The other errors below are bounds from counting roundings.
#pragma once

#include <type_traits>

#include "exact.hpp"

namespace csoftmax {

template <class T> struct Constants;

template <> struct Constants<float> {
    static constexpr int MANTISSA_BITS = 23;
    static constexpr std::uint32_t EXPONENT_BIAS = 127;
    static constexpr std::uint32_t SQRT_HALF = 0x3f3504f3;  // bits of sqrt(1/2)
    static constexpr float LOG2_E = 0x1.715476p+0f;
    static constexpr float LN2_HIGH = 0x1.62ep-1f;  // 13 bits: k * LN2_HIGH is exact for |k| < 2^11
    static constexpr float LN2_LOW = 0x1.0bfbe8p-15f;
    static constexpr float ROUND = 0x1.8p+23f;  // z + ROUND has rint(z) in its low bits
    static constexpr int HEADROOM = 80;         // terms are scaled up by 2^HEADROOM
    static constexpr float NEGLIGIBLE = 140;    // 2^50 terms of exp(-140) round to 0
    static constexpr float SHIFT_BEYOND = 1024;
    static constexpr float EXP_LOW = -105, EXP_HIGH = 89.5f;
    static constexpr float EXP[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f,
                                    0x1.1239e2p-7f, 0x1.6a247ap-10f};  // 0.04 ULP
    static constexpr float LOG[] = {0x1.555554p-1f, 0x1.999a7ap-2f, 0x1.2438ecp-2f,
                                    0x1.e2f38cp-3f};  // 0.01 ULP
};

template <> struct Constants<double> {
    static constexpr int MANTISSA_BITS = 52;
    static constexpr std::uint64_t EXPONENT_BIAS = 1023;
    static constexpr std::uint64_t SQRT_HALF = 0x3fe6a09e667f3bcd;
    static constexpr double LOG2_E = 0x1.71547652b82fep+0;
    static constexpr double LN2_HIGH = 0x1.62e42fefa4p-1;  // 39 bits: exact for |k| < 2^14
    static constexpr double LN2_LOW = -0x1.8432a1b0e2634p-43;
    static constexpr double ROUND = 0x1.8p+52;
    static constexpr int HEADROOM = 512;
    static constexpr double NEGLIGIBLE = 1000;
    static constexpr double SHIFT_BEYOND = 8192;
    static constexpr double EXP_LOW = -746, EXP_HIGH = 710;
    static constexpr double EXP[] = {
        0x1.000000000000ap-1,  0x1.55555555554fap-3,  0x1.555555555087cp-5,  0x1.1111111127beap-7,
        0x1.6c16c1842a18fp-10, 0x1.a01a012a559b1p-13, 0x1.a0199a0c5affdp-16, 0x1.71df255761396p-19,
        0x1.28ad72d3fa16fp-22, 0x1.ad7f6655530e7p-26};  // 0.05 ULP
    static constexpr double LOG[] = {
        0x1.5555555555555p-1, 0x1.999999999998ep-2, 0x1.24924924939a0p-2,
        0x1.c71c71c4c0e37p-3, 0x1.745d18775f358p-3, 0x1.3b1353f3694f5p-3,
        0x1.1122900b3c584p-3, 0x1.ddf2cbd771b69p-4, 0x1.ece94eef47148p-4};  // 0.01 ULP
};

template <class T> constexpr bool BY_LIBRARY = std::is_same<T, long double>::value;
template <class T> constexpr T INFINITE = std::numeric_limits<T>::infinity();

template <class T, int N>
CSOFTMAX_INLINE Vec<T> horner(const T (&coefficients)[N], Vec<T> x) {
    Vec<T> y = broadcast(coefficients[N - 1]);
    for (int i = N - 2; i >= 0; --i) y = fma(y, x, broadcast(coefficients[i]));
    return y;
}

// t = k ln 2 + r with |r| <= ln(2) / 2; returns exp(r), and k + ROUND. The first word is wrong by
// less than 1 ULP, both together by some 1/4: by the rounding of r and of what is added to 1.
// |t| stays below the bound up to which k * LN2_HIGH is exact, so r is rounded once.
template <class T> CSOFTMAX_INLINE Exact<T> exp_reduced(Vec<T> t, Vec<T>& k_plus_round) {
    using C = Constants<T>;
    k_plus_round = fma(t, broadcast(C::LOG2_E), broadcast(C::ROUND));
    Vec<T> k = k_plus_round - broadcast(C::ROUND);
    Vec<T> r = fma(k, broadcast(-C::LN2_HIGH), t);
    r = fma(k, broadcast(-C::LN2_LOW), r);
    return add_smaller(broadcast(T(1)), fma(r * r, horner(C::EXP, r), r));
}

// What the terms of a row are measured against. The loss of accuracy in exp(x - max) comes from the
// rounding of x - max, so x itself is reduced and the row's K = rint(max / ln 2) is subtracted from
// k, exactly. Where |x| is too large for that, every x that matters is within a factor of two of
// max, and x - max is exact (Sterbenz): then `shift` is max, else 0.
template <class T> struct Anchor {
    Vec<T> max;
    Vec<T> shift;
    Vec<T> floor;                    // of x - shift: anything below is as good as this
    typename Vec<T>::Bits exponent;  // K + ROUND, less what scales the terms up, as bits
    Exact<T> peak;                   // the term of the maximum itself
    Vec<T> finite;                   // 0 where max is finite, else NaN
};

// The term of x: exp(x - max) * peak, where peak lies within [0.7, 1.5) * 2^HEADROOM. NaN for NaN.
// Never subnormal, and never 0: a term at the floor vanishes when it is divided by the sum.
template <class T> CSOFTMAX_INLINE Vec<T> term(Vec<T> x, const Anchor<T>& a) {
    Vec<T> t = x - a.shift;
    if constexpr (BY_LIBRARY<T>) {
        return {std::exp(t.v)};
    } else {
        Vec<T> k;
        Vec<T> e = exp_reduced(max(a.floor, t), k).value;
        return e * from_bits<T>((bits(k) - a.exponent) << Constants<T>::MANTISSA_BITS);
    }
}

template <class T> CSOFTMAX_INLINE Anchor<T> anchor(Vec<T> max) {
    Anchor<T> a;
    const Vec<T> zero = broadcast(T(0));
    auto infinite = abs(max) >= broadcast(INFINITE<T>);
    a.max = max;
    a.finite = max - max;
    if constexpr (BY_LIBRARY<T>) {
        a.shift = max;
        a.peak = exact(broadcast(T(1)));
    } else {
        using C = Constants<T>;
        a.shift = choose(abs(max) >= broadcast(C::SHIFT_BEYOND), max, zero);
        Vec<T> t = choose(infinite, zero, max - a.shift), k;
        a.floor = t - broadcast(C::NEGLIGIBLE);
        Exact<T> e = exp_reduced(t, k);
        const Vec<T> up = broadcast(std::ldexp(T(1), C::HEADROOM));
        a.exponent = bits(k) - (C::EXPONENT_BIAS + C::HEADROOM);
        a.peak = {e.value * up, e.error * up};
    }
    a.shift = choose(max <= broadcast(-INFINITE<T>), zero, a.shift);  // no NaN of -inf - -inf
    return a;
}

// exp(x) for any x, subnormal results rounded once; less than 1 ULP where the result is normal.
template <class T> CSOFTMAX_INLINE Vec<T> exp(Vec<T> x) {
    if constexpr (BY_LIBRARY<T>) {
        return {std::exp(x.v)};
    } else {
        using C = Constants<T>;
        const Vec<T> zero = broadcast(T(0)), up = broadcast(std::ldexp(T(1), C::HEADROOM));
        const Vec<T> down = broadcast(std::ldexp(T(1), -C::HEADROOM));
        Vec<T> t = max(broadcast(C::EXP_LOW), x);
        t = choose(t >= broadcast(C::EXP_HIGH), broadcast(C::EXP_HIGH), t);
        Vec<T> k;
        Vec<T> e = exp_reduced(t, k).value;
        // 2^k in two factors, the second of which leaves the normal range
        auto half = bits(k) + (C::EXPONENT_BIAS + C::HEADROOM);
        auto other = bits(k) + (C::EXPONENT_BIAS - C::HEADROOM);
        Vec<T> small = e * from_bits<T>(half << C::MANTISSA_BITS) * down;
        Vec<T> large = e * from_bits<T>(other << C::MANTISSA_BITS) * up;
        return choose(t >= zero, large, small);
    }
}

// k ln 2 + log(1 + f) + c, with 1 + f in [sqrt(1/2), sqrt(2)). After FreeBSD's s_log1p.c:
//   log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 L(s^2)),  s = f / (2 + f).
template <class T> CSOFTMAX_INLINE Exact<T> log_reduced(Vec<T> k, Vec<T> f, Vec<T> c) {
    using C = Constants<T>;
    Vec<T> s = f / (broadcast(T(2)) + f);
    Vec<T> z = s * s;
    Vec<T> half_square = broadcast(T(0.5)) * f * f;
    Vec<T> tail = fma(s, fma(z, horner(C::LOG, z), half_square),
                      fma(k, broadcast(C::LN2_LOW), c));
    return add_exactly(exact(k * broadcast(C::LN2_HIGH)), add_smaller(f, tail - half_square));
}

// u = 2^k m with m in [sqrt(1/2), sqrt(2)), for normal u > 0.
template <class T> CSOFTMAX_INLINE Vec<T> split_exponent(Vec<T> u, Vec<T>& k) {
    using C = Constants<T>;
    // the bits of 1 in place of those of sqrt(1/2): then the exponent field is that of 2^k
    auto moved = bits(u) + ((C::EXPONENT_BIAS << C::MANTISSA_BITS) - C::SQRT_HALF);
    auto exponent = (moved >> C::MANTISSA_BITS) - C::EXPONENT_BIAS;
    k = from_bits<T>(exponent + bits(broadcast(C::ROUND))) - broadcast(C::ROUND);
    return from_bits<T>(bits(u) - (exponent << C::MANTISSA_BITS));
}

// log(1 + x) for x >= -1; both words together are wrong by some 1/4 ULP, also for tiny x.
template <class T> CSOFTMAX_INLINE Exact<T> log1p(Exact<T> x) {
    if constexpr (BY_LIBRARY<T>) {
        return exact(Vec<T>{std::log1p(rounded(x).v)});
    } else {
        const Vec<T> one = broadcast(T(1)), zero = broadcast(T(0));
        Exact<T> u = add_exactly(exact(one), x);
        Vec<T> k;
        Vec<T> m = split_exponent(u.value, k);
        auto near = abs(k) <= zero;  // there f is x itself
        Vec<T> beyond = choose(near, x.error, u.error) / u.value;
        Exact<T> y = log_reduced(k, choose(near, x.value, m - one), beyond);
        y.value = choose(u.value <= zero, broadcast(-INFINITE<T>), y.value);
        y.error = choose(u.value <= zero, zero, y.error);
        y.value = choose(x.value >= Vec<T>{-one.v}, y.value, x.value + (u.value - u.value));  // NaN
        return y;
    }
}

// log(x), relative error about 1 ULP; -inf for 0, NaN below.
template <class T> CSOFTMAX_INLINE Vec<T> log(Vec<T> x) {
    if constexpr (BY_LIBRARY<T>) {
        return {std::log(x.v)};
    } else {
        using C = Constants<T>;
        const Vec<T> zero = broadcast(T(0)), infinite = broadcast(INFINITE<T>);
        auto normal = x >= broadcast(std::numeric_limits<T>::min());
        Vec<T> k;
        Vec<T> u = choose(normal, x, x * broadcast(std::ldexp(T(1), C::HEADROOM)));
        Vec<T> m = split_exponent(u, k);
        k = k - choose(normal, zero, broadcast(T(C::HEADROOM)));
        Vec<T> y = rounded(log_reduced(k, m - broadcast(T(1)), zero));
        y = choose(x >= infinite, x, y);
        y = choose(x <= zero, x - x + (infinite - infinite), y);  // NaN for negatives
        y = choose(abs(x) <= zero, Vec<T>{-infinite.v}, y);
        return choose(x >= Vec<T>{-infinite.v}, y, x);  // NaN
    }
}

}  // namespace csoftmax
