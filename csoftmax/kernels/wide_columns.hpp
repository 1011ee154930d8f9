// wide_columns.hpp - columns, class by class along wide runs of rows.
//
// Memory is read in its own order, in every sweep, rather than once in narrow pieces. So the sums of all rows are
// kept in memory, and each loop goes along a class, or BLOCK of them. The first part is what adds up exponentials
// (wide_columns.pxi has the sweeps), the second is
//
//     softmax_vjp of y, grad, out: n classes, `stride` apart, of `lanes` rows that lie side by side
//     out_j <- y_j * (grad_j - sum(y * grad)), the sum in two words, or in one if it is `plain`
#pragma once

#include <algorithm>

#include "loss.hpp"

namespace csoftmax {

// How the peak and its ties are set apart, to be counted instead of summed: in softmax not at all, and in a branch
// where most blocks of classes have none.
enum Peaks { SUMMED, APART, RARELY_APART };
constexpr std::ptrdiff_t MANY_CLASSES = 128;

// e_j <- exp(x_j - max) * peak, unless e is null, and sum += e_j, for BLOCK classes of all registers of rows, or the
// first `count` of them; `weighted`: weight += w_j, spread += w_j (max - x_j).
template <Peaks peaks, bool weighted, class Count, class T>
CSOFTMAX_INLINE void add_block_of_classes(const T* x, std::ptrdiff_t stride, T* e, std::ptrdiff_t e_stride,
                                          const Weights<T>& w, Count count, Row<T>* rows, std::ptrdiff_t vectors,
                                          Exact<T>* sum, Exact<T>* weight, Exact<T>* spread) {
    constexpr int W = Vec<T>::LANES;
    const Vec<T> zero = broadcast(T(0));
    for (std::ptrdiff_t v = 0; v < vectors; ++v) {
        const Anchor<T> anchors[1] = {rows[v].anchor};
        Vec<T> some[BLOCK];
        for (int k = 0; k < BLOCK; ++k) some[k] = load(x + (k < count ? k : 0) * stride + v * W);
        if (weighted) {
            Vec<T> s = zero, t = zero;
            for (int k = 0; k < count; ++k) {
                const Vec<T> w_k = w.at(k, v * W);
                s = s + w_k;
                t = fma(w_k, gap(w_k, some[k], anchors[0].max), t);
            }
            if (w.differ_at(v)) weight[v] = end_sum(add_exactly(weight[v], s));
            spread[v] = end_sum(add_exactly(spread[v], t));
        }
        terms(some, anchors, some);
        for (int k = 0; k < count && e; ++k) store(e + k * e_stride + v * W, some[k]);
        for (int k = count; k < BLOCK; ++k) some[k] = zero;
        if (peaks != SUMMED) {
            Vec<T> ties = rows[v].ties;
            if (peaks == APART)
                set_peaks_apart(some, anchors[0].peak.value, ties);
            else
                set_rare_peaks_apart(some, anchors[0].peak.value, ties);
            rows[v].ties = ties;
        }
        sum[v] = add_pairs(sum[v], some[0] + some[1], some[2] + some[3]);
    }
}
// The same for `steps` classes, which go to the lanes of the sums in turn.
template <Peaks peaks, bool weighted, class T>
CSOFTMAX_APART void add_all_classes(const T* x, std::ptrdiff_t stride, T* e, std::ptrdiff_t e_stride,
                                    const Weights<T>& w, std::ptrdiff_t steps, std::ptrdiff_t registers, Row<T>* rows,
                                    std::ptrdiff_t vectors, const LaneSums<T>& lanes) {
    for (std::ptrdiff_t block = 0; block < steps; block += BLOCK * registers)
        for (std::ptrdiff_t i = 0; i < registers && block + i < steps; ++i) {
            const std::ptrdiff_t j = block + i, lane = i * vectors, count = (steps - j + registers - 1) / registers;
            const Weights<T> some = {w.data + j * w.stride, registers * w.stride, w.common};
            const auto add = [&](auto classes) CSOFTMAX_INLINED {
                add_block_of_classes<peaks, weighted>(x + j * stride, registers * stride, e ? e + j * e_stride : e,
                                                      registers * e_stride, some, classes, rows, vectors,
                                                      lanes.sum + lane, lanes.weight + lane, lanes.spread + lane);
            };
            if (count >= BLOCK)
                add(std::integral_constant<int, BLOCK>{});
            else
                add(int(count));
        }
}
template <class T>
CSOFTMAX_INLINE void add_classes(const T* x, std::ptrdiff_t stride, T* e, std::ptrdiff_t e_stride,
                                 const Weights<T>& w, std::ptrdiff_t steps, bool apart, bool weighted, Order order,
                                 Row<T>* rows, std::ptrdiff_t vectors, const LaneSums<T>& lanes) {
    const auto add = [&](auto peaks, auto is_weighted) {
        add_all_classes<peaks.value, is_weighted.value>(x, stride, e, e_stride, w, steps, order.registers, rows,
                                                        vectors, lanes);
    };
    const auto add_apart = [&](auto peaks) { weighted ? add(peaks, std::true_type{}) : add(peaks, std::false_type{}); };
    if (!apart)
        add(std::integral_constant<Peaks, SUMMED>{}, std::false_type{});
    else if (steps < MANY_CLASSES)
        add_apart(std::integral_constant<Peaks, APART>{});
    else
        add_apart(std::integral_constant<Peaks, RARELY_APART>{});
}

// call(row, number) for registers of rows that cover all of 0 to `lanes`, which is LANES or more: from `head`
// on one after the other, while the first and the last share rows with their neighbours where need be.
template <class T, class Call>
CSOFTMAX_INLINE void for_registers_of_rows(std::ptrdiff_t head, std::ptrdiff_t lanes, Call call) {
    constexpr int W = Vec<T>::LANES;
    std::ptrdiff_t v = 0, i = head;
    if (head > 0) call(std::ptrdiff_t(0), v++);
    for (; i + W <= lanes; i += W) call(i, v++);
    if (i < lanes) call(lanes - W, v);
}

// Of one register of rows, y_j * grad_j for up to BLOCK classes.
template <int count, class T>
CSOFTMAX_INLINE Vec<T> block_of_columns(const T* y, std::ptrdiff_t stride, const T* grad,
                                        std::ptrdiff_t grad_stride) {
    Vec<T> chains[2] = {broadcast(T(0)), broadcast(T(0))};
    for (int k = 0; k < count; ++k)
        chains[k % 2] = fma(load(y + k * stride), load(grad + k * grad_stride), chains[k % 2]);
    return chains[0] + chains[1];
}

// sums += those.
template <bool plain, int count, class T>
CSOFTMAX_INLINE void add_block_of_columns(const T* y, std::ptrdiff_t stride, const T* grad,
                                          std::ptrdiff_t grad_stride, std::ptrdiff_t head,
                                          std::ptrdiff_t lanes, Exact<T>* sums) {
    for_registers_of_rows<T>(head, lanes, [&](std::ptrdiff_t at, std::ptrdiff_t v) CSOFTMAX_INLINED {
        const Vec<T> block = block_of_columns<count>(y + at, stride, grad + at, grad_stride);
        Exact<T>& sum = sums[v];
        if (plain)
            sum.value = sum.value + block;
        else
            sum = add_exactly(sum, block);
    });
}

// visit(count) for a count of 1 to BLOCK, or more, as a constant.
template <class Visit> CSOFTMAX_INLINE void with_block(std::ptrdiff_t count, Visit visit) {
    static_assert(BLOCK == 4, "the rest of a block");
    if (count >= BLOCK) visit(std::integral_constant<int, BLOCK>{});
    if (count == 3) visit(std::integral_constant<int, 3>{});
    if (count == 2) visit(std::integral_constant<int, 2>{});
    if (count == 1) visit(std::integral_constant<int, 1>{});
}

// totals <- y_j * grad_j for so few classes that each lane has a block of them: two lanes at a time, which
// are added first.
template <class T>
CSOFTMAX_APART void add_few_columns(const T* y, std::ptrdiff_t stride, const T* grad,
                                    std::ptrdiff_t grad_stride, std::ptrdiff_t n, std::ptrdiff_t head,
                                    std::ptrdiff_t lanes, Exact<T>* sums, std::ptrdiff_t vectors,
                                    Exact<T>* totals) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, HALF = W / 2;
    for (std::ptrdiff_t i = 0; i < HALF && i < n; ++i) {
        const std::ptrdiff_t count = (n - i + W - 1) / W, other = std::max<std::ptrdiff_t>(0, n - i - HALF + W - 1) / W;
        const auto add_both = [&](auto first, auto second) CSOFTMAX_INLINED {
            for_registers_of_rows<T>(head, lanes, [&](std::ptrdiff_t at, std::ptrdiff_t v) CSOFTMAX_INLINED {
                const T *y_i = y + i * stride + at, *grad_i = grad + i * grad_stride + at;
                Vec<T> sum = block_of_columns<first.value>(y_i, W * stride, grad_i, W * grad_stride);
                if (second.value > 0)
                    sum = sum + block_of_columns<second.value>(y_i + HALF * stride, W * stride,
                                                               grad_i + HALF * grad_stride, W * grad_stride);
                sums[i * vectors + v].value = sum;
            });
        };
        with_block(count, [&](auto first) CSOFTMAX_INLINED {
            if (other == count)
                add_both(first, first);
            else
                add_both(first, std::integral_constant<int, first.value - 1>{});
        });
    }
    for_registers_of_rows<T>(head, lanes, [&](std::ptrdiff_t, std::ptrdiff_t v) {
        totals[v] = end_plainly(sums + v, vectors, int(HALF));
    });
}

