// row.hpp - Row<T>: what the sweeps over a row, or over a register of rows side by side, find out.
//
// The terms below the maximum are summed apart from the maximum and its ties: the logarithm of the
// sum is then accurate to the last digits for confident rows, where the rest is tiny beside it.
#pragma once

#include "summation.hpp"
#include "vecmath.hpp"

namespace csoftmax {

// a / sum, or a factor / sum, as good as rounded once: by the reciprocal in two words where products can
// be fused, by a division that is put right elsewhere. A single entry gets exactly 1.
#if defined(CSOFTMAX_FUSED)
template <class T> struct Divisor {
    Exact<T> inverse;
};
template <class T> CSOFTMAX_INLINE Divisor<T> divisor(Exact<T> sum) {
    return {divide_exactly(exact(broadcast(T(1))), sum)};
}
template <class T> CSOFTMAX_INLINE Divisor<T> divisor(Exact<T> sum, Vec<T> factor) {
    return {divide_exactly(exact(factor), sum)};
}
template <class T> CSOFTMAX_INLINE Vec<T> divide(Vec<T> a, const Divisor<T>& d) {
    return fma(a, d.inverse.value, a * d.inverse.error);
}
template <class T> CSOFTMAX_INLINE Divisor<T> spread(const Divisor<T>& d, int i) {
    return {{broadcast(lane(d.inverse.value, i)), broadcast(lane(d.inverse.error, i))}};
}
#else
template <class T> struct Divisor {
    Vec<T> sum, excess;
};
template <class T> CSOFTMAX_INLINE Divisor<T> divisor(Exact<T> sum) {
    return {sum.value, sum.error / sum.value};
}
template <class T> CSOFTMAX_INLINE Divisor<T> divisor(Exact<T> sum, Vec<T> factor) {
    return divisor(divide_exactly(sum, exact(factor)));
}
template <class T> CSOFTMAX_INLINE Vec<T> divide(Vec<T> a, const Divisor<T>& d) {
    Vec<T> quotient = a / d.sum;
    return quotient - quotient * d.excess;
}
template <class T> CSOFTMAX_INLINE Divisor<T> spread(const Divisor<T>& d, int i) {
    return {broadcast(lane(d.sum, i)), broadcast(lane(d.excess, i))};
}
#endif

template <class T> struct Row {
    Vec<T> max;
    Anchor<T> anchor;
    Vec<T> ties;                // how many terms reach the peak
    Exact<T> sum;               // of the terms below the peak, or what else the kernel sums
    Exact<T> weight, spread;    // cross-entropy: sum of w, and of w (max - x)
    Divisor<T> divisor;         // for the writing sweep: the sum of all terms,
    Vec<T> factor, offset;      // and what else it multiplies with and subtracts
    Vec<T> total, lack, peak;   // cross-entropy: sum(w), scale * sum(w) (1 - p_max), dominant_peak
    Vec<T> again;               // logsumexp: 1 where the sum must be taken once more
};

// The same for one chunk of a long row, where all lanes agree.
template <class T> struct ChunkOfRow {
    T max, ties;
    bool kept;  // its terms are, in the result
    T sum[2], weight[2], spread[2];
};

template <class T> CSOFTMAX_INLINE void start(Row<T>& row, Order order, bool weighted) {
    const Vec<T> zero = broadcast(T(0));
    row.max = broadcast(-INFINITE<T>);
    row.ties = zero;
    if (order.fold)  // what is taken along from row to row, needed or not
        row.factor = row.offset = row.total = row.lack = row.peak = row.again = zero;
    row.sum = exact(zero);
    if (weighted) row.weight = row.spread = row.sum;
}

template <class T> CSOFTMAX_INLINE void take(T (&words)[2], const Exact<T>& sum) {
    words[0] = lane(sum.value, 0);
    words[1] = lane(sum.error, 0);
}
template <class T> CSOFTMAX_INLINE void add(Exact<T>& sum, const T (&words)[2]) {
    sum = add_any(sum, {broadcast(words[0]), broadcast(words[1])});
}
template <class T> CSOFTMAX_INLINE ChunkOfRow<T> take_chunk(const Row<T>& row, bool weighted) {
    ChunkOfRow<T> c;
    c.max = lane(max_lanes(row.max), 0);
    c.ties = lane(sum_lanes(row.ties), 0);
    take(c.sum, row.sum);
    if (weighted) {
        take(c.weight, row.weight);
        take(c.spread, row.spread);
    }
    return c;
}
template <class T>
CSOFTMAX_INLINE void add_chunk(Row<T>& row, const ChunkOfRow<T>& c, bool weighted) {
    row.max = max(row.max, broadcast(c.max));
    set_lane(row.ties, 0, lane(row.ties, 0) + c.ties);
    add(row.sum, c.sum);
    if (weighted) {
        add(row.weight, c.weight);
        add(row.spread, c.spread);
    }
}

// Before and after the classes of a chunk are added up, for `vectors` registers of rows. `common`: the weights are,
// and only the first register has their sum.
template <class T>
CSOFTMAX_INLINE void begin_chunk(const LaneSums<T>& lanes, Order order, bool weighted, std::ptrdiff_t vectors) {
    clear(lanes.sum, order, vectors);
    if (weighted) {
        clear(lanes.weight, order, vectors);
        clear(lanes.spread, order, vectors);
    }
}
template <class T>
CSOFTMAX_INLINE void end_chunk(const LaneSums<T>& lanes, Order order, bool weighted, bool common, Row<T>* rows,
                               std::ptrdiff_t vectors) {
    for (std::ptrdiff_t v = 0; v < vectors; ++v) {
        end_chunk(lanes.sum + v, vectors, order, rows[v].sum);
        if (weighted) {
            if (common && v > 0)
                rows[v].weight = rows[0].weight;
            else
                end_chunk(lanes.weight + v, vectors, order, rows[v].weight);
            end_chunk(lanes.spread + v, vectors, order, rows[v].spread);
        }
    }
}

// call(how many, the first of them) for all of so many registers of rows, as many as go side by side.
template <int N = TOGETHER, class Call>
CSOFTMAX_INLINE void for_some(std::ptrdiff_t vectors, Call call, std::ptrdiff_t v = 0) {
    for (; v + N <= vectors; v += N) call(std::integral_constant<int, N>{}, v);
    if constexpr (N > 1) for_some<N / 2>(vectors, call, v);
}

// After the first sweep: the anchor of the terms.
template <int N, class T> CSOFTMAX_INLINE void set_some_anchors(Row<T>* rows) {
    Vec<T> max[N];
    Anchor<T> anchors[N];
    for (int i = 0; i < N; ++i) max[i] = rows[i].max;
    find_anchors(max, anchors);
    for (int i = 0; i < N; ++i) rows[i].anchor = anchors[i];
}
template <class T> CSOFTMAX_INLINE void set_anchors(Row<T>* rows, std::ptrdiff_t vectors) {
    for_some(vectors, [&](auto count, std::ptrdiff_t v) CSOFTMAX_INLINED { set_some_anchors<count.value>(rows + v); });
}

// A product with no error that an overflow has spoilt.
template <class T> CSOFTMAX_INLINE Exact<T> without_overflow(Exact<T> a) {
    return {a.value, choose(abs(a.value) > abs(a.error), a.error, broadcast(T(0)))};
}

// Rows whose classes come piece by piece have an anchor that grows with the maximum: that of the largest
// entry so far. Its max is finite, so that an entry of -inf has a gap of inf, not NaN.
template <class T> CSOFTMAX_INLINE void set_anchor_so_far(Row<T>& row) {
    set_some_anchors<1>(&row);
    row.anchor.max = max(row.max, broadcast(std::numeric_limits<T>::lowest()));
}
template <class T> CSOFTMAX_INLINE void start_pieces(Row<T>& row, Order order, bool weighted) {
    start(row, order, weighted);
    set_anchor_so_far(row);
}
// The powers of two by which terms get smaller when they are measured against the maximum of the whole row instead
// of that so far, in lane 0; or -1 where they differ by more than that, or by so much that some would be subnormal.
// That of nothing but -inf is below all, though its anchor is one of 0.
#if defined(CSOFTMAX_FUSED)
constexpr int MOST_POWERS = 16;
#else  // a product that is rounded may lie midway between two k
constexpr int MOST_POWERS = 0;
#endif
template <class T> CSOFTMAX_INLINE int powers_below(const Row<T>& so_far, const Row<T>& whole) {
    const Anchor<T>&a = so_far.anchor, &b = whole.anchor;
    if (!(lane(a.finite, 0) == 0) || !(lane(a.shift, 0) == lane(b.shift, 0))) return -1;
    if constexpr (BY_LIBRARY<T>) return 0;
    const T powers = lane(a.round, 0) - lane(b.round, 0);
    return powers <= MOST_POWERS ? int(powers) : -1;
}
// Terms, and their sum, get smaller by so many; larger, if negative.
template <class T> CSOFTMAX_INLINE void lower_terms(Row<T>& row, int powers) {
    if (powers == 0) return;
    const Vec<T> scale = broadcast(std::ldexp(T(1), -powers));
    row.anchor.round = row.anchor.round - broadcast(T(powers));
    for (Exact<T>* a : {&row.anchor.peak, &row.sum}) *a = {a->value * scale, a->error * scale};
}
// After the sweep for the maximum of a piece: what was summed before, relative to the new anchor. A row
// along its registers (fold) has its sums in lane 0, and gets its maximum in all lanes.
template <class T> CSOFTMAX_APART void raise_anchor(Row<T>& row, bool fold, bool weighted) {
    const Vec<T> zero = broadcast(T(0));
    const Anchor<T> before = row.anchor;
    if (fold) row.max = max_lanes(row.max);
    const auto grown = row.max > choose(before.finite >= zero, before.max, broadcast(-INFINITE<T>));
    if (!(lane(max_lanes(choose(grown, broadcast(T(1)), zero)), 0) > 0)) return;
    if (fold) row.ties = first_lanes(sum_lanes(row.ties), 1);
    set_anchor_so_far(row);
    Exact<T> peaks = two_product(row.ties, before.peak.value);
    peaks.error = peaks.error + row.ties * before.peak.error;
    const Exact<T> sum = multiply_exactly(
        add_any(row.sum, peaks),
        divide_exactly(term_exactly(before.max, row.anchor), before.peak));
    row.sum.value = choose(grown, sum.value, row.sum.value);
    row.sum.error = choose(grown, sum.error, row.sum.error);
    row.ties = choose(grown, zero, row.ties);
    if (!weighted) return;
    // Scaled down, as the halves of two_product must not overflow.
    const Vec<T> down = broadcast(T(0x1p-32)), up = broadcast(T(0x1p+32));
    const Exact<T> gap = two_sum(row.max * down, Vec<T>{-before.max.v} * down);
    const Exact<T> scaled = multiply_exactly(row.weight, gap);
    const Exact<T> gaps = without_overflow(Exact<T>{scaled.value * up, scaled.error * up});
    const Vec<T> weight = choose(grown, row.weight.value, zero);
    const auto nothing = abs(weight) <= zero;
    const Exact<T> spread = add_any(row.spread, {choose(nothing, zero, gaps.value),
                                                       choose(nothing, zero, gaps.error)});
    row.spread.value = choose(grown, spread.value, row.spread.value);
    row.spread.error = choose(grown, spread.error, row.spread.error);
}

// Rows that lie along registers are swept one by one, in a Row whose lanes all belong to it. What
// depends on whole rows alone is computed for a register of them. From lane i of that:
template <class T> CSOFTMAX_INLINE Vec<T> spread(const Vec<T>& a, int i) {
    return broadcast(lane(a, i));
}
template <class T> CSOFTMAX_INLINE Exact<T> spread(const Exact<T>& a, int i) {
    return {spread(a.value, i), spread(a.error, i)};
}
template <class T> CSOFTMAX_INLINE Anchor<T> spread(const Anchor<T>& a, int i) {
    Anchor<T> b;
    b.max = spread(a.max, i);
    b.shift = spread(a.shift, i);
    b.peak = spread(a.peak, i);
    b.finite = spread(a.finite, i);
    if constexpr (!BY_LIBRARY<T>) {
        b.floor = spread(a.floor, i);
        b.round = spread(a.round, i);
    }
    return b;
}
// before the second sweep,
template <class T>
CSOFTMAX_INLINE void spread_anchor(const Row<T>& rows, int i, Order order, bool weighted, Row<T>& row) {
    start(row, order, weighted);
    row.max = spread(rows.max, i);
    row.again = spread(rows.again, i);
    row.anchor = spread(rows.anchor, i);
}
// before the third,
template <class T> CSOFTMAX_INLINE void spread_result(const Row<T>& rows, int i, Row<T>& row) {
    row.max = spread(rows.max, i);
    row.anchor = spread(rows.anchor, i);
    row.sum = spread(rows.sum, i);
    row.divisor = spread(rows.divisor, i);
    row.factor = spread(rows.factor, i);
    row.offset = spread(rows.offset, i);
    row.total = spread(rows.total, i);
    row.lack = spread(rows.lack, i);
    row.peak = spread(rows.peak, i);
}
// and into it: the maximum after the first sweep, the sums after the second.
template <class T> CSOFTMAX_INLINE void gather_maximum(Row<T>& rows, int i, const Row<T>& row) {
    set_lane(rows.max, i, lane(max_lanes(row.max), 0));
}
template <class T> CSOFTMAX_INLINE void gather(Exact<T>& sums, int i, const Exact<T>& sum) {
    set_lane(sums.value, i, lane(sum.value, 0));
    set_lane(sums.error, i, lane(sum.error, 0));
}
template <class T>
CSOFTMAX_INLINE void gather_sums(Row<T>& rows, int i, bool weighted, const Row<T>& row) {
    set_lane(rows.ties, i, lane(sum_lanes(row.ties), 0));
    gather(rows.sum, i, row.sum);
    if (weighted) {
        gather(rows.weight, i, row.weight);
        gather(rows.spread, i, row.spread);
    }
}

// What the term e adds to the sum below the peak, and to the ties.
template <class T> CSOFTMAX_INLINE Vec<T> below(Vec<T> e, Vec<T> peak) {
    return choose(e >= peak, broadcast(T(0)), e);
}
template <class T> CSOFTMAX_INLINE Vec<T> tie(Vec<T> e, Vec<T> peak) {
    return choose(e >= peak, broadcast(T(1)), broadcast(T(0)));
}

template <int COUNT, class T>
CSOFTMAX_INLINE void set_peaks_apart(Vec<T> (&some)[COUNT], Vec<T> peak, Vec<T>& ties) {
    for (int k = 0; k < COUNT; ++k) {
        ties = ties + tie(some[k], peak);
        some[k] = below(some[k], peak);
    }
}
// The same where most blocks have no peak.
template <class T>
CSOFTMAX_INLINE void set_rare_peaks_apart(Vec<T> (&some)[BLOCK], Vec<T> peak, Vec<T>& ties) {
    if (any(max(max(some[0], some[1]), max(some[2], some[3])) >= peak)) set_peaks_apart(some, peak, ties);
}

// One of two values, by whether the term e is `peak`.
template <class T>
CSOFTMAX_INLINE Vec<T> at_or_below_peak(Vec<T> e, Vec<T> at, Vec<T> below, Vec<T> peak) {
    return choose(equal(e, peak), at, below);
}
// The peak of the rows that have a maximum with a probability over 1/2; elsewhere NaN.
template <class T> CSOFTMAX_INLINE Vec<T> dominant_peak(const Row<T>& row, Vec<T> rest) {
    return choose(rest >= broadcast(T(1)), broadcast(std::numeric_limits<T>::quiet_NaN()),
                  row.anchor.peak.value);
}

// max - x, and 0 where the weight w is 0 though x may be -inf.
template <class T> CSOFTMAX_INLINE Vec<T> gap(Vec<T> w, Vec<T> x, Vec<T> max) {
    const Vec<T> zero = broadcast(T(0));
    return choose(equal(w, zero), zero, max - x);
}
// sum of w (log(sum(exp(x))) - x), the logarithm being max + log.
template <class T> CSOFTMAX_INLINE Vec<T> weighted_loss(const Row<T>& row, Exact<T> log) {
    const Exact<T>& weight = row.weight;
    Exact<T> product = multiply_exactly(weight, log);
    return rounded(add_any(row.spread, without_overflow(product)));
}

// a b, and 0 where a is 0 though b may be infinite or NaN.
template <class T> CSOFTMAX_INLINE Vec<T> nonzero_times(Vec<T> a, Vec<T> b) {
    const Vec<T> zero = broadcast(T(0));
    return choose(abs(a) <= zero, zero, a * b);
}
// One of two values, by whether x is a maximum with a probability over 1/2.
template <class T>
CSOFTMAX_INLINE Vec<T> at_dominant_maximum(Vec<T> x, const Row<T>& row, Vec<T> rest, Vec<T> at,
                                           Vec<T> below) {
    return choose(x >= row.max, choose(rest >= broadcast(T(1)), below, at), below);
}
// loss * scale, and 0 where the scale is 0 though the loss may be infinite.
template <class T> CSOFTMAX_INLINE Vec<T> scaled_loss(Vec<T> loss, Vec<T> scale) {
    const Vec<T> zero = broadcast(T(0));
    Vec<T> product = loss * scale;
    auto infinite = abs(loss) >= broadcast(INFINITE<T>);
    return choose(abs(scale) <= zero, choose(infinite, zero, product), product);
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
    Vec<T> ratio = Vec<T>{-x.v} / y;
    return choose(abs(x) <= zero, choose(abs(y) <= zero, zero, ratio), ratio);
}

// The sum of all terms, NaN where the maximum is not finite. What the rounding of the maximum's own
// term has lost counts even where that was summed with the others.
template <class T> CSOFTMAX_INLINE Exact<T> sum_of_terms(const Row<T>& row, bool apart) {
    Exact<T> sum = row.sum;
    if (apart) {
        Exact<T> peaks = two_product(row.ties, row.anchor.peak.value);
        sum = add_exactly(sum, peaks.value);
        sum.error = sum.error + (peaks.error + row.ties * row.anchor.peak.error);
    } else {
        sum.error = sum.error + row.anchor.peak.error;
    }
    sum.value = sum.value + row.anchor.finite;
    return sum;
}

// Puts the factor into the divisor of all terms, which saves a rounding; of one below 1 all but the power of
// two, with which the second word of the divisor could become subnormal: some processors take long for
// such numbers. A power above 1 must not stay behind, as it would multiply the rounding of a subnormal.
template <class T> CSOFTMAX_INLINE void fold_factor(Row<T>& row) {
    const Vec<T> size = abs(row.factor), one = broadcast(T(1));
    Vec<T> power, some = split_power(row.factor, power);
    const auto large = size >= one;
    some = choose(large, choose(size <= broadcast(T(0x1p+24)), row.factor, some), some);
    row.factor = choose(large, choose(size <= broadcast(T(0x1p+24)), one, power), power);
    row.divisor = divisor(sum_of_terms(row, true), some);
}

// Sum of exp(x - max) over all entries but one maximum.
template <class T> CSOFTMAX_INLINE Exact<T> rest(const Row<T>& row) {
    return add_exactly(divide_exactly(row.sum, row.anchor.peak),
                       row.ties - broadcast(T(1)));
}

}  // namespace csoftmax
