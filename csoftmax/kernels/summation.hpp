// summation.hpp - LaneSum<T>: a sum along the classes whose bits do not depend on the layout.
//
// The terms of a row, numbered j = 0, 1, ..., are added in one order whatever holds them:
//   term j goes to partial sum j mod LANES;
//   after every block of 8 LANES terms the partial sums are added up by halves;
//   block sums are added with their rounding errors kept (TwoSum), and so are sums of CHUNK terms.
// Only the few additions within a block round: the error does not grow with the length of the row.
// A row that lies along the lanes (fold) keeps all partial sums in one register and adds across it;
// columns keep one register a partial sum, and each lane is a row of its own.
#pragma once

#include "simd.hpp"

namespace csoftmax {

constexpr int CHUNK = 4096;
template <class T> CSOFTMAX_INLINE int block_of(const T*) { return 8 * Vec<T>::LANES; }

template <class T> struct LaneSum {
    Vec<T> partial[Vec<T>::LANES];
    Vec<T> chunk, chunk_error;
    Vec<T> total, total_error;
};

// What is left of a LaneSum at the end of a chunk.
template <class T> struct ChunkSum {
    Vec<T> sum, error;
};

// sum + error += b, with the rounding error of the addition kept (Knuth's TwoSum). An infinite or
// NaN sum has no error worth keeping: its NaN would spoil an infinity.
template <class T> CSOFTMAX_INLINE void add_exactly(Vec<T>& sum, Vec<T>& error, Vec<T> b) {
    Vec<T> s = sum + b;
    Vec<T> from_b = s - sum;
    Vec<T> lost = (sum - (s - from_b)) + (b - from_b);
    error = error + choose(abs(s) >= broadcast(std::numeric_limits<T>::infinity()),
                           broadcast(T(0)), lost);
    sum = s;
}

template <class T> CSOFTMAX_INLINE void clear_partials(LaneSum<T>& s, bool fold) {
    for (int i = 0; i < (fold ? 1 : Vec<T>::LANES); ++i) s.partial[i] = broadcast(T(0));
}

template <class T> CSOFTMAX_INLINE void clear(LaneSum<T>& s, bool fold) {
    clear_partials(s, fold);
    s.chunk = s.chunk_error = s.total = s.total_error = broadcast(T(0));
}

template <class T> CSOFTMAX_INLINE void end_block(LaneSum<T>& s, bool fold) {
    Vec<T> block;
    if (fold) {
        block = broadcast(sum_lanes(s.partial[0]));
    } else {
        for (int half = Vec<T>::LANES / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) s.partial[i] = s.partial[i] + s.partial[i + half];
        block = s.partial[0];
    }
    add_exactly(s.chunk, s.chunk_error, block);
    clear_partials(s, fold);
}

template <class T> CSOFTMAX_INLINE void end_chunk(LaneSum<T>& s) {
    add_exactly(s.total, s.total_error, s.chunk);
    s.total_error = s.total_error + s.chunk_error;
    s.chunk = s.chunk_error = broadcast(T(0));
}

template <class T> CSOFTMAX_INLINE ChunkSum<T> take_chunk(const LaneSum<T>& s) {
    return {s.total, s.total_error};
}
template <class T> CSOFTMAX_INLINE void add_chunk(LaneSum<T>& s, const ChunkSum<T>& c) {
    s.chunk = c.sum;
    s.chunk_error = c.error;
    end_chunk(s);
}

template <class T> CSOFTMAX_INLINE Vec<T> value(const LaneSum<T>& s) {
    return s.total + s.total_error;
}

}  // namespace csoftmax
