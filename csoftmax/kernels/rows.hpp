// rows.hpp - the sweeps over contiguous rows, each along its registers.
//
// A group is up to LANES rows of x (lanes, n), or a chunk of a long one. What a row's registers hold
// stays one register until the lanes of all rows are combined together: entry i of a Row is then
// that of row i. The order of a sum is that of summation.hpp.
#pragma once

#include "entropy.hpp"
#include "loops.hpp"
#include "operations.hpp"
#include "tile.hpp"

namespace csoftmax {

// A register of a row: all of it, or its first entries where the row ends.
struct Full {};
struct Part {
    int count;  // 1 to LANES
};
struct Streamed {};  // past the caches
template <class T> CSOFTMAX_INLINE Vec<T> load(const T* p, Full, T) { return load(p); }
template <class T> CSOFTMAX_INLINE Vec<T> load(const T* p, Part part, T fill) {
    return load_part(p, part.count, fill);
}
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a, Full) { store(p, a); }
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a, Streamed) { stream(p, a); }
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a, Part part) {
    store_part(p, a, part.count);
}
template <class T> CSOFTMAX_INLINE Vec<T> part_of(Vec<T> a, Full) { return a; }
template <class T> CSOFTMAX_INLINE Vec<T> part_of(Vec<T> a, Part part) {
    return first_lanes(a, part.count);
}

// write(entry, what load(entry, register) gives, register) for the registers of a row of n entries.
// Where the row is no whole number of them the last one reaches back; as out may be the operand, that
// is loaded first. A streamed row must not be one: it begins with a register that the next overlaps.
template <class T, class Load, class Write>
CSOFTMAX_INLINE void for_registers(const T* out, std::ptrdiff_t n, bool streamed, Load load_at,
                                   Write write) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, N = TOGETHER;
    if (n < W) {
        const Part part{int(n)};
        write(0, load_at(0, part), part);
        return;
    }
    const auto last = load_at(n - W, Full{});
    std::ptrdiff_t j = 0;
    if (streamed) {
        write(0, load_at(0, Full{}), Full{});
        for (j = to_alignment(out); j + N * W <= n; j += N * W)
            for (int k = 0; k < N; ++k) write(j + k * W, load_at(j + k * W, Full{}), Streamed{});
    } else {
        for (; j + N * W <= n; j += N * W)
            for (int k = 0; k < N; ++k) write(j + k * W, load_at(j + k * W, Full{}), Full{});
    }
    for (; j + W <= n; j += W) write(j, load_at(j, Full{}), Full{});
    if (j < n) write(n - W, last, Full{});
}
// visit(first entry, number of registers as a type, the last register) for its blocks.
template <class T, class Visit>
CSOFTMAX_INLINE void for_blocks(const T*, std::ptrdiff_t n, Visit visit) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    std::ptrdiff_t j = 0;
    for (; j + BLOCK * W <= n; j += BLOCK * W)
        visit(j, std::integral_constant<int, BLOCK>{}, Full{});
    if (j == n) return;
    const Part last{int((n - j - 1) % W + 1)};
    static_assert(BLOCK == 4, "the last block");
    switch ((n - j - 1) / W) {
        case 0: visit(j, std::integral_constant<int, 1>{}, last); break;
        case 1: visit(j, std::integral_constant<int, 2>{}, last); break;
        case 2: visit(j, std::integral_constant<int, 3>{}, last); break;
        default: visit(j, std::integral_constant<int, 4>{}, last);
    }
}
template <class T, int COUNT, class Last>
CSOFTMAX_INLINE void load_block(const T* x, Last last, T fill, Vec<T> (&some)[COUNT]) {
    for (int k = 0; k < COUNT - 1; ++k) some[k] = load(x + k * Vec<T>::LANES);
    some[COUNT - 1] = load(x + (COUNT - 1) * Vec<T>::LANES, last, fill);
}