// totals += y_j * grad_j for a chunk of classes.
template <bool plain, class T>
CSOFTMAX_APART void add_chunk_of_columns(const T* y, std::ptrdiff_t stride, const T* grad,
                                         std::ptrdiff_t grad_stride, std::ptrdiff_t n,
                                         std::ptrdiff_t head, std::ptrdiff_t lanes, Order order,
                                         Exact<T>* sums, std::ptrdiff_t vectors, Exact<T>* totals) {
    const std::ptrdiff_t apart = order.registers;  // classes that are added to the same lane
    clear(sums, order, vectors);
    for (std::ptrdiff_t block = 0; block < n; block += BLOCK * apart)
        for (std::ptrdiff_t j = block; j < n && j < block + apart; ++j)
            with_block((n - j + apart - 1) / apart, [&](auto count) CSOFTMAX_INLINED {
                add_block_of_columns<plain, count.value>(y + j * stride, apart * stride, grad + j * grad_stride,
                                                         apart * grad_stride, head, lanes,
                                                         sums + (j - block) * vectors);
            });
    for_registers_of_rows<T>(head, lanes, [&](std::ptrdiff_t, std::ptrdiff_t v) {
        if (plain) {
            totals[v] = end_plainly(sums + v, vectors, order.registers);
            return;
        }
        for (int i = 0; i < apart; ++i) sums[i * vectors + v] = end_sum(sums[i * vectors + v]);
        end_chunk(sums + v, vectors, order, totals[v]);
    });
}

