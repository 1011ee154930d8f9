// row_loops.hpp - the loops that find and add up terms of one contiguous row, along its registers.
//
// What a loop finds out stays a register, a number for each of its lanes; rows.hpp combines them. The
// order of a sum is that of summation.hpp.
#pragma once

#include "entropy.hpp"
#include "loss.hpp"
#include "operations.hpp"
#include "tile.hpp"

namespace csoftmax {

// A register of a row: all of it, or its first entries where the row ends.
struct Part {
    int count;   // 1 to LANES
    bool alone;  // there are not LANES entries up to the last one
};
template <class T> CSOFTMAX_INLINE Vec<T> load(const T* p, Full, T) { return load(p); }
template <class T> CSOFTMAX_INLINE Vec<T> load(const T* p, Part part, T fill) {
    return part.alone ? load_part(p, part.count, fill) : load_end(p, part.count, fill);
}
template <class T> CSOFTMAX_INLINE void store(T* p, Vec<T> a, Part part) {
    store_part(p, a, part.count);
}
template <class T> CSOFTMAX_INLINE Vec<T> part_of(Vec<T> a, Full) { return a; }
template <class T> CSOFTMAX_INLINE Vec<T> part_of(Vec<T> a, Part part) {
    return first_lanes(a, part.count);
}

constexpr std::size_t ALIGNED = 1024;  // bytes of a row from which on no register but its ends lies in two lines

// write(entry, what load(entry, register) gives for some registers, register) for a row of n entries.
// Where the row is no whole number of them, or is to be aligned, its ends reach over others; as out may be
// the operand, these are loaded first. Of a streamed row only whole lines go past the caches: a line that is
// written both ways takes long.
template <class T, class Load, class Write>
CSOFTMAX_INLINE void for_registers(const T* out, std::ptrdiff_t n, bool streamed, Load load_at,
                                   Write write) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, N = TOGETHER;
    using Loaded = decltype(load_at(0, Full{}));
    if (n < W) {
        const Part part{int(n), true};
        const Loaded some[1] = {load_at(0, part)};
        write(0, some, part);
        return;
    }
    const auto write_ends = [&](auto count) CSOFTMAX_INLINED {  // which overlap
        constexpr int COUNT = decltype(count)::value;
        Loaded some[COUNT], others[COUNT];
        for (int k = 0; k < COUNT; ++k) {
            some[k] = load_at(k * W, Full{});
            others[k] = load_at(n + (k - COUNT) * W, Full{});
        }
        write(0, some, Full{});
        write(n - COUNT * W, others, Full{});
    };
    if (n <= 2 * W) return write_ends(std::integral_constant<int, 1>{});
    if (n <= 4 * W) return write_ends(std::integral_constant<int, 2>{});
    const Loaded last[1] = {load_at(n - W, Full{})};
    std::ptrdiff_t j = 0;
    auto visit = [&](auto count, auto how) CSOFTMAX_INLINED {
        Loaded some[count.value];
        for (int k = 0; k < count.value; ++k) some[k] = load_at(j + k * W, Full{});
        write(j, some, how);
    };
    const std::integral_constant<int, N> several;
    const std::integral_constant<int, 1> one;
    if (streamed) {
        constexpr std::ptrdiff_t LINE = LINE_BYTES / sizeof(T);
        const auto visit_until = [&](std::ptrdiff_t end) CSOFTMAX_INLINED {
            for (; j + W <= end; j += W) visit(one, Full{});
            if (j == end) return;
            const Part part{int(end - j), j == 0};
            const Loaded some[1] = {load_at(j, part)};
            write(j, some, part);
            j = end;
        };
        visit_until(to_line(out));
        for (; j + N * W <= n; j += N * W) visit(several, Streamed{});
        for (; j + LINE <= n; j += LINE) visit(std::integral_constant<int, LINE / W>{}, Streamed{});
        visit_until(n);
        return;
    }
    const bool aligned = n * sizeof(T) >= ALIGNED;
    const Loaded first[1] = {load_at(0, Full{})};
    if (aligned) j = to_register(out);
    for (; j + N * W <= n; j += N * W) visit(several, Full{});
    for (; j + W <= n; j += W) visit(one, Full{});
    if (j < n) write(n - W, last, Full{});
    if (aligned) write(0, first, Full{});
}