template <class T> CSOFTMAX_INLINE Vec<T> maximum_of_row(const T* x, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, N = TOGETHER;
    Vec<T> a[N];
    for (int k = 0; k < N; ++k) a[k] = broadcast(-INFINITE<T>);
    for (; n >= N * W; n -= N * W, x += N * W)
        for (int k = 0; k < N; ++k) a[k] = max(load(x + k * W), a[k]);
    for (; n >= W; n -= W, x += W) a[0] = max(load(x), a[0]);
    if (n > 0) a[1] = max(load_part(x, int(n), -INFINITE<T>), a[1]);
    return max(max(a[0], a[1]), max(a[2], a[3]));
}

// What is summed along a row, in two words for each lane.
template <class T> struct RowSums {
    Exact<T> sum, weight, spread;
    Vec<T> ties;
};

// sum += exp(x_j - max) * peak; `apart`: of those below the peak, whose ties are counted. The terms go
// to e, if that is wanted. `gaps`: spread += the terms times max - x_j.
template <bool apart, bool gaps, class T>
CSOFTMAX_INLINE void add_terms_of_row(const T* x, T* e, std::ptrdiff_t n, const Anchor<T>& anchor,
                                      std::ptrdiff_t ahead, RowSums<T>& sums) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    const Anchor<T> anchors[1] = {anchor};
    const Vec<T> peak = anchor.peak.value;
    Exact<T> sum = exact(broadcast(T(0))), spread = sum;
    Vec<T> ties = broadcast(T(0));
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) {
        constexpr int COUNT = decltype(count)::value;
        for (std::size_t k = 0; k < COUNT * W * sizeof(T); k += 64) prefetch(x + j, ahead + k);
        Vec<T> entries[COUNT], some[COUNT], four[BLOCK];
        load_block(x + j, last, -INFINITE<T>, entries);
        terms(entries, anchors, some);
        if (gaps) {
            Exact<T> s = exact(broadcast(T(0)));
            for (int k = 0; k < COUNT; ++k) add_gap(entries[k], some[k], anchor.max, s);
            spread = add_any(spread, s);
        }
        if (e) {
            for (int k = 0; k < COUNT - 1; ++k) store(e + j + k * W, some[k]);
            store(e + j + (COUNT - 1) * W, some[COUNT - 1], last);
        }
        for (int k = 0; k < BLOCK; ++k) four[k] = k < COUNT ? some[k] : broadcast(T(0));
        for (int k = 0; k < COUNT && apart; ++k) {
            ties = ties + tie(four[k], peak);
            four[k] = below(four[k], peak);
        }
        sum = add_pairs(sum, four[0] + four[1], four[2] + four[3]);
    });
    sums.sum = sum;
    sums.spread = spread;
    sums.ties = ties;
}

// The same for a few rows of COUNT registers side by side: a single sum of two.
template <bool apart, int COUNT, int ROWS, class T, class X, class Out>
CSOFTMAX_INLINE void add_terms_of_rows(X x, Out e, int first, std::ptrdiff_t n, const Row<T>& rows,
                                       Vec<T>* sums, Single<T>* ties) {
    constexpr int W = Vec<T>::LANES, N = COUNT * ROWS;
    static_assert(COUNT <= 2, "a sum of one word");
    const Part last{int(n - (COUNT - 1) * W)};
    Anchor<T> anchors[ROWS];
    Vec<T> some[N];
    for (int r = 0; r < ROWS; ++r) anchors[r] = spread(rows.anchor, first + r);
    for (int i = 0; i < N; ++i) {
        const T* from = x(first + i % ROWS) + i / ROWS * W;
        some[i] = i / ROWS + 1 < COUNT ? load(from) : load(from, last, -INFINITE<T>);
    }
    terms(some, anchors, some);
    for (int i = 0; i < N && e(first); ++i) {
        T* to = e(first + i % ROWS) + i / ROWS * W;
        if (i / ROWS + 1 < COUNT)
            store(to, some[i]);
        else
            store(to, some[i], last);
    }
    for (int r = 0; r < ROWS; ++r) {
        Vec<T> sum = broadcast(T(0)), count = sum;
        for (int k = 0; k < COUNT; ++k) {
            Vec<T> e_k = some[k * ROWS + r];
            if (apart) {
                count = count + tie(e_k, anchors[r].peak.value);
                e_k = below(e_k, anchors[r].peak.value);
            }
            sum = k == 0 ? e_k : sum + e_k;
        }
        sums[first + r] = sum;
        ties[first + r] = {count};
    }
}
template <bool apart, int COUNT, class T, class X, class Out>
CSOFTMAX_INLINE void add_terms_of_short_rows(X x, Out e, int lanes, std::ptrdiff_t n,
                                             const Row<T>& rows, Vec<T>* sums, Single<T>* ties) {
    constexpr int ROWS = TOGETHER / COUNT;
    int i = 0;
    for (; i + ROWS <= lanes; i += ROWS)
        add_terms_of_rows<apart, COUNT, ROWS>(x, e, i, n, rows, sums, ties);
    for (; ROWS > 1 && i < lanes; ++i)
        add_terms_of_rows<apart, COUNT, 1>(x, e, i, n, rows, sums, ties);
}

