// row_products.hpp - softmax_vjp of rows that lie along registers.
//
//     y, grad, out: `rows` of n entries, `stride` entries apart
//     out_j <- y_j * (grad_j - sum(y * grad))
//
// An entry takes so little work that what is done for a row matters as much. So the sums of LANES rows share
// what is done across lanes, and the rows are in the first cache still when they are read again. Where rows
// are shorter than a register and lie one after the other, their entries are taken as one long row.
#pragma once

#include "few_classes.hpp"
#include "row_loops.hpp"

namespace csoftmax {

constexpr int MOST_REGISTERS = 8;         // of a row whose loops are unrolled
constexpr std::ptrdiff_t CACHED = 8192;   // bytes of an operand that are taken together,
// the same where they are asked for ahead
template <class T> constexpr std::ptrdiff_t FETCHED = sizeof(Vec<T>) < LINE_BYTES ? 1600 : 1024;

// The rows of an operand.
template <class T> struct Rows {
    T* first;
    std::ptrdiff_t stride;
    CSOFTMAX_INLINE T* operator[](std::ptrdiff_t i) const { return first + i * stride; }
    CSOFTMAX_INLINE void operator+=(std::ptrdiff_t i) { first += i * stride; }
};
template <class T> struct RowsOfProduct {
    Rows<const T> y, grad;
    Rows<T> out;
    std::ptrdiff_t n, rows;
    std::ptrdiff_t ahead;  // bytes to what is asked for, or 0
    bool streamed;         // results go past the caches
    Outgoing* outgoing;    // those of other rows, that go there meanwhile; or nullptr

    CSOFTMAX_INLINE void skip(std::ptrdiff_t i) {
        y += i;
        grad += i;
        out += i;
        rows -= i;
    }
};

// Lane i is i modulo `count`.
template <class T, int count = Vec<T>::LANES> CSOFTMAX_INLINE Vec<T> numbers_of_lanes() {
    T s[Vec<T>::LANES];
    for (int i = 0; i < Vec<T>::LANES; ++i) s[i] = T(i % count);
    return load(s);
}

// Lane i is the sum of the lanes of rows[i].
template <class T> CSOFTMAX_INLINE Vec<T> sum_across_plainly(const Vec<T> (&rows)[Vec<T>::LANES], int count) {
    Single<T> sums[Vec<T>::LANES];
    for (int i = 0; i < Vec<T>::LANES; ++i) sums[i] = {rows[i < count ? i : 0]};
    return across_rows<PIECE<T>>(sums, count, add_single<T>).v;
}

// Asks for what is ahead of COUNT registers of both operands, and sends as many of other results;
template <int COUNT, class T> CSOFTMAX_INLINE void ask_ahead(const RowsOfProduct<T>& p, const T* y, const T* grad) {
    if (p.ahead == 0 && !p.outgoing) return;
    for (int j = 0; j < COUNT * Vec<T>::LANES && p.ahead != 0; j += LINE_BYTES / sizeof(T)) {
        prefetch(y + j, p.ahead);
        prefetch(grad + j, p.ahead);
    }
    send_registers<T, COUNT>(p.outgoing);
}
// asks for what is ahead of `bytes` of the result.
template <class T> CSOFTMAX_INLINE void ask_ahead(const RowsOfProduct<T>& p, const T* out, std::size_t bytes) {
    if (p.ahead == 0 || p.streamed || p.outgoing) return;
    for (std::size_t j = 0; j < bytes / sizeof(T); j += LINE_BYTES / sizeof(T))
        prefetch_to_write(out + j, p.ahead);
}

// Of N registers each.
template <int N, class T> CSOFTMAX_APART void multiply_rows_of(RowsOfProduct<T> p) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, ROW = N * W * sizeof(T);
    const int last = int(p.n - (N - 1) * W);
    const auto within = broadcast(T(last)) > numbers_of_lanes<T>();
    const auto add_last = [&](const T* y, const T* grad, Vec<T> sum, auto reaches) CSOFTMAX_INLINED {
        if constexpr (reaches.value) return choose(within, fma(load(y), load(grad), sum), sum);
        return fma(load_end(y, last, T(0)), load_end(grad, last, T(0)), sum);
    };
    const auto sum_of = [&](std::ptrdiff_t i, auto reaches) CSOFTMAX_INLINED {
        const T *y = p.y[i], *grad = p.grad[i];
        ask_ahead<N>(p, y, grad);
        Vec<T> sum = broadcast(T(0));
        for (int first = 0; first < N; first += BLOCK) {  // as block_of_products has it
            Vec<T> chains[2] = {broadcast(T(0)), broadcast(T(0))};
            for (int k = first; k < std::min(N, first + BLOCK); ++k, y += W, grad += W) {
                Vec<T>& chain = chains[k % 2];
                chain = k + 1 == N && N > 1 ? add_last(y, grad, chain, reaches) : fma(load(y), load(grad), chain);
            }
            const Vec<T> block = N == 1 ? chains[0] : chains[0] + chains[1];
            sum = first == 0 ? block : sum + block;
        }
        return sum;
    };
    const auto write_row = [&](int i, T sum) CSOFTMAX_INLINED {
        const T *y = p.y[i], *grad = p.grad[i];
        T* out = p.out[i];
        const Vec<T> dot = broadcast(sum);
        const auto product = [&](std::ptrdiff_t j) CSOFTMAX_INLINED { return load(y + j) * (load(grad + j) - dot); };
        ask_ahead(p, out, ROW);
        const Vec<T> end = product(p.n - W);  // before any is written, as `out` may be an operand
        for (int k = 0; k < N - 1; ++k) store(out + k * W, product(k * W));
        store(out + p.n - W, end);
    };
    Vec<T> sums[W];
    T dots[W];
    // The last register of a row may reach into the next one.
    if (p.y.stride >= p.n && p.grad.stride >= p.n)
        for (; p.rows > W; p.skip(W)) {
            for (int i = 0; i < W; ++i) sums[i] = sum_of(i, std::true_type{});
            store(dots, sum_across_plainly(sums, W));
            if constexpr (N * W <= 16) {
                for (int i = 0; i < W; ++i) write_row(i, dots[i]);
            } else {  // not unrolled, as more would be kept than there are registers
#pragma GCC unroll 1
                for (int i = 0; i < W; ++i) write_row(i, dots[i]);
            }
        }
    for (; p.rows > 0; p.skip(W)) {
        const int group = int(std::min(W, p.rows));
        for (int i = 0; i < group; ++i) sums[i] = sum_of(i, std::false_type{});
        store(dots, sum_across_plainly(sums, group));
        for (int i = 0; i < group; ++i) write_row(i, dots[i]);
    }
}