// What shares rows is found before any is written, as `out` may be an operand.
template <bool plain, class How, class T>
CSOFTMAX_APART void write_columns(const T* y, std::ptrdiff_t stride, const T* grad,
                                  std::ptrdiff_t grad_stride, T* out, std::ptrdiff_t out_stride,
                                  std::ptrdiff_t n, std::ptrdiff_t head, std::ptrdiff_t lanes,
                                  const Exact<T>* totals, How how) {
    constexpr int W = Vec<T>::LANES;
    const auto product = [&](std::ptrdiff_t at, std::ptrdiff_t v) CSOFTMAX_INLINED {
        const Exact<T> dot = totals[v];
        const Vec<T> g = plain ? load(grad + at) : load(grad + at) - dot.error;
        return load(y + at) * (g - dot.value);
    };
    const std::ptrdiff_t before = head > 0, whole = (lanes - head) / W, rest = lanes - head - whole * W;
    for (; n > 0; --n, y += stride, grad += grad_stride, out += out_stride) {
        Vec<T> first = broadcast(T(0)), last = first;
        if (before) first = product(0, 0);
        if (rest) last = product(lanes - W, before + whole);
        for (std::ptrdiff_t v = 0; v < whole; ++v)
            store(out + head + v * W, product(head + v * W, before + v), how);
        if (std::is_same<How, Streamed>::value) {  // lines that were written go to no cache again
            T some[W];
            store(some, last);
            store_part(out, first, int(head));
            copy_part(out + lanes - rest, some + W - rest, int(rest));
        } else {
            if (before) store(out, first);
            if (rest) store(out + lanes - W, last);
        }
    }
}

// `memory`: bytes_of_columns(lanes) bytes.
template <class T> inline std::ptrdiff_t bytes_of_columns(const T*, std::ptrdiff_t lanes) {
    return (lanes / Vec<T>::LANES + 2) * (Vec<T>::LANES + 1) * sizeof(Exact<T>) + LINE_BYTES;
}
template <class T>
inline void multiply_columns(const T* y, std::ptrdiff_t stride, const T* grad, std::ptrdiff_t grad_stride,
                             T* out, std::ptrdiff_t out_stride, std::ptrdiff_t n, std::ptrdiff_t lanes,
                             bool streamed, void* memory) {
    constexpr std::uintptr_t LINE = LINE_BYTES, REGISTER = Vec<T>::LANES * sizeof(T);
    auto* totals = reinterpret_cast<Exact<T>*>((reinterpret_cast<std::uintptr_t>(memory) + LINE - 1) & -LINE);
    const std::ptrdiff_t head =
        streamed || lanes >= 8 * Vec<T>::LANES
            ? (-reinterpret_cast<std::uintptr_t>(out) & (REGISTER - 1)) / sizeof(T)
            : 0;
    const std::ptrdiff_t vectors = lanes / Vec<T>::LANES + 2;
    Exact<T>* sums = totals + vectors;
    const Order order = order_of(y, false, n, true);
    for (std::ptrdiff_t v = 0; v < vectors; ++v) totals[v] = exact(broadcast(T(0)));
    const auto multiply = [&](auto plain) {
        if (plain.value && n <= BLOCK * Vec<T>::LANES)
            add_few_columns(y, stride, grad, grad_stride, n, head, lanes, sums, vectors, totals);
        else
            for (std::ptrdiff_t j = 0; j < n; j += CHUNK)
                add_chunk_of_columns<plain.value>(y + j * stride, stride, grad + j * grad_stride, grad_stride,
                                                  n - j < CHUNK ? n - j : CHUNK, head, lanes, order, sums, vectors,
                                                  totals);
        if (streamed)
            write_columns<plain.value>(y, stride, grad, grad_stride, out, out_stride, n, head, lanes, totals,
                                       Streamed{});
        else
            write_columns<plain.value>(y, stride, grad, grad_stride, out, out_stride, n, head, lanes, totals,
                                       Full{});
    };
    if (n <= PLAIN)
        multiply(std::true_type{});
    else
        multiply(std::false_type{});
    if (streamed) end_stream();
}

}  // namespace csoftmax