// sum(visit_block) over the blocks of a row.
template <class T, class Block>
CSOFTMAX_INLINE Exact<T> sum_of_blocks(const T* x, std::ptrdiff_t n, Block block) {
    Exact<T> sum = exact(broadcast(T(0)));
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) {
        sum = add_any(sum, exact(block(j, count, last)));
    });
    return sum;
}
// A block of y_j * grad_j, and of grad_j,
template <class T, class Count, class Last>
CSOFTMAX_INLINE Vec<T> block_of_products(const T* y, const T* grad, Count, Last last) {
    Vec<T> a[Count::value], b[Count::value], s[2] = {broadcast(T(0)), broadcast(T(0))};
    load_block(y, last, T(0), a);
    load_block(grad, last, T(0), b);
    for (int k = 0; k < Count::value; ++k) s[k % 2] = fma(a[k], b[k], s[k % 2]);
    return s[0] + s[1];
}
template <class T, class Count, class Last>
CSOFTMAX_INLINE Vec<T> block_of_entries(const T* grad, Count, Last last) {
    Vec<T> a[Count::value], s[2] = {broadcast(T(0)), broadcast(T(0))};
    load_block(grad, last, T(0), a);
    for (int k = 0; k < Count::value; ++k) s[k % 2] = s[k % 2] + a[k];
    return s[0] + s[1];
}

// sum += exp(x_j) in two words
template <class T>
CSOFTMAX_INLINE Exact<T> exact_terms_of_row(const T* x, std::ptrdiff_t n, Vec<T> max) {
    Exact<T> sum = exact(broadcast(T(0)));
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) {
        Vec<T> some[decltype(count)::value];
        load_block(x + j, last, -INFINITE<T>, some);
        add_exact_block(some, max, sum);
    });
    return sum;
}

// Weights of the classes in the loss of a row, w_j = c_j (scale t_j + offset) (cross_entropy.pxi).
template <class T> struct WeightsOfRow {
    const T* t;      // nullptr: 0
    const T* c;
    bool one_weight;  // for all classes
    T scale, offset;

    template <class Register>
    CSOFTMAX_INLINE Vec<T> at(std::ptrdiff_t j, Register part) const {
        Vec<T> target = t ? load(t + j, part, T(0)) : broadcast(T(0));
        Vec<T> weight = one_weight ? broadcast(*c) : load(c + j, part, T(0));
        return part_of(weight * (broadcast(scale) * target + broadcast(offset)), part);
    }
};
template <class T>
CSOFTMAX_INLINE WeightsOfRow<T> weights_of_row(const T*, const Problem& p, std::ptrdiff_t lane,
                                               std::ptrdiff_t j0) {
    const long double smoothing = p.smoothing;
    const bool one_weight = p.class_weight.class_stride == 0;
    const T* t = nullptr;
    if (!p.label) t = reinterpret_cast<const T*>(p.y.data + lane * p.y.lane_stride) + j0;
    return {t, reinterpret_cast<const T*>(p.class_weight.data) + (one_weight ? 0 : j0), one_weight,
            T(1 - smoothing), T(smoothing / p.n)};
}
// weight += w_j; spread += w_j (max - x_j)
template <class T>
CSOFTMAX_INLINE void add_weights_of_row(const T* x, std::ptrdiff_t n, const WeightsOfRow<T>& w,
                                        const Anchor<T>& anchor, RowSums<T>& sums) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    Exact<T> weight = exact(broadcast(T(0))), spread = weight;
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) {
        constexpr int COUNT = decltype(count)::value;
        Vec<T> s = broadcast(T(0)), t = s, some[COUNT];
        load_block(x + j, last, -INFINITE<T>, some);
        for (int k = 0; k < COUNT; ++k) {
            Vec<T> w_j = k + 1 < COUNT ? w.at(j + k * W, Full{}) : w.at(j + k * W, last);
            s = s + w_j;
            t = fma(w_j, gap(w_j, some[k], anchor), t);
        }
        weight = add_any(weight, exact(s));
        spread = add_any(spread, exact(t));
    });
    sums.weight = weight;
    sums.spread = spread;
}