// visit(first entry, number of registers as a type, the last register) for its blocks, or those of the `rest`
// of a row of LANES entries or more.
template <class T, class Visit>
CSOFTMAX_INLINE void for_blocks(const T*, std::ptrdiff_t n, Visit visit, bool rest = false) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    std::ptrdiff_t j = 0;
    for (; j + BLOCK * W <= n; j += BLOCK * W)
        visit(j, std::integral_constant<int, BLOCK>{}, Full{});
    if (j == n) return;
    const Part last{int((n - j - 1) % W + 1), !rest && n < W};
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

// `aligned`: of ALIGNED bytes or more
template <bool aligned, class T> CSOFTMAX_INLINE Vec<T> maximum_of_row(const T* x, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, N = TOGETHER;
    const T* last = x + n - W;
    const Part part{int(n % W), n < W};
    if (n >= W && n <= 2 * W) return max(load(x), load(last));
    if (n >= W && n <= 4 * W)
        return max(max(load(x), load(x + W)), max(load(last - W), load(last)));
    Vec<T> a[N];
    for (int k = 0; k < N; ++k) a[k] = broadcast(-INFINITE<T>);
    if (aligned) {
        a[0] = max(load(x), a[0]);
        n -= to_register(x);
        x += to_register(x);
    }
    for (; n >= N * W; n -= N * W, x += N * W)
        for (int k = 0; k < N; ++k) a[k] = max(load(x + k * W), a[k]);
    for (; n >= W; n -= W, x += W) a[0] = max(load(x), a[0]);
    if (n > 0) a[1] = max(part.alone ? load(x, part, -INFINITE<T>) : load(last), a[1]);
    return max(max(a[0], a[1]), max(a[2], a[3]));
}

// What is summed along a row, in two words for each lane.
template <class T> struct RowSums {
    Exact<T> sum, weight, spread;
    Vec<T> ties;
};

// What goes on beside the terms of rows: lines `ahead` bytes behind those of the operand are asked for, and those of
// other results go out.
struct Traffic {
    std::ptrdiff_t ahead;
    Outgoing* outgoing;  // or nullptr
};

// The terms of a block, which go to e, if that is wanted; nothing goes to `later` yet. `gaps`: spread += the
// terms times max - x_j. Calls meanwhile() halfway.
template <bool gaps, int COUNT, class T, class Last, class Meanwhile>
CSOFTMAX_INLINE void find_block_of_row(const T* x, T* e, const T* later, Last last, const Anchor<T>& anchor,
                                       Traffic traffic, Exact<T>& spread, Vec<T> (&some)[COUNT],
                                       Meanwhile meanwhile) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    const Anchor<T> anchors[1] = {anchor};
    send_registers<T, COUNT>(traffic.outgoing);
    for (std::size_t k = 0; k < COUNT * W; k += LINE_BYTES / sizeof(T)) {
        prefetch(x + k, traffic.ahead);
        if (later) prefetch_to_write(later + k);
    }
    Vec<T> entries[COUNT];
    load_block(x, last, -INFINITE<T>, entries);
    terms(entries, anchors, some, meanwhile);
    if (gaps) {
        Exact<T> s = exact(broadcast(T(0)));
        for (int k = 0; k < COUNT; ++k) add_gap(entries[k], some[k], anchor.max, s);
        spread = add_any(spread, s);
    }
    if (e) {
        for (int k = 0; k < COUNT - 1; ++k) store(e + k * W, some[k]);
        store(e + (COUNT - 1) * W, some[COUNT - 1], last);
    }
}

