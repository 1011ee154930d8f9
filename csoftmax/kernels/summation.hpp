// summation.hpp - LaneSum<T>: a sum along the classes whose bits do not depend on the layout.
//
// The terms of a row, numbered j = 0, 1, ..., are added in one order whatever holds them:
//   term j goes to partial sum j mod LANES;
//   after every block of 8 LANES terms each partial sum is added to its total with the rounding
//   error kept (TwoSum), and starts again at 0;
//   after every CHUNK terms the LANES totals are added up by halves, and to the sum, likewise.
// Only the few additions within a block round: the error does not grow with the length of the row.
// Rows of a single block just add up their partial sums.
//
// A row that lies along the lanes (fold) keeps its partial sums in one register, index 0 below;
// columns keep a register for each partial sum, and each lane is a row of its own.
#pragma once

#include "simd.hpp"

namespace csoftmax {

constexpr int CHUNK = 4096;
template <class T> CSOFTMAX_INLINE int block_of(const T*) { return 8 * Vec<T>::LANES; }

// A number in two words: value + error.
template <class T> struct Exact {
    Vec<T> value, error;
    template <int by> CSOFTMAX_INLINE Exact rotated() const {
        return {rotate<by>(value), rotate<by>(error)};
    }
};

// a + b by Knuth's TwoSum. An infinite sum has no error worth keeping: its NaN would spoil it.
template <class T> CSOFTMAX_INLINE Exact<T> add_exactly(Exact<T> a, Exact<T> b) {
    Vec<T> s = a.value + b.value;
    Vec<T> from_b = s - a.value;
    Vec<T> lost = (a.value - (s - from_b)) + (b.value - from_b);
    lost = choose(abs(s) >= broadcast(std::numeric_limits<T>::infinity()), broadcast(T(0)), lost);
    return {s, (a.error + b.error) + lost};
}

template <class T> struct LaneSum {
    Vec<T> partial[Vec<T>::LANES];
    Exact<T> lanes[Vec<T>::LANES];
    Exact<T> total;
};

// How a row of n terms is summed: along the lanes or not, and in how many partial sums.
struct Order {
    bool fold;
    bool short_row;  // a single block: the partial sums are all there is
    int partials;    // registers of partial sums in use
};
template <class T> CSOFTMAX_INLINE Order order_of(const T* tag, bool fold, std::ptrdiff_t n) {
    const int lanes = Vec<T>::LANES;
    return {fold, n <= block_of(tag), fold ? 1 : n < lanes ? int(n) : lanes};
}

// total += partial; partial = 0
template <class T> CSOFTMAX_INLINE void flush(Vec<T>& partial, Exact<T>& total) {
    const Vec<T> zero = broadcast(T(0));
    total = add_exactly(total, {partial, zero});
    partial = zero;
}

template <class T> CSOFTMAX_INLINE void clear(LaneSum<T>& s, Order order) {
    const Vec<T> zero = broadcast(T(0));
    for (int i = 0; i < order.partials; ++i) {
        s.partial[i] = zero;
        if (!order.short_row) s.lanes[i] = {zero, zero};
    }
    s.total = {zero, zero};
}

template <class T> CSOFTMAX_INLINE void end_block(LaneSum<T>& s, Order order) {
    for (int i = 0; i < order.partials; ++i) flush(s.partial[i], s.lanes[i]);
}

template <class T> CSOFTMAX_INLINE void end_chunk(LaneSum<T>& s, Order order) {
    constexpr int HALF = Vec<T>::LANES / 2;
    const Vec<T> zero = broadcast(T(0));
    if (order.short_row) {
        if (order.fold) {
            s.total = {sum_lanes(s.partial[0]), zero};
        } else if (order.partials > 0) {  // partial sums that are not in use would add 0
            for (int half = HALF; half > 0; half /= 2)
                for (int i = 0; i < half && i + half < order.partials; ++i)
                    s.partial[i] = s.partial[i] + s.partial[i + half];
            s.total = {s.partial[0], zero};
        }
        return;
    }
    end_block(s, order);
    if (order.fold)
        s.lanes[0] = across_lanes<HALF>(s.lanes[0], add_exactly<T>);
    else
        for (int half = HALF; half > 0; half /= 2)
            for (int i = 0; i < half; ++i)
                s.lanes[i] = add_exactly(s.lanes[i], s.lanes[i + half]);
    s.total = add_exactly(s.total, s.lanes[0]);
    for (int i = 0; i < order.partials; ++i) s.lanes[i] = {zero, zero};
}

template <class T> CSOFTMAX_INLINE Vec<T> value(const LaneSum<T>& s) {
    return s.total.value + s.total.error;
}

}  // namespace csoftmax
