// lanes.hpp - what moves between the lanes of registers: rotation, transposition, halves, and reductions across
// the lanes of one register or of several at once.
#pragma once

#include <utility>

#include "simd.hpp"

namespace csoftmax {

// Lane i of the result is lane (i + by) mod LANES of a.
template <int by, class T> CSOFTMAX_INLINE Vec<T> rotate(Vec<T> a) {
    T s[2 * Vec<T>::LANES];
    store(s, a);
    store(s + Vec<T>::LANES, a);
    return load(s + by);
}
#if defined(CSOFTMAX_VECTOR_TYPES) && (defined(__clang__) || __GNUC__ >= 12)
template <int by, class V, int... i>
CSOFTMAX_INLINE V rotate_values(V v, std::integer_sequence<int, i...>) {
    return __builtin_shufflevector(v, v, (i + by)...);
}
template <int by> CSOFTMAX_INLINE Vec<float> rotate(Vec<float> a) {
    return {rotate_values<by>(a.v, std::make_integer_sequence<int, Vec<float>::LANES>{})};
}
template <int by> CSOFTMAX_INLINE Vec<double> rotate(Vec<double> a) {
    return {rotate_values<by>(a.v, std::make_integer_sequence<int, Vec<double>::LANES>{})};
}
#endif

// Transposition of blocks of PIECE columns: a register holds pieces of 16 bytes, each from a row of
// its own, and what moves between registers stays within its piece.
template <class T>
constexpr int PIECE = Vec<T>::LANES < 16 / int(sizeof(T)) ? Vec<T>::LANES : 16 / int(sizeof(T));
#if defined(CSOFTMAX_VECTOR_TYPES) && (defined(__clang__) || __GNUC__ >= 12)
template <class T> constexpr bool CAN_TRANSPOSE = (Vec<T>::LANES > 1);
template <class V, int... i>
CSOFTMAX_INLINE auto join(V a, V b, std::integer_sequence<int, i...>) {
    return __builtin_shufflevector(a, b, i...);
}
// `pieces` of them, the first at p and each `step` bytes from the one before.
template <class T, int pieces> CSOFTMAX_INLINE auto load_pieces(const char* p, std::ptrdiff_t step) {
    if constexpr (pieces == 1) {
        typedef T Piece __attribute__((vector_size(PIECE<T> * sizeof(T))));
        Piece v;
        std::memcpy(&v, p, sizeof v);
        return v;
    } else {
        return join(load_pieces<T, pieces / 2>(p, step),
                    load_pieces<T, pieces / 2>(p + pieces / 2 * step, step),
                    std::make_integer_sequence<int, pieces * PIECE<T>>{});
    }
}
// Of each piece of a and b the lower halves, or the upper, entry by entry in turns.
template <int piece, class V, int... i>
CSOFTMAX_INLINE void interleave(V& a, V& b, std::integer_sequence<int, i...>) {
    constexpr int n = sizeof...(i);
    V low = __builtin_shufflevector(a, b, (i / piece * piece + i % piece / 2 + i % 2 * n)...);
    V high = __builtin_shufflevector(
        a, b, (i / piece * piece + (piece + i % piece) / 2 + i % 2 * n)...);
    a = low;
    b = high;
}
// Register i holds row i of each piece, then column i; and back.
template <class T> CSOFTMAX_INLINE void transpose(Vec<T> (&v)[PIECE<T>]) {
    constexpr int C = PIECE<T>, n = Vec<T>::LANES;
    for (int stage = 1; stage < C; stage *= 2) {
        Vec<T> w[C];
        for (int i = 0; i < C / 2; ++i) {
            w[2 * i] = v[i];
            w[2 * i + 1] = v[i + C / 2];
            interleave<C>(w[2 * i].v, w[2 * i + 1].v, std::make_integer_sequence<int, n>{});
        }
        for (int i = 0; i < C; ++i) v[i] = w[i];
    }
}
template <class T> CSOFTMAX_INLINE Vec<T> load_rows(const char* p, std::ptrdiff_t step) {
    return {load_pieces<T, Vec<T>::LANES / PIECE<T>>(p, step)};
}
// The same for the entries of LANES rows of N that lie one after the other, in N registers: few that two at a time
// are picked from. Lane i of register j is entry source(i) of all.
template <class T, int N> constexpr bool PICKED = N < PIECE<T> || (N <= 3 && sizeof(Vec<T>) == 64);
template <int N, int j, int W, bool back> constexpr int source(int i) {
    return back ? (j * W + i) % N * W + (j * W + i) / N : i * N + j;
}
template <int N, int j, bool back, int k, class V, int... i>
CSOFTMAX_INLINE V pick(const V (&from)[N], V so_far, std::integer_sequence<int, i...> lanes) {
    constexpr int W = sizeof...(i);
    so_far = __builtin_shufflevector(so_far, from[k],
                                     (source<N, j, W, back>(i) / W == k ? W + source<N, j, W, back>(i) % W
                                      : k == 1                          ? source<N, j, W, back>(i) % W
                                                                        : i)...);
    if constexpr (k + 1 < N)
        return pick<N, j, back, k + 1>(from, so_far, lanes);
    else
        return so_far;
}
template <bool back, class T, int N, int... j>
CSOFTMAX_INLINE void pick_all(Vec<T> (&v)[N], std::integer_sequence<int, j...>) {
    const std::make_integer_sequence<int, Vec<T>::LANES> lanes;
    typename Vec<T>::Values from[N];
    for (int k = 0; k < N; ++k) from[k] = v[k].v;
    ((v[j].v = pick<N, j, back, 1>(from, from[0], lanes)), ...);
}
template <bool back, class T, int N> CSOFTMAX_INLINE void transpose_whole(Vec<T> (&v)[N]) {
    pick_all<back>(v, std::make_integer_sequence<int, N>{});
}
#else
template <class T> constexpr bool CAN_TRANSPOSE = false;
template <class T, int N> constexpr bool PICKED = false;
template <class T> void transpose(Vec<T> (&)[PIECE<T>]);
template <bool back, class T, int N> void transpose_whole(Vec<T> (&)[N]);
template <class T> Vec<T> load_rows(const char* p, std::ptrdiff_t step);
#endif
template <class T> CSOFTMAX_INLINE void store_piece(char* p, Vec<T> a, int piece) {
    constexpr std::size_t size = PIECE<T> * sizeof(T);
    std::memcpy(p, reinterpret_cast<const char*>(&a.v) + piece * size, size);
}

// Of each run of 2 * half lanes the first half, or the second: those of a, then those of b, piece by piece
// if a piece holds several runs, as what moves between pieces takes longer.
template <class T, int half, bool second> constexpr int half_index(int i) {
    constexpr int W = Vec<T>::LANES, RUN = 2 * half, ALL = half < PIECE<T> ? PIECE<T> : W;
    const int at = i % ALL, place = at % (ALL / 2);
    return (at < ALL / 2 ? 0 : W) + i / ALL * ALL + place / half * RUN + second * half + place % half;
}
template <int half, bool second, class T> CSOFTMAX_INLINE Vec<T> halves(Vec<T> a, Vec<T> b) {
    constexpr int W = Vec<T>::LANES;
    T s[2 * W], t[W];
    store(s, a);
    store(s + W, b);
    for (int i = 0; i < W; ++i) t[i] = s[half_index<T, half, second>(i)];
    return load(t);
}
#if defined(CSOFTMAX_VECTOR_TYPES) && (defined(__clang__) || __GNUC__ >= 12)
template <class T, int half, bool second, int... i>
CSOFTMAX_INLINE Vec<T> half_values(Vec<T> a, Vec<T> b, std::integer_sequence<int, i...>) {
#if defined(__AVX__) && !defined(__AVX512F__)
    if constexpr (second && 2 * half == Vec<T>::LANES) {  // vperm2f128 is slow on some processors
        const __m128 upper = _mm256_extractf128_ps((__m256)a.v, 1);
        return {(typename Vec<T>::Values)_mm256_blend_ps((__m256)b.v, _mm256_castps128_ps256(upper), 15)};
    }
#endif
    return {__builtin_shufflevector(a.v, b.v, half_index<T, half, second>(i)...)};
}
template <int half, bool second>
CSOFTMAX_INLINE Vec<float> halves(Vec<float> a, Vec<float> b) {
    return half_values<float, half, second>(a, b, std::make_integer_sequence<int, Vec<float>::LANES>{});
}
template <int half, bool second>
CSOFTMAX_INLINE Vec<double> halves(Vec<double> a, Vec<double> b) {
    return half_values<double, half, second>(a, b, std::make_integer_sequence<int, Vec<double>::LANES>{});
}
#endif

// Lane i is that of `a` for the row that entry first + i belongs to, rows having n entries each.
template <int n, int first, class T> CSOFTMAX_INLINE Vec<T> lanes_of_rows(Vec<T> a) {
    T s[Vec<T>::LANES];
    for (int i = 0; i < Vec<T>::LANES; ++i) s[i] = lane(a, (first + i) / n);
    return load(s);
}
#if defined(CSOFTMAX_VECTOR_TYPES) && (defined(__clang__) || __GNUC__ >= 12)
template <int n, int first, class V, int... i>
CSOFTMAX_INLINE V values_of_rows(V v, std::integer_sequence<int, i...>) {
    return __builtin_shufflevector(v, v, ((first + i) / n)...);
}
template <int n, int first> CSOFTMAX_INLINE Vec<float> lanes_of_rows(Vec<float> a) {
    return {values_of_rows<n, first>(a.v, std::make_integer_sequence<int, Vec<float>::LANES>{})};
}
template <int n, int first> CSOFTMAX_INLINE Vec<double> lanes_of_rows(Vec<double> a) {
    return {values_of_rows<n, first>(a.v, std::make_integer_sequence<int, Vec<double>::LANES>{})};
}
#endif

// combine(lane i, lane i + half) for half = LANES/2, ..., 2, 1: every lane ends with the result.
// Columns combine the lanes of a sum in the same pairs (summation.hpp).
template <int half, class State, class Combine>
CSOFTMAX_INLINE State across_lanes(State a, Combine combine) {
    if constexpr (half == 0)
        return a;
    else
        return across_lanes<half / 2>(combine(a, a.template rotated<half>()), combine);
}
template <class T> struct Single {
    Vec<T> v;
    template <int by> CSOFTMAX_INLINE Single rotated() const { return {rotate<by>(v)}; }
    template <int half, bool second> CSOFTMAX_INLINE static Single halves(Single a, Single b) {
        return {csoftmax::halves<half, second>(a.v, b.v)};
    }
};
template <class T> CSOFTMAX_INLINE Single<T> add_single(Single<T> a, Single<T> b) { return {a.v + b.v}; }
// The same for `count` states at once, which are overwritten: what combines two neighbours has lanes of both.
template <int half, class State, class Combine>
CSOFTMAX_INLINE State across_some(State* states, int count, Combine combine) {
    CSOFTMAX_ASSUME(count > 0);
    if constexpr (half > 0) {
        for (int i = 0; i < count; i += 2) {
            const State a = states[i], b = states[i + 1 < count ? i + 1 : i];
            states[i / 2] = combine(State::template halves<half, false>(a, b),
                                    State::template halves<half, true>(a, b));
        }
        return across_some<half / 2>(states, (count + 1) / 2, combine);
    }
    return states[0];
}
// The states of `count` rows in the order that gives lane i to row i in the end; returns how many these are.
// Rows i, i + PIECE, ... come first to share a register, a piece for each, then rows share pieces.
template <int piece, int lanes, class State>
CSOFTMAX_INLINE int order_rows(const State (&rows)[lanes], int count, State (&states)[lanes]) {
    constexpr int PIECES = lanes / piece;
    const int first = count < piece ? count : piece;
    for (int i = 0; i < first; ++i)
        for (int k = 0; k < PIECES; ++k)
            states[i * PIECES + k] = rows[i + k * piece < count ? i + k * piece : i];
    return first * PIECES;
}
// Lane i of the result is that of rows[i]. A constant count stays in registers.
template <int piece, int lanes, class State, class Combine>
CSOFTMAX_INLINE State across_rows(const State (&rows)[lanes], int count, Combine combine) {
    State states[lanes];
    if (count == lanes) return across_some<lanes / 2>(states, order_rows<piece>(rows, lanes, states), combine);
    return across_some<lanes / 2>(states, order_rows<piece>(rows, count, states), combine);
}
template <class T> CSOFTMAX_INLINE Vec<T> sum_lanes(Vec<T> a) {
    return across_lanes<Vec<T>::LANES / 2>(Single<T>{a}, add_single<T>).v;
}
template <class T> CSOFTMAX_INLINE Vec<T> max_lanes(Vec<T> a) {
    return across_lanes<Vec<T>::LANES / 2>(Single<T>{a}, [](Single<T> x, Single<T> y) {
               return Single<T>{max(x.v, y.v)};
           }).v;
}

}  // namespace csoftmax