// The blocks of a row, or of the `rest` of one, are added to sums.sum, sums.spread and sums.ties.
template <bool apart, bool gaps, class T>
CSOFTMAX_INLINE void add_rest_of_row(const T* x, T* e, const T* later, std::ptrdiff_t n,
                                     bool rest, const Anchor<T>& anchor, Traffic traffic,
                                     RowSums<T>& sums) {
    const Vec<T> peak = anchor.peak.value;
    Exact<T> sum = sums.sum, spread = sums.spread;
    Vec<T> ties = sums.ties;
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
        constexpr int COUNT = decltype(count)::value;
        Vec<T> some[COUNT];
        find_block_of_row<gaps>(x + j, e ? e + j : nullptr, later ? later + j : nullptr, last, anchor,
                                traffic, spread, some, Nothing{});
        if (apart) set_peaks_apart(some, peak, ties);
        if constexpr (COUNT == BLOCK)
            sum = add_pairs(sum, some[0] + some[1], some[2] + some[3]);
        else if constexpr (COUNT == 3)
            sum = add_pairs(sum, some[0] + some[1], some[2]);
        else
            sum = add_exactly(sum, COUNT > 1 ? some[0] + some[COUNT - 1] : some[0]);
    }, rest);
    sums.sum = sum;
    sums.spread = spread;
    sums.ties = ties;
}

// sums.sum, spread <- those of the terms exp(x_j - max) * peak; `apart`: of those below the peak, whose ties are
// counted.
template <bool apart, bool gaps, class T>
CSOFTMAX_INLINE void add_terms_of_row(const T* x, T* e, const T* later, std::ptrdiff_t n,
                                      const Anchor<T>& anchor, Traffic traffic,
                                      RowSums<T>& sums) {
    constexpr std::ptrdiff_t STEP = BLOCK * Vec<T>::LANES;
    sums.sum = sums.spread = exact(broadcast(T(0)));
    sums.ties = broadcast(T(0));
    const bool several = n >= STEP;
    if (several) {
        Vec<T> some[BLOCK];
        find_block_of_row<gaps>(x, e, later, Full{}, anchor, traffic, sums.spread, some, Nothing{});
        if (apart) set_peaks_apart(some, anchor.peak.value, sums.ties);
        sums.sum = two_sum(some[0] + some[1], some[2] + some[3]);
        x += STEP;
        n -= STEP;
        if (e) e += STEP;
        if (later) later += STEP;
    }
    add_rest_of_row<apart, gaps>(x, e, later, n, several, anchor, traffic, sums);
}

constexpr int OVERLAPPED = 6;  // blocks of a row from which on it is done like this:

// The same with each block added up halfway through the terms of the next one, whose products take other units
// than sums do.
template <bool apart, bool gaps, class T>
CSOFTMAX_APART CSOFTMAX_IN_ORDER void add_terms_overlapped(const T* x, T* e, const T* later,
                                                           std::ptrdiff_t n, const Anchor<T>& anchor_of_row,
                                                           Traffic traffic, RowSums<T>& sums) {
    constexpr std::ptrdiff_t STEP = BLOCK * Vec<T>::LANES;
    const Anchor<T> anchor = anchor_of_row;
    const Vec<T> peak = anchor.peak.value;
    Vec<T> ties = broadcast(T(0)), some[BLOCK], first = ties, second = ties;
    Exact<T> sum = exact(ties), spread = sum;
    const auto add = [&]() CSOFTMAX_INLINED { sum = add_pairs(sum, first, second); };
    for (; n >= STEP; n -= STEP) {
        find_block_of_row<gaps>(x, e, later, Full{}, anchor, traffic, spread, some, add);
        if (apart) set_rare_peaks_apart(some, peak, ties);
        first = some[0] + some[1];
        second = some[2] + some[3];
        x += STEP;
        if (e) e += STEP;
        if (later) later += STEP;
    }
    add();
    sums = {sum, sums.weight, spread, ties};
    add_rest_of_row<apart, gaps>(x, e, later, n, true, anchor, traffic, sums);
}

