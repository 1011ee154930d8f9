// rows.hpp - the sweeps over contiguous rows, each along its registers.
//
// A call sweeps up to LANES rows of x (lanes, n), or a chunk of a long one. What the loops find out stays
// one register a row until the lanes of all rows are combined together: entry i of a Row is then that
// of row i.
#pragma once

#include "row_results.hpp"

namespace csoftmax {

// Whether sweep_rows can take the operation, all operands holding neighbouring classes side by side.
template <class T>
CSOFTMAX_INLINE bool sweeps_rows(const T*, Operation operation, const Problem& p) {
    if (p.n == 0 || Vec<T>::LANES == 1) return false;
    if (operation == CROSS_ENTROPY && has_weights(p))
        return (p.label || plain(p.y, p.y.class_stride, sizeof(T))) &&
               (p.class_weight.class_stride == 0 || p.class_weight.class_stride == sizeof(T));
    return operation != CCE && operation != CCE_GRADIENT;
}

constexpr std::size_t FETCHED_PAIR = 4096;  // bytes of rows of a pair whose next ones are asked for
constexpr std::size_t FETCHED_TERMS = 2048;  // bytes ahead of terms that stay in the result

// The first sweep over these classes of a register of rows (see sweep_some_rows), the same for all operations:
// the maximum.
template <class T>
CSOFTMAX_INLINE void find_some_maxima(const Problem& p, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                                      std::ptrdiff_t j0, std::ptrdiff_t j1, Row<T>& rows) {
    const std::ptrdiff_t n = j1 - j0;
    auto x = [&](std::ptrdiff_t i) {
        return reinterpret_cast<const T*>(p.x.data + (lane + i) * p.x.lane_stride) + j0;
    };
    auto larger = [](Single<T> a, Single<T> b) { return Single<T>{max(a.v, b.v)}; };
    CSOFTMAX_ASSUME(lanes > 0);
    Single<T> maxima[Vec<T>::LANES];
    if (n * sizeof(T) >= ALIGNED)
        for (int i = 0; i < lanes; ++i) maxima[i] = {maximum_of_row<true>(x(i), n)};
    else
        for (int i = 0; i < lanes; ++i) maxima[i] = {maximum_of_row<false>(x(i), n)};
    rows.max = max(rows.max, across_rows<PIECE<T>>(maxima, int(lanes), larger).v);
}
template <class T>
CSOFTMAX_APART void find_maxima_of_rows(const Problem& p, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                                        std::ptrdiff_t j0, std::ptrdiff_t j1, Row<T>* rows) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    for (std::ptrdiff_t i = 0; i < lanes; i += W)
        find_some_maxima(p, lane + i, std::min(W, lanes - i), j0, j1, rows[i / W]);
}

// The terms of these rows, at most LANES of them, and their sums; of `short_rows` in one word. Terms go to `terms`, and
// lines from `later` on, or `sooner` in rows of some blocks, are asked for: those of the first row, or nullptr.
template <bool apart, bool gaps, bool keeps, class T>
CSOFTMAX_INLINE void add_terms_of_rows(const Problem& p, std::ptrdiff_t lane, int lanes, std::ptrdiff_t j0,
                                       std::ptrdiff_t n, bool short_rows, T* terms, const T* first_later,
                                       const T* first_sooner, const Row<T>& rows, Traffic traffic,
                                       Exact<T>* __restrict sum, Vec<T>* __restrict one_word,
                                       Exact<T>* __restrict spreads, Single<T>* __restrict ties) {
    constexpr int W = Vec<T>::LANES;
    const std::ptrdiff_t row = p.out.lane_stride / std::ptrdiff_t(sizeof(T));
    const auto x = [&](int i) {
        return reinterpret_cast<const T*>(p.x.data + (lane + i) * p.x.lane_stride) + j0;
    };
    const auto e = [&](int i) { return keeps && terms ? terms + i * row : nullptr; };
    const auto later = [&](int i) { return first_later ? first_later + i * row : nullptr; };
    const auto sooner = [&](int i) { return first_sooner ? first_sooner + i * row : nullptr; };
    Single<T> end_ties[W];
    CSOFTMAX_ASSUME(lanes > 0);
    // Short rows, and what is left of others behind their whole blocks, go side by side.
    const std::ptrdiff_t rest = n % (BLOCK * W);
    const bool ends = !short_rows && !gaps && lanes > 1 && 0 < rest && rest <= W;
    const std::ptrdiff_t before = short_rows ? 0 : ends ? n - rest : n;
    const auto add_rows = [&](auto add, auto asked_for) CSOFTMAX_INLINED {
        for (int i = 0; i < lanes; ++i) {
            RowSums<T> sums;
            add(x(i), e(i), asked_for(i), before, spread(rows.anchor, i), traffic, sums);
            sum[i] = sums.sum;
            if (gaps) spreads[i] = sums.spread;
            ties[i] = {sums.ties};
        }
    };
    if (n >= OVERLAPPED * BLOCK * W)
        add_rows([](auto&&... of_row) CSOFTMAX_INLINED { add_terms_overlapped<apart, gaps>(of_row...); }, sooner);
    // Slower where ties are counted beside; not measured in registers of a line.
    else if (!apart && terms && sizeof(Vec<T>) < LINE_BYTES && n >= BLOCK * W && (rest == 0 || ends))
        add_blocks_of_rows(x(0), p.x.lane_stride, e(0), row, n - rest, lanes, rows.anchor, traffic, sum);
    else if (!short_rows)
        add_rows([](auto&&... of_row) CSOFTMAX_INLINED { add_terms_of_row<apart, gaps>(of_row...); }, later);
    if (short_rows || ends) {
        auto x_end = [&](int i) { return x(i) + before; };
        auto e_end = [&](int i) { return e(i) ? e(i) + before : nullptr; };
        if (n - before <= W)
            add_ends_of_rows<apart, 1>(x_end, e_end, lanes, n - before, n < W, rows,
                                       traffic, one_word, short_rows ? ties : end_ties);
        else
            add_ends_of_rows<apart, 2>(x_end, e_end, lanes, n - before, n < W, rows,
                                       traffic, one_word, short_rows ? ties : end_ties);
    }
    for (int i = 0; i < lanes && ends; ++i) {
        if (later(i)) prefetch_to_write(later(i) + n - 1);
        sum[i] = add_exactly(sum[i], one_word[i]);
        ties[i] = {ties[i].v + end_ties[i].v};
    }
}

