// row.hpp - Row<T>: what the sweeps over a row, or over a register of rows side by side, find out.
//
// The terms below the maximum are summed apart from the maximum and its ties: the logarithm of the
// sum is then accurate to the last digits for confident rows, where the rest is tiny beside it.
#pragma once

#include "summation.hpp"
#include "vecmath.hpp"

namespace csoftmax {

template <class T> struct Row {
    Vec<T> max;
    Anchor<T> anchor;
    Vec<T> ties;                // how many entries equal the maximum
    LaneSum<T> sum;             // of the terms below the peak, or what else the kernel sums
    LaneSum<T> weight, spread;  // cross-entropy: sum of w, and of w (max - x)
    Vec<T> factor, offset;      // for the writing sweep: what it multiplies with and subtracts
    Vec<T> total, lack;         // cross-entropy: sum(w), and scale * sum(w) (1 - p at the maximum)
};

// The same for one chunk of a long row.
template <class T> struct ChunkOfRow {
    Vec<T> max, ties;
    Exact<T> sum, weight, spread;
};

template <class T> CSOFTMAX_INLINE void start(Row<T>& row, Order order, bool weighted) {
    row.max = broadcast(-INFINITE<T>);
    row.ties = row.factor = row.offset = row.total = row.lack = broadcast(T(0));
    clear(row.sum, order);
    if (weighted) {
        clear(row.weight, order);
        clear(row.spread, order);
    }
}

template <class T> CSOFTMAX_INLINE ChunkOfRow<T> take_chunk(const Row<T>& row, bool weighted) {
    ChunkOfRow<T> c;
    c.max = row.max;
    c.ties = row.ties;
    c.sum = row.sum.total;
    if (weighted) {
        c.weight = row.weight.total;
        c.spread = row.spread.total;
    }
    return c;
}
template <class T>
CSOFTMAX_INLINE void add_chunk(Row<T>& row, const ChunkOfRow<T>& c, bool weighted) {
    row.max = max(row.max, c.max);
    row.ties = row.ties + c.ties;
    row.sum.total = add_exactly(row.sum.total, c.sum);
    if (weighted) {
        row.weight.total = add_exactly(row.weight.total, c.weight);
        row.spread.total = add_exactly(row.spread.total, c.spread);
    }
}

template <class T> CSOFTMAX_INLINE void end_chunk(Row<T>& row, Order order, bool weighted) {
    end_chunk(row.sum, order);
    if (weighted) {
        end_chunk(row.weight, order);
        end_chunk(row.spread, order);
    }
}

// After the first sweep: the anchor of the terms.
template <class T> CSOFTMAX_INLINE void set_anchor(Row<T>& row, bool fold) {
    if (fold) row.max = max_lanes(row.max);
    row.anchor = anchor(row.max);
}
// After the second: the ties of all lanes.
template <class T> CSOFTMAX_INLINE void finish(Row<T>& row, bool fold) {
    if (fold) row.ties = sum_lanes(row.ties);
}

// Of the entry x with the term e: what it adds to the sum below the maximum, and to the ties.
template <class T> CSOFTMAX_INLINE Vec<T> below(Vec<T> e, Vec<T> x, const Anchor<T>& a) {
    return choose(x >= a.max, broadcast(T(0)), e);
}
template <class T> CSOFTMAX_INLINE Vec<T> tie(Vec<T> x, const Anchor<T>& a) {
    return choose(x >= a.max, broadcast(T(1)), broadcast(T(0)));
}

// One of two values, by whether the term e is that of the maximum.
template <class T>
CSOFTMAX_INLINE Vec<T> at_or_below_peak(Vec<T> e, Vec<T> at, Vec<T> below, const Anchor<T>& a) {
    return choose(e >= a.peak, choose(e <= a.peak, at, below), below);
}

// w (max - x), and 0 where w is 0 though x may be -inf.
template <class T> CSOFTMAX_INLINE Vec<T> weighted_gap(Vec<T> w, Vec<T> x, const Anchor<T>& a) {
    const Vec<T> zero = broadcast(T(0));
    return choose(abs(w) <= zero, zero, w * (a.max - x));
}

// x log(y), and 0 where x is 0 unless y is NaN.
template <class T> CSOFTMAX_INLINE Vec<T> x_log_y(Vec<T> x, Vec<T> y) {
    const Vec<T> zero = broadcast(T(0));
    Vec<T> nothing = choose(y >= broadcast(-INFINITE<T>), zero, y);
    return choose(abs(x) <= zero, nothing, x * log(y));
}
// -x / y, with 0 / 0 = 0.
template <class T> CSOFTMAX_INLINE Vec<T> minus_ratio(Vec<T> x, Vec<T> y) {
    const Vec<T> zero = broadcast(T(0));
    Vec<T> ratio = (zero - x) / y;
    return choose(abs(x) <= zero, choose(abs(y) <= zero, zero, ratio), ratio);
}

// 1 / (sum of all terms); NaN where the maximum is not finite.
template <class T> CSOFTMAX_INLINE Vec<T> inverse(const Row<T>& row) {
    Vec<T> sum = fma(row.ties, row.anchor.peak, value(row.sum));
    return broadcast(T(1)) / sum + row.anchor.finite;
}
// Sum of exp(x - max) over all entries but one maximum.
template <class T> CSOFTMAX_INLINE Vec<T> rest(const Row<T>& row) {
    return (row.ties - broadcast(T(1))) + value(row.sum) / row.anchor.peak;
}

}  // namespace csoftmax