// The sums of the terms of rows of n entries, a few whole blocks, which go to e. Each block is added up halfway through the
// terms of the next one, or of the next row: products take other units than sums do. The rows of x are x_bytes apart,
// those of e `step` entries; row i has lane i of the anchors.
template <class T>
CSOFTMAX_APART CSOFTMAX_IN_ORDER void add_blocks_of_rows(const T* x, std::ptrdiff_t x_bytes, T* e,
                                                         std::ptrdiff_t step, std::ptrdiff_t n, int lanes,
                                                         const Anchor<T>& anchors, Traffic traffic,
                                                         Exact<T>* __restrict sums) {
    constexpr std::ptrdiff_t STEP = BLOCK * Vec<T>::LANES;
    const Vec<T> zero = broadcast(T(0));
    Vec<T> some[BLOCK], first = zero, second = zero;
    Exact<T> sum = exact(zero), none = sum;
    CSOFTMAX_ASSUME(e != nullptr);
    for (int i = 0; i < lanes; ++i) {
        const Anchor<T> anchor = spread(anchors, i);
        const auto visit = [&](std::ptrdiff_t j, auto meanwhile) CSOFTMAX_INLINED {
            find_block_of_row<false>(x + j, e + j, static_cast<const T*>(nullptr), Full{}, anchor, traffic, none, some,
                                     meanwhile);
            first = some[0] + some[1];
            second = some[2] + some[3];
        };
        visit(0, [&]() CSOFTMAX_INLINED {  // the row before has ended
            sums[i > 0 ? i - 1 : 0] = add_pairs(sum, first, second);
            sum = exact(zero);
        });
        for (std::ptrdiff_t j = STEP; j < n; j += STEP)
            visit(j, [&]() CSOFTMAX_INLINED { sum = add_pairs(sum, first, second); });
        x = reinterpret_cast<const T*>(reinterpret_cast<const char*>(x) + x_bytes);
        e += step;
    }
    sums[lanes - 1] = add_pairs(sum, first, second);
}

// The same for the last n entries, COUNT registers, of a few rows side by side: a single sum of two.
template <bool apart, int COUNT, int ROWS, class T, class X, class Out>
CSOFTMAX_INLINE void add_ends_of_some_rows(X x, Out e, int first, std::ptrdiff_t n, bool alone,
                                           const Row<T>& rows, Traffic traffic, Vec<T>* sums,
                                           Single<T>* ties) {
    constexpr int W = Vec<T>::LANES, N = COUNT * ROWS;
    static_assert(COUNT <= 2, "a sum of one word");
    const Part last{int(n - (COUNT - 1) * W), alone};
    Anchor<T> anchors[ROWS];
    Vec<T> some[N];
    send_registers<T, N>(traffic.outgoing);
    for (int r = 0; r < ROWS; ++r) anchors[r] = spread(rows.anchor, first + r);
    for (int i = 0; i < N; ++i) {
        const T* from = x(first + i % ROWS) + i / ROWS * W;
        prefetch(from, traffic.ahead);
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
CSOFTMAX_INLINE void add_ends_of_rows(X x, Out e, int lanes, std::ptrdiff_t n, bool alone,
                                      const Row<T>& rows, Traffic traffic, Vec<T>* sums, Single<T>* ties) {
    constexpr int ROWS = TOGETHER / COUNT;
    int i = 0;
    for (; i + ROWS <= lanes; i += ROWS)
        add_ends_of_some_rows<apart, COUNT, ROWS>(x, e, i, n, alone, rows, traffic, sums, ties);
    for (; ROWS > 1 && i < lanes; ++i)
        add_ends_of_some_rows<apart, COUNT, 1>(x, e, i, n, alone, rows, traffic, sums, ties);
}

// sum(visit_block) over the blocks of a row.
template <class T, class Block>
CSOFTMAX_INLINE Exact<T> sum_of_blocks(const T* x, std::ptrdiff_t n, Block block) {
    Exact<T> sum = exact(broadcast(T(0)));
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
        sum = add_exactly(sum, block(j, count, last));
    });
    return end_sum(sum);
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
    for_blocks(x, n, [&](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
        Vec<T> some[decltype(count)::value];
        load_block(x + j, last, -INFINITE<T>, some);
        add_exact_block(some, max, sum);
    });
    return sum;
}

}  // namespace csoftmax
