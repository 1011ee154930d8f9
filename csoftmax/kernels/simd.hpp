// simd.hpp - Vec<T>: one SIMD register of T, as wide as the instruction set compiled for.
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
#include <type_traits>

#if defined(__GNUC__) && !defined(CSOFTMAX_SCALAR)
#define CSOFTMAX_VECTOR_TYPES 1
#endif

// A loop that needs all registers is best compiled by itself. What a lambda refers to has to be kept in memory
// unless every call of it is inlined.
#if defined(__GNUC__)
#define CSOFTMAX_INLINE inline __attribute__((always_inline))
#define CSOFTMAX_INLINED __attribute__((always_inline))
#define CSOFTMAX_APART __attribute__((noinline))
#define CSOFTMAX_ASSUME(fact) ((fact) ? void() : __builtin_unreachable())
#else
#define CSOFTMAX_INLINE inline
#define CSOFTMAX_INLINED
#define CSOFTMAX_APART
#define CSOFTMAX_ASSUME(fact)
#endif
// A function whose chains of dependent steps take turns, as the source has them. GCC would move each step to the next one
// of its chain, and the processor does not look ahead as far as another chain then is.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__AVX512F__)  // measured with 16 registers only
#define CSOFTMAX_IN_ORDER __attribute__((optimize("no-tree-ter")))
#else
#define CSOFTMAX_IN_ORDER
#endif

#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__FMA__)
#define CSOFTMAX_FUSED 1
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__aarch64__)
#include <arm_neon.h>
#define CSOFTMAX_FUSED 1
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

// The first `count` lanes, 1 to LANES of them; load_part fills the others.
template <class T> CSOFTMAX_INLINE void copy_part(T* to, const T* from, int count) {
    constexpr int W = Vec<T>::LANES;
    if (count == W) return void(std::memcpy(to, from, W * sizeof(T)));
    for (int some = W / 2; some > 0; some /= 2) {  // by halves: no library call for a few entries
        if (!(count & some)) continue;
        std::memcpy(to, from, some * sizeof(T));
        to += some;
        from += some;
    }
}
template <class T> CSOFTMAX_INLINE Vec<T> load_part(const T* p, int count, T fill) {
    T s[Vec<T>::LANES];
    for (int i = 0; i < Vec<T>::LANES; ++i) s[i] = fill;
    copy_part(s, p, count);
    return load(s);
}
template <class T> CSOFTMAX_INLINE void store_part(T* p, Vec<T> a, int count) {
    T s[Vec<T>::LANES];
    store(s, a);
    copy_part(p, s, count);
}
template <class T> CSOFTMAX_INLINE Vec<T> first_lanes(Vec<T> a, int count) {  // others 0
    T s[Vec<T>::LANES];
    store(s, a);
    return load_part(s, count, T(0));
}
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX512F__)
CSOFTMAX_INLINE __mmask16 first(int count) { return __mmask16((1u << count) - 1); }
template <> CSOFTMAX_INLINE Vec<float> load_part(const float* p, int count, float fill) {
    return {(Vec<float>::Values)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(count), p)};
}
template <> CSOFTMAX_INLINE Vec<double> load_part(const double* p, int count, double fill) {
    return {(Vec<double>::Values)_mm512_mask_loadu_pd(_mm512_set1_pd(fill), first(count), p)};
}
template <> CSOFTMAX_INLINE void store_part(float* p, Vec<float> a, int count) {
    _mm512_mask_storeu_ps(p, first(count), a.v);
}
template <> CSOFTMAX_INLINE void store_part(double* p, Vec<double> a, int count) {
    _mm512_mask_storeu_pd(p, first(count), a.v);
}
template <> CSOFTMAX_INLINE Vec<float> first_lanes(Vec<float> a, int count) {
    return {(Vec<float>::Values)_mm512_maskz_mov_ps(first(count), a.v)};
}
template <> CSOFTMAX_INLINE Vec<double> first_lanes(Vec<double> a, int count) {
    return {(Vec<double>::Values)_mm512_maskz_mov_pd(first(count), a.v)};
}
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX2__)
CSOFTMAX_INLINE __m256i first(int count, float) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CSOFTMAX_INLINE __m256i first(int count, double) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
template <> CSOFTMAX_INLINE Vec<float> load_part(const float* p, int count, float fill) {
    const __m256i mask = first(count, fill);
    const __m256 some = _mm256_maskload_ps(p, mask);  // and 0 elsewhere
    if (__builtin_constant_p(fill) && fill == 0) return {(Vec<float>::Values)some};
    return {(Vec<float>::Values)_mm256_blendv_ps(_mm256_set1_ps(fill), some, _mm256_castsi256_ps(mask))};
}
template <> CSOFTMAX_INLINE Vec<double> load_part(const double* p, int count, double fill) {
    const __m256i mask = first(count, fill);
    const __m256d some = _mm256_maskload_pd(p, mask);
    if (__builtin_constant_p(fill) && fill == 0) return {(Vec<double>::Values)some};
    return {(Vec<double>::Values)_mm256_blendv_pd(_mm256_set1_pd(fill), some, _mm256_castsi256_pd(mask))};
}
template <> CSOFTMAX_INLINE Vec<float> first_lanes(Vec<float> a, int count) {
    return {(Vec<float>::Values)_mm256_and_ps(_mm256_castsi256_ps(first(count, 0.0f)), a.v)};
}
template <> CSOFTMAX_INLINE Vec<double> first_lanes(Vec<double> a, int count) {
    return {(Vec<double>::Values)_mm256_and_pd(_mm256_castsi256_pd(first(count, 0.0)), a.v)};
}
#endif