// The writing sweep of one row, `i` among the rows: what it is divided by and so on is in lane i.
template <Operation operation, class T>
CSOFTMAX_INLINE void write_row(const T* x, const T* y, T* out, std::ptrdiff_t n, bool streamed,
                               const Row<T>& rows, int i, const WeightsOfRow<T>& w) {
    const Divisor<T> divisor = spread(rows.divisor, i);
    const Vec<T> factor = spread(rows.factor, i), offset = spread(rows.offset, i);
    const Vec<T> maximum = spread(rows.max, i), total = spread(rows.total, i);
    const Vec<T> lack = spread(rows.lack, i), peak = spread(rows.peak, i);
    const Exact<T> sum = spread(rows.sum.total, i);
    struct Two {
        Vec<T> x, y;
    };
    for_registers(
        out, n, (operation == LOG_SOFTMAX || operation >= SOFTMAX_VJP) && streamed,
        [&](std::ptrdiff_t j, auto part) {
            Two a = {load(x + j, part, T(0)), broadcast(T(0))};
            if (operation >= SOFTMAX_VJP) a.y = load(y + j, part, T(0));
            if (operation == WEIGHTS) a.y = w.at(j, part);
            return a;
        },
        [&](std::ptrdiff_t j, Two a, auto part) {
            Vec<T> result;
            if (operation == SOFTMAX)
                result = divide(a.x, divisor);
            else if (operation == LOG_SOFTMAX)
                result = (a.x - maximum) - offset;
            else if (operation == SOFTMAX_VJP)
                result = a.x * ((a.y - sum.error) - sum.value);
            else if (operation == LOG_SOFTMAX_VJP)
                result = fma(exp(a.x), broadcast(T(0)) - factor, a.y);
            else {
                result = divide(a.x, divisor) * factor;
                if (operation == WEIGHTS)
                    result = at_or_below_peak(a.x, (total - a.y) * offset - lack,
                                              result - a.y * offset, peak);
            }
            store(out + j, result, part);
        });
}

// Whether sweep_rows can take the operation, all operands holding neighbouring classes side by side.
template <class T>
CSOFTMAX_INLINE bool sweeps_rows(const T*, Operation operation, const Problem& p) {
    if (p.n == 0 || Vec<T>::LANES == 1) return false;
    if (operation == CROSS_ENTROPY && has_weights(p))
        return (p.label || plain(p.y, p.y.class_stride, sizeof(T))) &&
               (p.class_weight.class_stride == 0 || p.class_weight.class_stride == sizeof(T));
    return operation != CCE && operation != CCE_GRADIENT;
}