// Of LANES entries or more.
template <class T> CSOFTMAX_APART void multiply_any_rows(RowsOfProduct<T> p) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    const std::ptrdiff_t row = p.n * sizeof(T), together = (p.ahead != 0 ? FETCHED<T> : CACHED) / row;
    const std::ptrdiff_t most = std::max<std::ptrdiff_t>(1, std::min(W, together));
    struct Two {
        Vec<T> y, grad;
    };
    for (; p.rows > 0; p.skip(most)) {
        const int group = int(std::min(most, p.rows));
        Exact<T> sums[W];
        for (int i = 0; i < group; ++i) {
            const T *y = p.y[i], *grad = p.grad[i];
            sums[i] = sum_of_blocks(y, p.n, [&](std::ptrdiff_t j, auto count, auto last) CSOFTMAX_INLINED {
                ask_ahead<decltype(count)::value>(p, y + j, grad + j);
                return block_of_products(y + j, grad + j, count, last);
            });
        }
        const Exact<T> sum = across_rows<PIECE<T>>(sums, group, add_any<T>);
        T high[W], low[W];
        store(high, sum.value);
        store(low, p.n <= PLAIN ? broadcast(T(0)) : sum.error);
        for (int i = 0; i < group; ++i) {
            const T *y = p.y[i], *grad = p.grad[i];
            T* out = p.out[i];
            const Vec<T> value = broadcast(high[i]), error = broadcast(low[i]);
            for_registers(
                out, p.n, p.streamed,
                [&](std::ptrdiff_t j, auto part) CSOFTMAX_INLINED {
                    return Two{load(y + j, part, T(0)), load(grad + j, part, T(0))};
                },
                [&](std::ptrdiff_t j, const auto& some, auto part) CSOFTMAX_INLINED {
                    ask_ahead(p, out + j, std::size(some) * W * sizeof(T));
                    for (std::size_t k = 0; k < std::size(some); ++k)
                        store(out + j + k * W, some[k].y * ((some[k].grad - error) - value), part);
                });
        }
    }
    if (p.streamed) end_stream();
}