// One of the others over the classes j0 <= j < j1, at most a chunk, of the rows lane <= i < lane + lanes, at
// most LANES of them: all of each, or of a single row. `terms`: where those of the first row stay from when they
// are added up to when results are written, if the operation has use for them; in the result, or aside for
// a single row. There they are 2^powers times what they are now measured against. nullptr: they do not stay.
template <Operation operation, Weighing weighing, class T>
CSOFTMAX_INLINE void sweep_register_of_rows(Sweep sweep, const Problem& p, std::ptrdiff_t lane,
                                            std::ptrdiff_t lanes, std::ptrdiff_t j0, std::ptrdiff_t j1,
                                            T* terms, int powers, Row<T>& rows) {
    constexpr int W = Vec<T>::LANES;
    constexpr bool pair = operation >= SOFTMAX_VJP, apart = operation != SOFTMAX;
    constexpr bool gaps = operation == ENTROPY, weighted = weighing != UNWEIGHTED;
    constexpr bool keeps = operation == SOFTMAX || operation == CROSS_ENTROPY;
    const bool kept = keeps && terms;
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
    auto weights = [&](int i) {
        return weighted ? weights_of_row(x(i), p, lane + i, j0) : WeightsOfRow<T>{};
    };
    const int last = int(lanes) - 1;
    const std::ptrdiff_t ahead = ahead_of(p.x, x(last) + n, p.ahead);
    constexpr bool sends = keeps || operation == LOG_SOFTMAX;
    const Traffic traffic = {ahead, sends ? p.outgoing : nullptr};
    const std::ptrdiff_t out_ahead = p.out_ahead == 0 ? 0 : ahead_of(p.out, out(last) + n, p.out_ahead);
    CSOFTMAX_ASSUME(lanes > 0);
    const Vec<T> zero = broadcast(T(0));
    if (sweep == ADD_UP) {
        Exact<T> sum[W], weight[W], spreads[W];
        Vec<T> one_word[W];
        one_word[0] = zero;  // GCC does not see that there is a row
        Single<T> ties[W];
        // Lines of the result that are asked for, as they are soon to be written.
        const T* later = operation == LOG_SOFTMAX && !p.streamed && !p.outgoing ? out(0) : nullptr;
        const T* sooner = kept && p.out_ahead != 0 ? out(0) + FETCHED_TERMS / sizeof(T) : later;
        const bool fetched = p.out_ahead != 0 && n * sizeof(T) <= FETCHED_PAIR;
        auto block_at = [&](int i) {
            return [&, i](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
                for (std::size_t k = 0; fetched && k < count * W * sizeof(T); k += 64) {
                    prefetch(x(i) + j, ahead + k);
                    prefetch(y(i) + j, ahead + k);
                }
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
            if (i == 0 || weighing != BY_CLASS)
                add_weights_of_row<weighing, true>(x(i), n, weights(i), spread(rows.anchor, i), ahead,
                                                   sums);
            else  // their sum is that of the first row
                add_weights_of_row<weighing, false>(x(i), n, weights(i), spread(rows.anchor, i), ahead,
                                                    sums);
            weight[i] = i == 0 || weighing != BY_CLASS ? sums.weight : weight[0];
            spreads[i] = sums.spread;
        }
        if constexpr (pair) {
            if (short_rows)
                for (int i = 0; i < lanes; ++i)
                    for_blocks(x(i), n, [&](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
                        one_word[i] = block_at(i)(j, count, last);
                    });
            else
                for (int i = 0; i < lanes; ++i) sum[i] = sum_of_blocks(x(i), n, block_at(i));
        } else if (operation == LOGSUMEXP_AGAIN) {
            for (int i = 0; i < lanes; ++i)
                sum[i] = csoftmax::lane(rows.again, i) > 0
                             ? exact_terms_of_row(x(i), n, spread(rows.max, i))
                             : exact(zero);
        } else {
            add_terms_of_rows<apart, gaps, keeps>(p, lane, int(lanes), j0, n, short_rows, terms, later, sooner, rows,
                                                  traffic, sum, one_word, spreads, ties);
        }
        auto add_to = [&](Exact<T>& all, Exact<T>(&lane_sums)[W]) {
            const Exact<T> s = across_rows<PIECE<T>>(lane_sums, int(lanes), add_any<T>);
            all = whole ? s : add_any(all, s);
        };
        if (short_rows)
            rows.sum = sum_across_rows(one_word, int(lanes));
        else
            add_to(rows.sum, sum);
        if (weighted) add_to(rows.weight, weight);
        if (weighted || gaps) add_to(rows.spread, spreads);
        if (!pair && apart && operation != LOGSUMEXP_AGAIN) {
            const Vec<T> t = across_rows<PIECE<T>>(ties, int(lanes), add_single<T>).v;
            rows.ties = whole ? t : rows.ties + first_lanes(t, 1);
        }
    } else {
        const auto write_rows = [&](auto from, auto of) CSOFTMAX_INLINED {
            for (int i = 0; i < lanes; ++i)
                write_row<operation, weighing, from.value>(of(i), y(i), out(i), n, p.streamed, out_ahead,
                                                           rows, i, weights(i));
        };
        if constexpr (!keeps)
            write_rows(std::integral_constant<Source, OPERAND>{}, x);
        else if (terms == out(0) && powers == 0)
            write_rows(std::integral_constant<Source, TERMS_IN_RESULT>{}, out);
        else if (terms)
            write_chunk<operation, weighing, TERMS_ASIDE>(terms, out(0), n, p.streamed, out_ahead, rows,
                                                          weights(0), powers);
        else
            write_chunk<operation, weighing, OPERAND>(x(0), out(0), n, p.streamed, out_ahead, rows,
                                                      weights(0), 0);
        if (p.streamed) end_stream();
    }
}
// The same for any number of rows, LANES in each of `rows`.
template <Operation operation, Weighing weighing = UNWEIGHTED, class T>
CSOFTMAX_APART void sweep_some_rows(Sweep sweep, const Problem& p, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                                    std::ptrdiff_t j0, std::ptrdiff_t j1, T* terms, int powers, Row<T>* rows) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    const std::ptrdiff_t row = p.out.lane_stride / std::ptrdiff_t(sizeof(T));
    for (std::ptrdiff_t i = 0; i < lanes; i += W)
        sweep_register_of_rows<operation, weighing>(sweep, p, lane + i, std::min(W, lanes - i), j0, j1,
                                                    terms ? terms + i * row : nullptr, powers, rows[i / W]);
}
template <class T>
CSOFTMAX_INLINE void sweep_rows(Operation operation, Sweep sweep, const Problem& p,
                                std::ptrdiff_t lane, std::ptrdiff_t lanes, std::ptrdiff_t j0,
                                std::ptrdiff_t j1, T* terms, int powers, Row<T>* rows) {
    if (Vec<T>::LANES == 1) return;  // never asked: there are no registers to lie along
    if (sweep == MAXIMUM) return find_maxima_of_rows(p, lane, lanes, j0, j1, rows);
    const Weighing weighing = operation == CROSS_ENTROPY ? weighing_of(static_cast<const T*>(nullptr), p)
                                                         : UNWEIGHTED;
    if (operation == SOFTMAX)
        sweep_some_rows<SOFTMAX>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (operation == LOG_SOFTMAX)
        sweep_some_rows<LOG_SOFTMAX>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (operation == LOGSUMEXP || operation == TOPK)
        sweep_some_rows<LOGSUMEXP>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (operation == LOGSUMEXP_AGAIN)
        sweep_some_rows<LOGSUMEXP_AGAIN>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (operation == ENTROPY)
        sweep_some_rows<ENTROPY>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (operation == SOFTMAX_VJP)
        sweep_some_rows<SOFTMAX_VJP>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (operation == LOG_SOFTMAX_VJP)
        sweep_some_rows<LOG_SOFTMAX_VJP>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (weighing == BY_TARGET)
        sweep_some_rows<CROSS_ENTROPY, BY_TARGET>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (weighing == BY_CLASS)
        sweep_some_rows<CROSS_ENTROPY, BY_CLASS>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else if (weighing == BY_BOTH)
        sweep_some_rows<CROSS_ENTROPY, BY_BOTH>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
    else
        sweep_some_rows<CROSS_ENTROPY>(sweep, p, lane, lanes, j0, j1, terms, powers, rows);
}

}  // namespace csoftmax