// One sweep over the classes j0 <= j < j1, at most a chunk, of the rows lane <= i < lane + lanes, at
// most LANES of them: all of each, or of a single row.
template <Operation operation, bool weighted, class T>
CSOFTMAX_APART void sweep_some_rows(Sweep sweep, const Problem& p, std::ptrdiff_t lane,
                                    std::ptrdiff_t lanes, std::ptrdiff_t j0, std::ptrdiff_t j1,
                                    Row<T>& rows) {
    constexpr int W = Vec<T>::LANES;
    constexpr bool pair = operation >= SOFTMAX_VJP, apart = operation != SOFTMAX;
    constexpr bool gaps = operation == ENTROPY;
    constexpr bool keeps = operation == SOFTMAX || operation == CROSS_ENTROPY;
    const std::ptrdiff_t n = j1 - j0;
    auto x = [&](int i) {
        return reinterpret_cast<const T*>(p.x.data + (lane + i) * p.x.lane_stride) + j0;
    };
    auto y = [&](int i) {
        return pair ? reinterpret_cast<const T*>(p.y.data + (lane + i) * p.y.lane_stride) + j0
                    : nullptr;
    };
    auto out = [&](int i) {
        return p.out.data ? reinterpret_cast<T*>(p.out.data + (lane + i) * p.out.lane_stride) + j0
                          : nullptr;
    };
    auto larger = [](Single<T> a, Single<T> b) { return Single<T>{max(a.v, b.v)}; };
    auto sum_of = [](Single<T> a, Single<T> b) { return Single<T>{a.v + b.v}; };
    CSOFTMAX_ASSUME(lanes > 0);
    const Vec<T> zero = broadcast(T(0));
    if (sweep == MAXIMUM) {
        Single<T> maxima[W];
        for (int i = 0; i < lanes; ++i) maxima[i] = {maximum_of_row(x(i), n)};
        rows.max = max(rows.max, across_rows(maxima, int(lanes), larger).v);
    } else if (sweep == ADD_UP) {
        Exact<T> sum[W], weight[W], spreads[W];
        Vec<T> one_word[W];
        Single<T> ties[W];
        auto e = [&](int i) { return keeps ? out(i) : nullptr; };
        auto block_at = [&](int i) {
            return [&, i](std::ptrdiff_t j, auto count, auto last) {
                return operation == SOFTMAX_VJP
                           ? block_of_products(x(i) + j, y(i) + j, count, last)
                           : block_of_entries(y(i) + j, count, last);
            };
        };
        const bool whole = p.n <= CHUNK;  // else a chunk of a single row
        const bool short_rows =
            whole && operation != LOGSUMEXP_AGAIN && !gaps && n <= (pair ? BLOCK : 2) * W;
        for (int i = 0; i < lanes && weighted; ++i) {
            RowSums<T> sums;
            add_weights_of_row(x(i), n, weights_of_row(x(i), p, lane + i, j0),
                               spread(rows.anchor, i), sums);
            weight[i] = sums.weight;
            spreads[i] = sums.spread;
        }
        if constexpr (pair) {
            if (short_rows)
                for (int i = 0; i < lanes; ++i)
                    for_blocks(x(i), n, [&](std::ptrdiff_t j, auto count, auto last) {
                        one_word[i] = block_at(i)(j, count, last);
                    });
            else
                for (int i = 0; i < lanes; ++i) sum[i] = sum_of_blocks(x(i), n, block_at(i));
        } else if (operation == LOGSUMEXP_AGAIN) {
            for (int i = 0; i < lanes; ++i)
                sum[i] = csoftmax::lane(rows.again, i) > 0
                             ? exact_terms_of_row(x(i), n, spread(rows.max, i))
                             : exact(zero);
        } else if (short_rows && n <= W) {
            add_terms_of_short_rows<apart, 1>(x, e, int(lanes), n, rows, one_word, ties);
        } else if (short_rows) {
            add_terms_of_short_rows<apart, 2>(x, e, int(lanes), n, rows, one_word, ties);
        } else {
            for (int i = 0; i < lanes; ++i) {
                RowSums<T> sums;
                add_terms_of_row<apart, gaps>(x(i), e(i), n, spread(rows.anchor, i), p.ahead, sums);
                sum[i] = sums.sum;
                if (gaps) spreads[i] = sums.spread;
                ties[i] = {sums.ties};
            }
        }
        auto add_to = [&](LaneSum<T>& all, Exact<T>(&lane_sums)[W]) {
            const Exact<T> s = across_rows(lane_sums, int(lanes), add_any<T>);
            all.total = whole ? s : add_any(all.total, s);
        };
        if (short_rows)
            rows.sum.total = sum_across_rows(one_word, int(lanes));
        else
            add_to(rows.sum, sum);
        if (weighted) add_to(rows.weight, weight);
        if (weighted || gaps) add_to(rows.spread, spreads);
        if (!pair && apart && operation != LOGSUMEXP_AGAIN) {
            const Vec<T> t = across_rows(ties, int(lanes), sum_of).v;
            rows.ties = whole ? t : rows.ties + first_lanes(t, 1);
        }
    } else {
        for (int i = 0; i < lanes; ++i)
            write_row<weighted ? WEIGHTS : operation>(keeps ? out(i) : x(i), y(i), out(i), n,
                                                      p.streamed, rows, i,
                                                      weights_of_row(x(i), p, lane + i, j0));
        if (p.streamed) end_stream();
    }
}
template <class T>
CSOFTMAX_INLINE void sweep_rows(Operation operation, Sweep sweep, const Problem& p,
                                std::ptrdiff_t lane, std::ptrdiff_t lanes, std::ptrdiff_t j0,
                                std::ptrdiff_t j1, Row<T>& rows) {
    if (Vec<T>::LANES == 1) return;  // never asked: there are no registers to lie along
    if (operation == SOFTMAX)
        sweep_some_rows<SOFTMAX, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (operation == LOG_SOFTMAX)
        sweep_some_rows<LOG_SOFTMAX, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (operation == LOGSUMEXP || operation == TOPK)
        sweep_some_rows<LOGSUMEXP, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (operation == LOGSUMEXP_AGAIN)
        sweep_some_rows<LOGSUMEXP_AGAIN, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (operation == ENTROPY)
        sweep_some_rows<ENTROPY, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (operation == SOFTMAX_VJP)
        sweep_some_rows<SOFTMAX_VJP, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (operation == LOG_SOFTMAX_VJP)
        sweep_some_rows<LOG_SOFTMAX_VJP, false>(sweep, p, lane, lanes, j0, j1, rows);
    else if (has_weights(p))
        sweep_some_rows<CROSS_ENTROPY, true>(sweep, p, lane, lanes, j0, j1, rows);
    else
        sweep_some_rows<CROSS_ENTROPY, false>(sweep, p, lane, lanes, j0, j1, rows);
}