// Stores a register past the caches, to whole registers of memory: what is larger than the caches
// need not be read first, only to be written over. end_stream() before others may read it.
template <class T> CSOFTMAX_INLINE void stream(T* p, Vec<T> a) { store(p, a); }
CSOFTMAX_INLINE void end_stream() {
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__SSE2__)
    _mm_sfence();
#endif
}
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX512F__)
template <> CSOFTMAX_INLINE void stream(float* p, Vec<float> a) { _mm512_stream_ps(p, a.v); }
template <> CSOFTMAX_INLINE void stream(double* p, Vec<double> a) { _mm512_stream_pd(p, a.v); }
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX__)
template <> CSOFTMAX_INLINE void stream(float* p, Vec<float> a) { _mm256_stream_ps(p, a.v); }
template <> CSOFTMAX_INLINE void stream(double* p, Vec<double> a) { _mm256_stream_pd(p, a.v); }
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__SSE2__)
template <> CSOFTMAX_INLINE void stream(float* p, Vec<float> a) { _mm_stream_ps(p, a.v); }
template <> CSOFTMAX_INLINE void stream(double* p, Vec<double> a) { _mm_stream_pd(p, a.v); }
#endif
constexpr std::size_t LINE_BYTES = 64;  // of the caches
// Entries from p, which has its natural alignment, to the next line.
template <class T> CSOFTMAX_INLINE std::ptrdiff_t to_line(const T* p) {
    return -reinterpret_cast<std::uintptr_t>(p) % LINE_BYTES / sizeof(T);
}
// The same to where a register lies in one line, as its bytes are a power of two.
template <class T> CSOFTMAX_INLINE std::ptrdiff_t to_register(const T* p) { return to_line(p) % Vec<T>::LANES; }

// Asks for the cache line `bytes` beyond p, which need not be there.
CSOFTMAX_INLINE void prefetch(const void* p, std::ptrdiff_t bytes) {
#if defined(__GNUC__)
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + bytes));
#endif
}
// The same, no further than into the second cache: for more lines than the first has room for.
CSOFTMAX_INLINE void prefetch_to_second(const void* p, std::ptrdiff_t bytes) {
#if defined(__GNUC__)
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + bytes), 0, 2);
#endif
}
// For lines that will be written, without being read first.
CSOFTMAX_INLINE void prefetch_to_write(const void* p, std::ptrdiff_t bytes = 0) {
#if defined(__GNUC__)
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + bytes), 1);
#endif
}

// How a register is stored: as usual, or past the caches.
struct Full {};
struct Streamed {};
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a, Full) { store(p, a); }
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a, Streamed) { stream(p, a); }

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
template <> CSOFTMAX_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
    return {(Vec<float>::Values)_mm512_fmadd_ps(a.v, b.v, c.v)};
#else
    return {(Vec<float>::Values)_mm256_fmadd_ps(a.v, b.v, c.v)};
#endif
}
template <> CSOFTMAX_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
    return {(Vec<double>::Values)_mm512_fmadd_pd(a.v, b.v, c.v)};
#else
    return {(Vec<double>::Values)_mm256_fmadd_pd(a.v, b.v, c.v)};
#endif
}
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__aarch64__)
template <> CSOFTMAX_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return {(Vec<float>::Values)vfmaq_f32(c.v, a.v, b.v)};
}
template <> CSOFTMAX_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return {(Vec<double>::Values)vfmaq_f64(c.v, a.v, b.v)};
}
#endif

// Comparisons give a mask for choose(); every comparison with a NaN is false.
template <class T> CSOFTMAX_INLINE auto operator<=(Vec<T> a, Vec<T> b) { return a.v <= b.v; }
template <class T> CSOFTMAX_INLINE auto operator>=(Vec<T> a, Vec<T> b) { return a.v >= b.v; }
template <class T> CSOFTMAX_INLINE auto operator>(Vec<T> a, Vec<T> b) { return a.v > b.v; }
template <class T> CSOFTMAX_INLINE auto equal(Vec<T> a, Vec<T> b) { return a.v == b.v; }
template <class Mask, class T> CSOFTMAX_INLINE Vec<T> choose(Mask m, Vec<T> a, Vec<T> b) {
    return {m ? a.v : b.v};
}

// Whether a mask holds for any lane.
template <class Mask> CSOFTMAX_INLINE bool any(Mask m) {
    if constexpr (std::is_arithmetic_v<Mask>) {
        return m;
    } else {
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX512F__)
        return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX2__)
        return _mm256_movemask_epi8((__m256i)m) != 0;
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__SSE2__)
        return _mm_movemask_epi8((__m128i)m) != 0;
