// vecmath.hpp - exp and log on Vec<T>.
//
// Each polynomial's error, and that of exp with all roundings, stand beside its coefficients in
// coefficients.hpp; tests/test_vecmath.py holds the functions to them.
#pragma once

#include <iterator>
#include <type_traits>

#include "coefficients.hpp"
#include "exact.hpp"

namespace csoftmax {

template <class T> struct Constants;

template <> struct Constants<float> : Coefficients<float> {
    static constexpr int MANTISSA_BITS = 23;
    static constexpr std::uint32_t EXPONENT_BIAS = 127;
    static constexpr std::uint32_t SQRT_HALF = 0x3f3504f3;  // bits of sqrt(1/2)
    static constexpr float LOG2_E = 0x1.715476p+0f;
    static constexpr float ROUND = 0x1.8p+23f;  // z + ROUND has rint(z) in its low bits
    static constexpr int HEADROOM = 80;         // terms are scaled up by 2^HEADROOM
    static constexpr float NEGLIGIBLE = 128;    // 2^34 terms of exp(-128) round to 0
    static constexpr float SHIFT_BEYOND = 1024;  // k * LN2[0] is exact for |k| < 2^11
    static constexpr float EXP_LOW = -105, EXP_HIGH = 89.5f, EXP_EXACT_LOW = -87;
};

template <> struct Constants<double> : Coefficients<double> {
    static constexpr int MANTISSA_BITS = 52;
    static constexpr std::uint64_t EXPONENT_BIAS = 1023;
    static constexpr std::uint64_t SQRT_HALF = 0x3fe6a09e667f3bcd;
    static constexpr double LOG2_E = 0x1.71547652b82fep+0;
    static constexpr double ROUND = 0x1.8p+52;
    static constexpr int HEADROOM = 512;
    static constexpr double NEGLIGIBLE = 1000;
    static constexpr double SHIFT_BEYOND = 8192;  // for |k| < 2^14
    static constexpr double EXP_LOW = -746, EXP_HIGH = 710, EXP_EXACT_LOW = -708;
};

template <class T> constexpr bool BY_LIBRARY = std::is_same<T, long double>::value;
template <class T> constexpr T INFINITE = std::numeric_limits<T>::infinity();

template <class T, int COUNT, int N>
CSOFTMAX_INLINE void horner(const T (&coefficients)[COUNT], const Vec<T> (&x)[N], Vec<T> (&y)[N]) {
    for (int i = 0; i < N; ++i) y[i] = broadcast(coefficients[COUNT - 1]);
    for (int n = COUNT - 2; n >= 0; --n)
        for (int i = 0; i < N; ++i) y[i] = fma(y[i], x[i], broadcast(coefficients[n]));
}

// How many registers go through a chain of a dozen dependent steps side by side: by itself the
// processor finds too few of those steps to do at once.
constexpr int TOGETHER = 4;

// What else is done halfway through an exp: sums take other units than its products. The processor itself does
// not look ahead that far.
struct Nothing {
    CSOFTMAX_INLINE void operator()() const {}
};
constexpr int AFTERWARDS = 4;  // coefficients that come after that

// t = k ln 2 + r with |r| <= ln(2) / 2; exp(r) is 1 + h r. Finds r, h, and k + round for register i, where
// rounds[i mod M] is ROUND, or near it. r is rounded once, as k * LN2[0] is exact.
template <class T, int N, int M, class Meanwhile = Nothing>
CSOFTMAX_INLINE void reduce_exp(const Vec<T> (&t)[N], const Vec<T> (&rounds)[M], Vec<T> (&k_plus_round)[N],
                                Vec<T> (&r)[N], Vec<T> (&h)[N], Meanwhile meanwhile = {}) {
    using C = Constants<T>;
    static_assert(std::size(C::EXP) > AFTERWARDS, "meanwhile() is called");
    Vec<T> k[N];
    for (int i = 0; i < N; ++i) k_plus_round[i] = fma(t[i], broadcast(C::LOG2_E), rounds[i % M]);
    for (int i = 0; i < N; ++i) k[i] = k_plus_round[i] - rounds[i % M];
    for (int i = 0; i < N; ++i) r[i] = fma(k[i], broadcast(-C::LN2[0]), t[i]);
    for (int i = 0; i < N; ++i) r[i] = fma(k[i], broadcast(-C::LN2[1]), r[i]);
    for (int i = 0; i < N; ++i) h[i] = broadcast(C::EXP[std::size(C::EXP) - 1]);
    for (int n = std::size(C::EXP) - 2; n >= 0; --n) {
        if (n == AFTERWARDS - 1) meanwhile();
        for (int i = 0; i < N; ++i) h[i] = fma(h[i], r[i], broadcast(C::EXP[n]));
    }
    for (int i = 0; i < N; ++i) h[i] = fma(h[i], r[i], broadcast(T(1)));
}

// exp(r) in two words. The first is wrong by about 1 ULP at most (coefficients.hpp), both together
// by half of that.
template <class T, int N, int M>
CSOFTMAX_INLINE void exp_reduced(const Vec<T> (&t)[N], const Vec<T> (&rounds)[M],
                                 Vec<T> (&k_plus_round)[N], Exact<T> (&e)[N]) {
    Vec<T> r[N], h[N];
    reduce_exp(t, rounds, k_plus_round, r, h);
    const Vec<T> one = broadcast(T(1));
    for (int i = 0; i < N; ++i) {
        e[i].value = fma(h[i], r[i], one);
        e[i].error = fma(h[i], r[i], one - e[i].value);
    }
}
template <class T, int N>
CSOFTMAX_INLINE void exp_reduced(const Vec<T> (&t)[N], Vec<T> (&k_plus_round)[N], Exact<T> (&e)[N]) {
    const Vec<T> rounds[1] = {broadcast(Constants<T>::ROUND)};
    exp_reduced(t, rounds, k_plus_round, e);
}

// What the terms of a row are measured against. The loss of accuracy in exp(x - max) comes from the
// rounding of x - max, so x itself is reduced and the row's K = rint(max / ln 2) is subtracted from
// k, exactly. Where |x| is too large for that, every x that matters is within a factor of two of
// max, and x - max is exact (Sterbenz): then `shift` is max, else 0.
template <class T> struct Anchor {
    Vec<T> max;
    Vec<T> shift;
    Vec<T> floor;   // of x - shift: anything below is as good as this
    Vec<T> round;   // ROUND - K and what scales the terms up: k + round has their exponent in its low bits
    Exact<T> peak;  // the term of the maximum itself
    Vec<T> finite;  // 0 where max is finite, else NaN
};

// The terms of N registers x: exp(x - max) * peak, where peak lies within [0.7, 1.5) * 2^HEADROOM;
// of M anchors, register i has the one at i mod M. NaN for NaN. Never subnormal, and never 0: a term
// at the floor vanishes when it is divided by the sum.
template <class T, int N, int M, class Meanwhile = Nothing>
CSOFTMAX_INLINE void terms(const Vec<T> (&x)[N], const Anchor<T> (&anchors)[M], Vec<T> (&e)[N],
                           Meanwhile meanwhile = {}) {
    if constexpr (BY_LIBRARY<T>) {
        meanwhile();
        for (int i = 0; i < N; ++i) e[i] = {std::exp((x[i] - anchors[i % M].shift).v)};
    } else {
        Vec<T> t[N], rounds[M], k[N], r[N], h[N];
        for (int i = 0; i < N; ++i) t[i] = max(anchors[i % M].floor, x[i] - anchors[i % M].shift);
        for (int i = 0; i < M; ++i) rounds[i] = anchors[i].round;
        reduce_exp(t, rounds, k, r, h, meanwhile);
        for (int i = 0; i < N; ++i) {
            Vec<T> scale = from_bits<T>(bits(k[i]) << Constants<T>::MANTISSA_BITS);
            e[i] = fma(h[i], r[i] * scale, scale);
        }
    }
}
template <class T> CSOFTMAX_INLINE Vec<T> term(Vec<T> x, const Anchor<T>& a) {
    Vec<T> some[1] = {x}, e[1];
    const Anchor<T> anchors[1] = {a};
    terms(some, anchors, e);
    return e[0];
}
// exp(t), in two words, scaled by the anchor's `round`.
template <class T> CSOFTMAX_INLINE Exact<T> scaled_exp(Vec<T> t, Vec<T> round) {
    const Vec<T> some[1] = {t}, rounds[1] = {round};
    Vec<T> k[1];
    Exact<T> e[1];
    exp_reduced(some, rounds, k, e);
    const Vec<T> scale = from_bits<T>(bits(k[0]) << Constants<T>::MANTISSA_BITS);
    return {e[0].value * scale, e[0].error * scale};
}
// A term in two words.
template <class T> CSOFTMAX_INLINE Exact<T> term_exactly(Vec<T> x, const Anchor<T>& a) {
    if constexpr (BY_LIBRARY<T>)
        return exact(term(x, a));
    else
        return scaled_exp(max(a.floor, x - a.shift), a.round);
}

template <class T, int N>
CSOFTMAX_INLINE void find_anchors(const Vec<T> (&max)[N], Anchor<T> (&anchors)[N]) {
    const Vec<T> zero = broadcast(T(0));
    for (int i = 0; i < N; ++i) {
        anchors[i].max = max[i];
        anchors[i].finite = max[i] - max[i];
    }
    if constexpr (BY_LIBRARY<T>) {
        for (int i = 0; i < N; ++i) {
            anchors[i].shift = max[i];
            anchors[i].peak = exact(broadcast(T(1)));
        }
    } else {
        using C = Constants<T>;
        const Vec<T> up = broadcast(std::ldexp(T(1), C::HEADROOM));
        Vec<T> t[N], k[N];
        Exact<T> e[N];
        for (int i = 0; i < N; ++i) {
            auto large = abs(max[i]) >= broadcast(C::SHIFT_BEYOND);
            auto infinite = abs(max[i]) >= broadcast(INFINITE<T>);
            anchors[i].shift = choose(large, max[i], zero);
            t[i] = choose(infinite, zero, max[i] - anchors[i].shift);
            anchors[i].floor = t[i] - broadcast(C::NEGLIGIBLE);
        }
        exp_reduced(t, k, e);
        for (int i = 0; i < N; ++i) {
            anchors[i].round = broadcast(C::ROUND + (T(C::EXPONENT_BIAS) + C::HEADROOM)) -
                               (k[i] - broadcast(C::ROUND));
            anchors[i].peak = {e[i].value * up, e[i].error * up};
#if !defined(CSOFTMAX_FUSED)
            // A product that is rounded may lie midway between two k, and `round` take the other one.
            anchors[i].peak = scaled_exp(t[i], anchors[i].round);
#endif
        }
    }
    for (int i = 0; i < N; ++i)  // no NaN of -inf - -inf
        anchors[i].shift = choose(max[i] <= broadcast(-INFINITE<T>), zero, anchors[i].shift);
}

// exp(x) for any x, as accurate as exp_reduced; subnormal results are rounded once more.
template <class T> CSOFTMAX_INLINE Vec<T> exp(Vec<T> x) {
    if constexpr (BY_LIBRARY<T>) {
        return {std::exp(x.v)};
    } else {
        using C = Constants<T>;
        const Vec<T> zero = broadcast(T(0)), up = broadcast(std::ldexp(T(1), C::HEADROOM));
        const Vec<T> down = broadcast(std::ldexp(T(1), -C::HEADROOM));
        Vec<T> t = max(broadcast(C::EXP_LOW), x);
        t = choose(t >= broadcast(C::EXP_HIGH), broadcast(C::EXP_HIGH), t);
        Vec<T> some[1] = {t}, k_plus_round[1];
        Exact<T> exps[1];
        exp_reduced(some, k_plus_round, exps);
        const Vec<T> k = k_plus_round[0], e = exps[0].value;
        // 2^k in two factors, the second of which leaves the normal range
        auto half = bits(k) + (C::EXPONENT_BIAS + C::HEADROOM);
        auto other = bits(k) + (C::EXPONENT_BIAS - C::HEADROOM);
        Vec<T> small = e * from_bits<T>(half << C::MANTISSA_BITS) * down;
        Vec<T> large = e * from_bits<T>(other << C::MANTISSA_BITS) * up;
        return choose(t >= zero, large, small);
    }
}

// exp(x) in two words for N registers of x <= 1 side by side, as each is a long chain: by Taylor's
// series, its first terms in two words. Some units of 2^-2p are lost, p being the bits of T, and
// what is below exp(EXP_EXACT_LOW) becomes 0.
template <class T, int N> CSOFTMAX_INLINE void exp_exactly(const Vec<T> (&x)[N], Exact<T> (&e)[N]) {
    using C = Constants<T>;
    constexpr int TWO_WORDS = std::size(C::FACTORIAL_ERROR), TERMS = std::size(C::FACTORIAL);
    Vec<T> k[N], h[N];
    Exact<T> r[N];
    for (int i = 0; i < N; ++i) {
        Vec<T> t = max(broadcast(C::EXP_EXACT_LOW), x[i]);
        k[i] = fma(t, broadcast(C::LOG2_E), broadcast(C::ROUND));
        Vec<T> whole = k[i] - broadcast(C::ROUND);
        Exact<T> low = two_product(whole, broadcast(-C::LN2[1]));
        low.error = fma(whole, broadcast(-C::LN2[2]), low.error);
        r[i] = add_exactly(low, fma(whole, broadcast(-C::LN2[0]), t));
        h[i] = broadcast(C::FACTORIAL[TERMS - 1]);
    }
    for (int n = TERMS - 2; n >= TWO_WORDS; --n)
        for (int i = 0; i < N; ++i) h[i] = fma(h[i], r[i].value, broadcast(C::FACTORIAL[n]));
    for (int i = 0; i < N; ++i) e[i] = exact(h[i]);
    for (int n = TWO_WORDS - 1; n >= 0; --n)
        for (int i = 0; i < N; ++i) {
            Exact<T> term = two_product(e[i].value, r[i].value);
            term.error = term.error + fma(e[i].error, r[i].value, e[i].value * r[i].error);
            e[i] = fast_two_sum(broadcast(C::FACTORIAL[n]), term.value);
            e[i].error = e[i].error + (term.error + broadcast(C::FACTORIAL_ERROR[n]));
        }
    for (int i = 0; i < N; ++i) {
        Vec<T> scale = from_bits<T>((bits(k[i]) + C::EXPONENT_BIAS) << C::MANTISSA_BITS);
        const Vec<T> zero = broadcast(T(0));
        auto counts = x[i] > broadcast(C::EXP_EXACT_LOW);
        e[i].value = choose(counts, e[i].value * scale, zero);
        e[i].error = choose(counts, e[i].error * scale, zero);
    }
}

// k ln 2 + log((1 + f) + error), with 1 + f in [sqrt(1/2), sqrt(2)), for N registers side by side. After FreeBSD's
// s_log1p.c:
//   log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 L(s^2)),  s = f / (2 + f).
// The error is divided by 1 + f = (1 + s) / (1 - s), which need not be done to more than 3 digits.
template <class T, int N>
CSOFTMAX_INLINE void log_reduced(const Vec<T> (&k)[N], const Vec<T> (&f)[N], const Vec<T> (&error)[N],
                                 Exact<T> (&log)[N]) {
    using C = Constants<T>;
    constexpr T INVERSE[] = {1, -2, 2, -2};
    Vec<T> s[N], z[N], half_square[N], c[N], tail[N];
    for (int i = 0; i < N; ++i) s[i] = f[i] / (broadcast(T(2)) + f[i]);
    for (int i = 0; i < N; ++i) z[i] = s[i] * s[i];
    for (int i = 0; i < N; ++i) half_square[i] = broadcast(T(0.5)) * f[i] * f[i];
    horner(INVERSE, s, c);
    horner(C::LOG, z, tail);
    for (int i = 0; i < N; ++i) c[i] = error[i] * c[i];
    for (int i = 0; i < N; ++i) tail[i] = fma(z[i], tail[i], half_square[i]);
    for (int i = 0; i < N; ++i) tail[i] = fma(s[i], tail[i], fma(k[i], broadcast(C::LN2[1]), c[i]));
    for (int i = 0; i < N; ++i) {
        const Exact<T> near = fast_two_sum(f[i], tail[i] - half_square[i]);
        log[i] = fast_two_sum(k[i] * broadcast(C::LN2[0]), near.value);
        log[i].error = log[i].error + near.error;
    }
}

// a = some * power: where |a| is normal 1 <= |some| < 2 and power = 2^k, elsewhere some = 1.
template <class T> CSOFTMAX_INLINE Vec<T> split_power(Vec<T> a, Vec<T>& power) {
    const Vec<T> one = broadcast(T(1)), zero = broadcast(T(0));
    if constexpr (BY_LIBRARY<T>) {
        int k;
        const T m = std::frexp(a.v, &k);
        const bool normal = std::isnormal(a.v);
        power = normal ? Vec<T>{std::ldexp(T(1), k - 1)} : a;
        return normal ? Vec<T>{2 * m} : one;
    } else {
        const Vec<T> infinite = broadcast(INFINITE<T>);
        power = from_bits<T>(bits(a) & bits(infinite));
        Vec<T> some = from_bits<T>((bits(a) & ~bits(infinite)) | bits(one));
        power = choose(power >= infinite, zero, power);
        some = choose(power > zero, some, one);
        power = choose(power > zero, power, a);
        return some;
    }
}

// u = 2^k m with m in [sqrt(1/2), sqrt(2)), for normal u > 0; and 2^-k, if that is normal.
template <class T> CSOFTMAX_INLINE Vec<T> split_exponent(Vec<T> u, Vec<T>& k, Vec<T>& inverse) {
    using C = Constants<T>;
    // the bits of 1 in place of those of sqrt(1/2): then the exponent field is that of 2^k
    auto moved = bits(u) + ((C::EXPONENT_BIAS << C::MANTISSA_BITS) - C::SQRT_HALF);
    auto exponent = (moved >> C::MANTISSA_BITS) - C::EXPONENT_BIAS;
    k = from_bits<T>(exponent + bits(broadcast(C::ROUND))) - broadcast(C::ROUND);
    inverse = from_bits<T>((C::EXPONENT_BIAS - exponent) << C::MANTISSA_BITS);
    return from_bits<T>(bits(u) - (exponent << C::MANTISSA_BITS));
}

// log(1 + x) for x >= 0 (finite for -1, too); both words together are wrong by some 1/4 ULP, also for tiny x.
// A NaN stays one by u.error, as its k is not 0.
template <class T, int N> CSOFTMAX_INLINE void log1p_of_positive(const Exact<T> (&x)[N], Exact<T> (&log)[N]) {
    if constexpr (BY_LIBRARY<T>) {
        for (int i = 0; i < N; ++i) log[i] = exact(Vec<T>{std::log1p(rounded(x[i]).v)});
    } else {
        const Vec<T> one = broadcast(T(1)), zero = broadcast(T(0));
        Vec<T> k[N], f[N], error[N];
        for (int i = 0; i < N; ++i) {
            const Exact<T> u = add_exactly(x[i], one);
            Vec<T> inverse;
            const Vec<T> m = split_exponent(u.value, k[i], inverse);
            const auto near = equal(k[i], zero);  // there f is x itself
            f[i] = choose(near, x[i].value, m - one);
            error[i] = choose(near, x[i].error, u.error * inverse);
        }
        log_reduced(k, f, error, log);
    }
}
// The same for x >= -1, with -inf for -1.
template <class T> CSOFTMAX_INLINE Exact<T> log1p(Exact<T> x) {
    const Vec<T> zero = broadcast(T(0)), one = broadcast(T(1));
    const Exact<T> some[1] = {x};
    Exact<T> logs[1], &y = logs[0];
    log1p_of_positive(some, logs);
    const auto least = x.value + one <= zero;
    y.value = choose(least, broadcast(-INFINITE<T>), y.value);
    y.error = choose(least, zero, y.error);
    y.value = choose(x.value >= Vec<T>{-one.v}, y.value, x.value + (x.value - x.value));  // NaN
    return y;
}

// log(x), relative error about 1 ULP; -inf for 0, NaN below.
template <class T> CSOFTMAX_INLINE Vec<T> log(Vec<T> x) {
    if constexpr (BY_LIBRARY<T>) {
        return {std::log(x.v)};
    } else {
        using C = Constants<T>;
        const Vec<T> zero = broadcast(T(0)), infinite = broadcast(INFINITE<T>);
        auto normal = x >= broadcast(std::numeric_limits<T>::min());
        Vec<T> k[1], inverse;
        Vec<T> u = choose(normal, x, x * broadcast(std::ldexp(T(1), C::HEADROOM)));
        const Vec<T> f[1] = {split_exponent(u, k[0], inverse) - broadcast(T(1))}, none[1] = {zero};
        k[0] = k[0] - choose(normal, zero, broadcast(T(C::HEADROOM)));
        Exact<T> logs[1];
        log_reduced(k, f, none, logs);
        Vec<T> y = rounded(logs[0]);
        y = choose(x >= infinite, x, y);
        y = choose(x <= zero, x - x + (infinite - infinite), y);  // NaN for negatives
        y = choose(abs(x) <= zero, Vec<T>{-infinite.v}, y);
        return choose(x >= Vec<T>{-infinite.v}, y, x);  // NaN
    }
}

}  // namespace csoftmax