template <int N, class T, int... k>
CSOFTMAX_INLINE void write_dense_group(const T* y, const T* grad, Vec<T> dots, T* out,
                                       std::integer_sequence<int, k...>) {
    constexpr int W = Vec<T>::LANES;
    (store(out + k * W, load(y + k * W) * (load(grad + k * W) - lanes_of_rows<N, k * W>(dots))), ...);
}
// Of N < LANES entries, one after the other, in groups of LANES rows and N registers.
template <int N, class T> CSOFTMAX_INLINE void multiply_dense_group(const T* y, const T* grad, T* out) {
    constexpr int W = Vec<T>::LANES;
    constexpr bool PIECES = CAN_TRANSPOSE<T> && N <= PIECE<T>;  // of several rows to a register, or one row,
    constexpr int COUNT = PIECES ? PIECE<T> : W;                // either way reaching into the next ones
    const Vec<T> zero = broadcast(T(0));
    const auto within = broadcast(T(N)) > numbers_of_lanes<T, COUNT>();
    const auto register_of = [&](const T* row) CSOFTMAX_INLINED {
        if constexpr (PIECES)
            return load_rows<T>(reinterpret_cast<const char*>(row), COUNT * N * sizeof(T));
        else
            return load(row);
    };
    Single<T> sums[COUNT];
    for (int i = 0; i < COUNT; ++i) {
        const Vec<T> product = fma(register_of(y + i * N), register_of(grad + i * N), zero);
        sums[i] = {N < COUNT ? choose(within, product, zero) : product};
    }
    Single<T> dots;
    if constexpr (PIECES)
        dots = across_some<COUNT / 2>(sums, COUNT, add_single<T>);
    else
        dots = across_rows<PIECE<T>>(sums, W, add_single<T>);
    write_dense_group<N>(y, grad, dots.v, out, std::make_integer_sequence<int, N>{});
}
template <int N, class T> CSOFTMAX_APART void multiply_dense_rows(RowsOfProduct<T> p) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, GROUP = N * W;
    constexpr std::ptrdiff_t REACHED = W - 1 + (W + N - 1) / N;  // rows, by those of a group
    for (; p.rows >= REACHED; p.skip(W)) {
        ask_ahead<N>(p, p.y[0], p.grad[0]);
        ask_ahead(p, p.out[0], GROUP * sizeof(T));
        multiply_dense_group<N>(p.y[0], p.grad[0], p.out[0]);
    }
    // Beyond the last rows there may be nothing, or another thread at work.
    T y[2 * GROUP + W], grad[2 * GROUP + W], out[2 * GROUP];
    const std::ptrdiff_t rest = p.rows * N;
    for (std::ptrdiff_t j = 0; j < 2 * GROUP + W; ++j) {
        y[j] = j < rest ? p.y[0][j] : T(0);
        grad[j] = j < rest ? p.grad[0][j] : T(0);
    }
    for (std::ptrdiff_t j = 0; j < rest; j += GROUP) multiply_dense_group<N>(y + j, grad + j, out + j);
    for (std::ptrdiff_t j = 0; j < rest; ++j) p.out[0][j] = out[j];
}

// Whether the rows of a product can be multiplied like this, all operands holding neighbouring classes side by
// side.
template <class T> inline bool multiplies_rows(const T*, const Problem& p) {
    constexpr int W = Vec<T>::LANES;
    const std::ptrdiff_t row = p.n * sizeof(T);
    const bool dense = p.x.lane_stride == row && p.y.lane_stride == row && p.out.lane_stride == row;
    return W > 1 && 0 < p.n && p.n <= CHUNK && (p.n >= W || dense);
}
// The rows lane <= i < lane + lanes.
template <class T>
inline void multiply_rows(const T*, const Problem& problem, std::ptrdiff_t lane, std::ptrdiff_t lanes) {
    const auto rows_of = [&](auto* entry, const View& view) {
        using Entry = std::remove_pointer_t<decltype(entry)>;
        return Rows<Entry>{reinterpret_cast<Entry*>(view.data + lane * view.lane_stride),
                           view.lane_stride / std::ptrdiff_t(sizeof(T))};
    };
    constexpr int W = Vec<T>::LANES;
    const T* input = nullptr;
    T* result = nullptr;
    const RowsOfProduct<T> p = {rows_of(input, problem.x), rows_of(input, problem.y), rows_of(result, problem.out),
                                problem.n, lanes, problem.ahead, problem.streamed, problem.outgoing};
    if constexpr (W > 1) {
        if (p.n < W)
            with_count<1, W - 1>(p.n, [&](auto count) { multiply_dense_rows<count.value>(p); });
        else if (p.n <= PLAIN && p.n <= MOST_REGISTERS * W)
            with_count<1, MOST_REGISTERS>((p.n + W - 1) / W, [&](auto count) { multiply_rows_of<count.value>(p); });
        else
            multiply_any_rows(p);
    }
}

}  // namespace csoftmax
