// simd.hpp - Vec<T>: one SIMD register of T, as wide as the instruction set this file is compiled for.
//
// GCC and Clang get their vector types: 16 bytes (x86-64-v2, NEON), 32 (AVX) or 64 (AVX-512).
// Any other compiler, -DCSOFTMAX_SCALAR, and long double get one lane, by the same code.
// Compile with -ffp-contract=off: fma() alone decides which products are fused, so that a value
// has the same bits on every path that computes it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__GNUC__) && !defined(CSOFTMAX_SCALAR)
#define CSOFTMAX_VECTOR_TYPES 1
#endif

#if defined(__GNUC__)
#define CSOFTMAX_INLINE inline __attribute__((always_inline))
#else
#define CSOFTMAX_INLINE inline
#endif

#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__FMA__)
#include <immintrin.h>
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace csoftmax {

#if defined(__AVX512F__)
constexpr std::size_t REGISTER_BYTES = 64;
#elif defined(__AVX__)
constexpr std::size_t REGISTER_BYTES = 32;
#else
constexpr std::size_t REGISTER_BYTES = 16;
#endif

// What a Vec<T> is made of: its values, and the unsigned integers that hold their bits.
template <class T> struct Lanes {
    static constexpr int COUNT = 1;
    using Values = T;
    using Bits = std::uint64_t;
};
#if defined(CSOFTMAX_VECTOR_TYPES)
template <> struct Lanes<float> {
    static constexpr int COUNT = REGISTER_BYTES / sizeof(float);
    typedef float Values __attribute__((vector_size(REGISTER_BYTES)));
    typedef std::uint32_t Bits __attribute__((vector_size(REGISTER_BYTES)));
};
template <> struct Lanes<double> {
    static constexpr int COUNT = REGISTER_BYTES / sizeof(double);
    typedef double Values __attribute__((vector_size(REGISTER_BYTES)));
    typedef std::uint64_t Bits __attribute__((vector_size(REGISTER_BYTES)));
};
#else
template <> struct Lanes<float> {
    static constexpr int COUNT = 1;
    using Values = float;
    using Bits = std::uint32_t;
};
#endif

template <class T> struct Vec {
    using Values = typename Lanes<T>::Values;
    using Bits = typename Lanes<T>::Bits;
    static constexpr int LANES = Lanes<T>::COUNT;
    Values v;
};

template <class T> CSOFTMAX_INLINE int lanes_of(const T*) { return Vec<T>::LANES; }

// Memory; no alignment is asked for.
template <class T> CSOFTMAX_INLINE Vec<T> load(const T* p) {
    Vec<T> a;
    std::memcpy(&a.v, p, sizeof a.v);
    return a;
}
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a) { std::memcpy(p, &a.v, sizeof a.v); }

template <class T> CSOFTMAX_INLINE Vec<T> broadcast(T s) {
    Vec<T> a;
    a.v = s - typename Vec<T>::Values{};  // s - 0 keeps -0.0, unlike s + 0
    return a;
}

template <class T> CSOFTMAX_INLINE T lane(const Vec<T>& a, int i) {
    T s;
    std::memcpy(&s, reinterpret_cast<const char*>(&a.v) + i * sizeof(T), sizeof s);
    return s;
}
template <class T> CSOFTMAX_INLINE void set_lane(Vec<T>& a, int i, T s) {
    std::memcpy(reinterpret_cast<char*>(&a.v) + i * sizeof(T), &s, sizeof s);
}

// Arithmetic, lane by lane.
template <class T> CSOFTMAX_INLINE Vec<T> operator+(Vec<T> a, Vec<T> b) { return {a.v + b.v}; }
template <class T> CSOFTMAX_INLINE Vec<T> operator-(Vec<T> a, Vec<T> b) { return {a.v - b.v}; }
template <class T> CSOFTMAX_INLINE Vec<T> operator*(Vec<T> a, Vec<T> b) { return {a.v * b.v}; }
template <class T> CSOFTMAX_INLINE Vec<T> operator/(Vec<T> a, Vec<T> b) { return {a.v / b.v}; }

// a * b + c, rounded once where the instruction set has it and twice elsewhere.
template <class T> CSOFTMAX_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
    return {a.v * b.v + c.v};
}
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__FMA__)
CSOFTMAX_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
    return {(Vec<float>::Values)_mm512_fmadd_ps(a.v, b.v, c.v)};
#else
    return {(Vec<float>::Values)_mm256_fmadd_ps(a.v, b.v, c.v)};
#endif
}
CSOFTMAX_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
    return {(Vec<double>::Values)_mm512_fmadd_pd(a.v, b.v, c.v)};
#else
    return {(Vec<double>::Values)_mm256_fmadd_pd(a.v, b.v, c.v)};
#endif
}
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__aarch64__)
CSOFTMAX_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return {(Vec<float>::Values)vfmaq_f32(c.v, a.v, b.v)};
}
CSOFTMAX_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return {(Vec<double>::Values)vfmaq_f64(c.v, a.v, b.v)};
}
#endif

// Comparisons give a mask for choose(); every comparison with a NaN is false.
template <class T> CSOFTMAX_INLINE auto operator<=(Vec<T> a, Vec<T> b) { return a.v <= b.v; }
template <class T> CSOFTMAX_INLINE auto operator>=(Vec<T> a, Vec<T> b) { return a.v >= b.v; }
template <class Mask, class T> CSOFTMAX_INLINE Vec<T> choose(Mask m, Vec<T> a, Vec<T> b) {
    return {m ? a.v : b.v};
}

// The larger of a and b; b where either is NaN (one instruction on x86).
template <class T> CSOFTMAX_INLINE Vec<T> max(Vec<T> a, Vec<T> b) { return choose(a >= b, a, b); }

template <class T> CSOFTMAX_INLINE typename Vec<T>::Bits bits(Vec<T> a) {
    typename Vec<T>::Bits b;
    static_assert(sizeof b == sizeof a.v, "only float and double are taken apart");
    std::memcpy(&b, &a.v, sizeof b);
    return b;
}
template <class T> CSOFTMAX_INLINE Vec<T> from_bits(typename Vec<T>::Bits b) {
    Vec<T> a;
    std::memcpy(&a.v, &b, sizeof b);
    return a;
}
template <class T> CSOFTMAX_INLINE Vec<T> abs(Vec<T> a) {
    return max(a, Vec<T>{-a.v});
}

// Across the lanes, by halves: lane i with lane i + LANES/2, and so on. Sums of columns pair their
// terms in the same order (summation.hpp), which is why a row has the same bits in every layout.
template <class T> CSOFTMAX_INLINE T sum_lanes(Vec<T> a) {
    T s[Vec<T>::LANES];
    store(s, a);
    for (int half = Vec<T>::LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
    return s[0];
}
template <class T> CSOFTMAX_INLINE T max_lanes(Vec<T> a) {
    T s[Vec<T>::LANES];
    store(s, a);
    for (int half = Vec<T>::LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) s[i] = s[i] >= s[i + half] ? s[i] : s[i + half];
    return s[0];
}

}  // namespace csoftmax
