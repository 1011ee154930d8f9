// sampling.hpp - samples of the classes of each row, by inverse transform.
//
// The terms e_j = exp(x_j - max) of a row are added up in double (or wider) in an order of their own:
// S is the sum after each run of RUN classes, and c_j within a run the sum class by class, but never
// beyond the S that follows. So c never falls, a class with the term 0 adds nothing to it, and it does
// not depend on how the row is cut up. u in [0, 1) gives the first class with c_j > u * total.
//
// A row is read in pieces that fit a tile: for the maximum, for the sums, of which those at the ends of
// `spans` of pieces are kept, and once more the spans that samples lie in. Rows that are neighbours in
// memory are read together.
#pragma once

#include <algorithm>

#include "entropy.hpp"
#include "loops.hpp"
#include "tile.hpp"

namespace csoftmax {

constexpr std::ptrdiff_t RUN = 32, PIECE_ENTRIES = 4096, SPANS = 128, SAMPLES = 1024, ABREAST = 16;

template <class T> struct Drawing {
    T tile[PIECE_ENTRIES];            // of several rows
    T row[PIECE_ENTRIES], term[PIECE_ENTRIES];  // and of one
    Wide<T> sum[PIECE_ENTRIES];       // c_j
    Wide<T> ends[ABREAST][SPANS];     // S at the end of each span
    T max[ABREAST];
    Wide<T> total[ABREAST];
    std::uint64_t sample[SAMPLES];    // span << 32 | number

    const Problem& p;
    std::ptrdiff_t lane, lanes;       // the rows at hand
    std::ptrdiff_t piece, pieces;     // classes of a piece, pieces of a span

    Drawing(const Problem& problem, std::ptrdiff_t first, std::ptrdiff_t count)
        : p(problem), lane(first), lanes(count) {
        piece = PIECE_ENTRIES / (lanes > 1 ? ABREAST : 1);
        const std::ptrdiff_t n = (p.n + piece - 1) / piece;
        pieces = (n + SPANS - 1) / SPANS;
    }

    void load_rows(std::ptrdiff_t j0, std::ptrdiff_t j1) {
        if (lanes > 1) load_tile(tile, p.x, lane, lanes, j0, j1, ABREAST, -INFINITE<T>);
    }
    // row <- the classes of row i, padded to whole runs
    void load_row(std::ptrdiff_t i, std::ptrdiff_t j0, std::ptrdiff_t j1, bool from_tile) {
        if (from_tile)
            for (std::ptrdiff_t j = 0; j < j1 - j0; ++j) row[j] = tile[j * ABREAST + i];
        else
            load_tile(row, p.x, lane + i, 1, j0, j1, 1, -INFINITE<T>);
        for (std::ptrdiff_t j = j1 - j0; j < round_up(j1 - j0, RUN); ++j) row[j] = -INFINITE<T>;
    }
    void find_maximum(std::ptrdiff_t i, std::ptrdiff_t n) {
        Row<T> found;
        found.max = broadcast(max[i]);
        find_maxima(row, Vec<T>::LANES, round_up(n, RUN) / Vec<T>::LANES, &found, 1);
        max[i] = csoftmax::lane(max_lanes(found.max), 0);
    }
    // term <- those of the row, 0 where they cannot count
    void find_row(std::ptrdiff_t i, std::ptrdiff_t n) {
        Row<T> found;
        found.max = broadcast(max[i]);
        set_anchors(&found, 1);
        n = round_up(n, RUN);
        find_row_terms(row, term, n / Vec<T>::LANES, &found);
        const T low = max[i] - Vanishing<T>::GAP;
        for (std::ptrdiff_t j = 0; j < n; ++j) term[j] = row[j] < low ? T(0) : term[j];
    }
    // S behind the n classes, when it is `before` in front of them
    Wide<T> add_runs(std::ptrdiff_t n, Wide<T> before) const {
        for (std::ptrdiff_t j = 0; j < n; j += RUN) before += sum_of_run(term + j);
        return before;
    }
    static Wide<T> sum_of_run(const T* e) {
        Wide<T> s[8] = {};
        for (std::ptrdiff_t j = 0; j < RUN; j += 8)
            for (std::ptrdiff_t k = 0; k < 8; ++k) s[k] += e[j + k];
        return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
    // the same, and all c_j
    Wide<T> add_classes(std::ptrdiff_t n, Wide<T> before) {
        for (std::ptrdiff_t j = 0; j < n; j += RUN) {
            const Wide<T> after = before + sum_of_run(term + j);
            const std::ptrdiff_t count = n - j < RUN ? n - j : RUN;
            for (std::ptrdiff_t k = 0; k < count; ++k) {
                before += term[j + k];
                sum[j + k] = before < after ? before : after;
            }
            std::ptrdiff_t last = count - 1;  // the last class that adds something ends at S
            for (; last > 0 && term[j + last] == 0; --last) sum[j + last] = after;
            sum[j + last] = after;
            before = after;
        }
        return before;
    }

    double uniform(std::ptrdiff_t i, std::ptrdiff_t s) const {
        return read<double>(p.y.data + (lane + i) * p.y.lane_stride + s * p.y.class_stride, false);
    }
    void give(std::ptrdiff_t i, std::ptrdiff_t s, std::int64_t label) {
        char* to = p.out.data + (lane + i) * p.out.lane_stride + s * p.out.class_stride;
        std::memcpy(to, &label, sizeof label);
    }
    // the class of sum[] that reaches beyond c
    std::ptrdiff_t find_class(Wide<T> c, std::ptrdiff_t n) const {
        const std::ptrdiff_t j = std::upper_bound(sum, sum + n, c) - sum;
        return j < n ? j : n - 1;
    }
    // -1, no class, where the row has no distribution
    bool has_distribution(std::ptrdiff_t i) {
        if (total[i] > 0 && max[i] - max[i] == 0) return true;
        for (std::ptrdiff_t s = 0; s < p.count; ++s) give(i, s, -1);
        return false;
    }

    // A row of one piece,
    void run_short() {
        load_row(0, 0, p.n, false);
        max[0] = -INFINITE<T>;
        find_maximum(0, p.n);
        find_row(0, p.n);
        total[0] = add_classes(p.n, 0);
        if (!has_distribution(0)) return;
        for (std::ptrdiff_t s = 0; s < p.count; ++s)
            give(0, s, find_class(uniform(0, s) * total[0], p.n));
    }
    // and several, in the lanes of registers: the same sums in the same order.
    void run_abreast() {
        constexpr std::ptrdiff_t N = ABREAST, W = Vec<T>::LANES, V = N / W;
        Row<T> rows[V];
        load_rows(0, p.n);
        for (Row<T>& found : rows) found.max = broadcast(-INFINITE<T>);
        find_maxima(tile, N, p.n, rows, V);
        set_anchors(rows, V);
        find_terms(tile, N, term, N, p.n, rows, V);
        for (std::ptrdiff_t v = 0; v < V; ++v) store(max + v * W, rows[v].max);
        Wide<T> before[N] = {}, after[N];
        for (std::ptrdiff_t j = 0; j < p.n; j += RUN) {
            T* e = term + j * N;
            Wide<T>* c = sum + j * N;
            Wide<T> s[8][N] = {};
            const std::ptrdiff_t count = p.n - j < RUN ? p.n - j : RUN;
            for (std::ptrdiff_t k = 0; k < count; ++k)
                for (std::ptrdiff_t i = 0; i < N; ++i) {
                    const std::ptrdiff_t at = k * N + i;
                    e[at] = tile[j * N + at] < max[i] - Vanishing<T>::GAP ? T(0) : e[at];
                    s[k % 8][i] += e[at];
                }
            for (std::ptrdiff_t i = 0; i < N; ++i)
                after[i] = before[i] + (((s[0][i] + s[4][i]) + (s[2][i] + s[6][i])) +
                                        ((s[1][i] + s[5][i]) + (s[3][i] + s[7][i])));
            for (std::ptrdiff_t k = 0; k < count; ++k)
                for (std::ptrdiff_t i = 0; i < N; ++i) {
                    before[i] += e[k * N + i];
                    c[k * N + i] = before[i] < after[i] ? before[i] : after[i];
                }
            T behind[N] = {};  // whether a later class of the run adds something
            for (std::ptrdiff_t k = count; k-- > 0;)
                for (std::ptrdiff_t i = 0; i < N; ++i) {
                    c[k * N + i] = behind[i] > 0 ? c[k * N + i] : after[i];
                    behind[i] = e[k * N + i] > behind[i] ? e[k * N + i] : behind[i];
                }
            for (std::ptrdiff_t i = 0; i < N; ++i) before[i] = after[i];
        }
        bool good[N];
        for (std::ptrdiff_t i = 0; i < N; ++i) total[i] = before[i];
        for (std::ptrdiff_t i = 0; i < lanes; ++i) good[i] = has_distribution(i);
        for (std::ptrdiff_t s = 0; s < p.count; ++s) {
            Wide<T> reached[N] = {};
            std::int64_t label[N] = {};
            for (std::ptrdiff_t i = 0; i < lanes; ++i) reached[i] = uniform(i, s) * total[i];
            for (std::ptrdiff_t j = 0; j < p.n; ++j)
                for (std::ptrdiff_t i = 0; i < N; ++i) label[i] += sum[j * N + i] <= reached[i];
            for (std::ptrdiff_t i = 0; i < lanes; ++i)
                if (good[i]) give(i, s, label[i] < p.n ? label[i] : p.n - 1);
        }
    }

    // Calls visit(i, j0, j1) with every piece of every row in `row`.
    template <class Visit> void each_piece(Visit visit) {
        for (std::ptrdiff_t j0 = 0; j0 < p.n; j0 += piece) {
            const std::ptrdiff_t j1 = std::min(j0 + piece, p.n);
            load_rows(j0, j1);
            for (std::ptrdiff_t i = 0; i < lanes; ++i) {
                load_row(i, j0, j1, lanes > 1);
                visit(i, j0, j1);
            }
        }
    }
    void run_long() {
        for (std::ptrdiff_t i = 0; i < lanes; ++i) {
            max[i] = -INFINITE<T>;
            total[i] = 0;
        }
        each_piece([&](std::ptrdiff_t i, std::ptrdiff_t j0, std::ptrdiff_t j1) {
            find_maximum(i, j1 - j0);
        });
        const std::ptrdiff_t span = piece * pieces;
        each_piece([&](std::ptrdiff_t i, std::ptrdiff_t j0, std::ptrdiff_t j1) {
            find_row(i, j1 - j0);
            total[i] = add_runs(j1 - j0, total[i]);
            ends[i][j0 / span] = total[i];
        });
        for (std::ptrdiff_t i = 0; i < lanes; ++i) {
            if (!has_distribution(i)) continue;
            for (std::ptrdiff_t s = 0; s < p.count; s += SAMPLES)
                give_some(i, s, std::min(SAMPLES, p.count - s), span);
        }
    }
    // The samples s <= number < s + count, span by span.
    void give_some(std::ptrdiff_t i, std::ptrdiff_t s, std::ptrdiff_t count, std::ptrdiff_t span) {
        const std::ptrdiff_t spans = (p.n + span - 1) / span;
        for (std::ptrdiff_t k = 0; k < count; ++k) {
            const Wide<T> c = uniform(i, s + k) * total[i];
            const std::ptrdiff_t at = std::upper_bound(ends[i], ends[i] + spans, c) - ends[i];
            sample[k] = std::uint64_t(std::min(at, spans - 1)) << 32 | std::uint64_t(k);
        }
        if (count > 1) std::sort(sample, sample + count);
        for (std::ptrdiff_t k = 0, end; k < count; k = end) {
            const std::ptrdiff_t at = std::ptrdiff_t(sample[k] >> 32);
            for (end = k; end < count && std::ptrdiff_t(sample[end] >> 32) == at;) ++end;
            Wide<T> before = at ? ends[i][at - 1] : 0;
            const std::ptrdiff_t last = std::min((at + 1) * span, p.n);
            for (std::ptrdiff_t j0 = at * span; j0 < last; j0 += piece) {
                const std::ptrdiff_t j1 = std::min(j0 + piece, last);
                load_row(i, j0, j1, false);
                find_row(i, j1 - j0);
                const Wide<T> after = add_classes(j1 - j0, before);
                for (std::ptrdiff_t m = k; m < end; ++m) {
                    const std::ptrdiff_t number = s + std::ptrdiff_t(sample[m] & 0xffffffff);
                    const Wide<T> c = uniform(i, number) * total[i];
                    // a sample has given its uniform number away once it has its class
                    if ((c >= before || j0 == at * span) && (c < after || j1 == last))
                        found[m] = j0 + find_class(c, j1 - j0);
                }
                before = after;
            }
            for (std::ptrdiff_t m = k; m < end; ++m)
                give(i, s + std::ptrdiff_t(sample[m] & 0xffffffff), found[m]);
        }
    }
    std::int64_t found[SAMPLES];
};

// How many rows are drawn from together.
template <class T>
inline std::ptrdiff_t sampled_lanes(const T*, const Problem& p, std::ptrdiff_t threads) {
    if (p.lanes == 1 || (!lanes_adjacent(p.x) && p.n > 2 * RUN)) return 1;
    return std::max<std::ptrdiff_t>(1, std::min(ABREAST, p.lanes / threads));
}

template <class T>
CSOFTMAX_APART void sample_lanes(const T*, const Problem& p, std::ptrdiff_t lane, std::ptrdiff_t lanes) {
    Drawing<T> drawing(p, lane, lanes);
    if (p.n > drawing.piece)
        drawing.run_long();
    else if (lanes > 1)
        drawing.run_abreast();
    else
        drawing.run_short();
}

}  // namespace csoftmax