#else
        bool some = false;
        for (std::size_t i = 0; i < sizeof m / sizeof m[0]; ++i) some |= m[i] != 0;
        return some;
#endif
    }
}

// Lane i of pick(a, places) is lane places[i], modulo LANES, of a.
template <class T> using Places = typename Vec<T>::Bits;
template <class T> CSOFTMAX_INLINE Vec<T> pick(Vec<T> a, Places<T> places) {
    T s[Vec<T>::LANES];
    if constexpr (Vec<T>::LANES > 1) {
        for (int i = 0; i < Vec<T>::LANES; ++i) s[i] = lane(a, places[i] % Vec<T>::LANES);
        return load(s);
    }
    return a;
}
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX512F__)
template <> CSOFTMAX_INLINE Vec<float> pick(Vec<float> a, Places<float> places) {
    return {(Vec<float>::Values)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)places, a.v)};
}
template <> CSOFTMAX_INLINE Vec<double> pick(Vec<double> a, Places<double> places) {
    return {(Vec<double>::Values)_mm512_maskz_permutexvar_pd(0xff, (__m512i)places, a.v)};
}
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX2__)
template <> CSOFTMAX_INLINE Vec<float> pick(Vec<float> a, Places<float> places) {
    return {(Vec<float>::Values)_mm256_permutevar8x32_ps((__m256)a.v, (__m256i)places)};
}
template <> CSOFTMAX_INLINE Vec<double> pick(Vec<double> a, Places<double> places) {
    const Places<double> first = (places & 3) * 2, halves = first | (first + 1) << 32;
    return {(Vec<double>::Values)_mm256_permutevar8x32_ps((__m256)a.v, (__m256i)halves)};
}
#elif defined(CSOFTMAX_VECTOR_TYPES) && defined(__SSSE3__)
template <> CSOFTMAX_INLINE Vec<float> pick(Vec<float> a, Places<float> places) {
    const Places<float> bytes = (places & 3) * 0x04040404 + 0x03020100;
    return {(Vec<float>::Values)_mm_shuffle_epi8((__m128i)a.v, (__m128i)bytes)};
}
template <> CSOFTMAX_INLINE Vec<double> pick(Vec<double> a, Places<double> places) {
    const Vec<double>::Values first = {a.v[0], a.v[0]}, second = {a.v[1], a.v[1]};
    return {(places & 1) == 1 ? second : first};
}
#endif

// The last `count` entries of LANES that end at p + count, and `fill` behind them. Some processors take long to
// load by a mask: there what comes before is shifted out.
template <class T> CSOFTMAX_INLINE Vec<T> load_end(const T* p, int count, T fill) {
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__SSSE3__) && !defined(__AVX512F__)
    if constexpr (Vec<T>::LANES > 1) {
        constexpr int W = Vec<T>::LANES;
        Places<T> places;
        Vec<T> numbers;
        for (int i = 0; i < W; ++i) numbers.v[i] = T(places[i] = i);
        const Vec<T> some = pick(load(p + count - W), places - count);
        return choose(broadcast(T(count)) > numbers, some, broadcast(fill));
    }
#endif
    return load_part(p, count, fill);
}

// The larger of a and b; b where either is NaN (one instruction on x86).
template <class T> CSOFTMAX_INLINE Vec<T> max(Vec<T> a, Vec<T> b) { return choose(a > b, a, b); }

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
    if constexpr (sizeof(a.v) == sizeof(typename Vec<T>::Bits))
        return from_bits<T>(bits(a) & ~bits(broadcast(T(-0.0))));
    else
        return max(a, Vec<T>{-a.v});
}

// at <- first + i for each lane i of a that is above 0; returns how many. There is room for LANES.
template <class T> CSOFTMAX_INLINE int find_positive(Vec<T> a, int first, std::int32_t* at) {
    int count = 0;
    for (int i = 0; i < Vec<T>::LANES; ++i) {  // without branches, none could be foreseen
        at[count] = first + i;
        count += lane(a, i) > 0;
    }
    return count;
}
#if defined(CSOFTMAX_VECTOR_TYPES) && defined(__AVX512VL__)
template <> CSOFTMAX_INLINE int find_positive(Vec<float> a, int first, std::int32_t* at) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __mmask16 mask = _mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_GT_OQ);
    _mm512_storeu_si512(
        at, _mm512_maskz_compress_epi32(mask, _mm512_add_epi32(lanes, _mm512_set1_epi32(first))));
    return __builtin_popcount(mask);
}
template <> CSOFTMAX_INLINE int find_positive(Vec<double> a, int first, std::int32_t* at) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __mmask8 mask = _mm512_cmp_pd_mask(a.v, _mm512_setzero_pd(), _CMP_GT_OQ);
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(at),
        _mm256_maskz_compress_epi32(mask, _mm256_add_epi32(lanes, _mm256_set1_epi32(first))));
    return __builtin_popcount(mask);
}
#endif

}  // namespace csoftmax