// factor <- logsumexp of the rows that need a second sum, of up to FEW classes. They are gathered LANES
// at a time: among few classes some do in nearly every register.
template <class T>
CSOFTMAX_APART void sum_some_again(const Problem& p, std::ptrdiff_t first, std::ptrdiff_t lanes,
                                   Row<T>* rows) {
    constexpr int W = Vec<T>::LANES;
    const Order order = order_of(static_cast<const T*>(nullptr), false, p.n);
    const View& x = p.x;
    const bool simple = !x.half && !x.mask && !x.run && x.temperature == 1;
    int found[MAX_LANES + 1], count = 0;
    for (int k = 0; k < lanes; ++k) {  // without branches, none could be foreseen
        found[count] = k;
        count += lane(rows[k / W].again, k % W) > 0;
    }
    for (int done = 0; done < count; done += W) {
        const int now = count - done < W ? count - done : W;
        T row[FEW + W], tile[FEW * W];
        Row<T> some;
        Vec<T> usual = broadcast(T(0));
        start(some, order, false);
        some.again = broadcast(T(1));
        for (int i = 0; i < W; ++i) {
            const int k = found[done + (i < now ? i : 0)];  // lanes beyond: once more the first
            const Row<T>& from = rows[k / W];
            set_lane(some.max, i, lane(from.max, k % W));
            set_lane(usual, i, lane(from.factor, k % W));
            if (!simple) load_tile(row, x, first + k, 1, 0, p.n, 1, -INFINITE<T>);
            for (std::ptrdiff_t j = 0; j < p.n; ++j)
                tile[j * W + i] = !simple ? row[j]
                                          : read<T>(x.data + (first + k) * x.lane_stride +
                                                        j * x.class_stride, false);
        }
        add_exact_terms(tile, W, p.n, &some, some.sum.lanes);
        end_chunk(some.sum, order);
        const Vec<T> result = logsumexp_again(some, usual);
        for (int i = 0; i < now; ++i)
            set_lane(rows[found[done + i] / W].factor, found[done + i] % W, lane(result, i));
    }
}

}  // namespace csoftmax
