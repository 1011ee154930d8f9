// column_results.hpp - the loops that write the results of rows side by side, a register of them for each class.
#pragma once

#include "loops.hpp"

namespace csoftmax {

// out_j <- what compute(registers, j) makes of x_j in their place, for M registers of rows side by side. Lines
// that are not streamed are asked for AHEAD classes before: the processor does not foresee such strides.
template <int M, class How, class T, class Compute>
CSOFTMAX_INLINE void write_some_columns(const T* x, std::ptrdiff_t stride, T* out,
                                        std::ptrdiff_t out_stride, std::ptrdiff_t steps, How how,
                                        Compute compute) {
    constexpr int W = Vec<T>::LANES, CLASSES = TOGETHER / M;
    constexpr std::ptrdiff_t AHEAD = 6;
    std::ptrdiff_t j = 0;
    auto write_classes = [&](auto classes) CSOFTMAX_INLINED {
        constexpr int N = decltype(classes)::value * M;
        Vec<T> some[N];
        for (int i = 0; i < N; ++i) some[i] = load(x + i / M * stride + i % M * W);
        compute(some, j);
        const std::ptrdiff_t ahead = std::min(AHEAD, steps - 1 - j - (N - 1) / M) * out_stride * sizeof(T);
        for (int i = 0; i < N; ++i) {
            T* to = out + i / M * out_stride + i % M * W;
            if (std::is_same<How, Full>::value) prefetch_to_write(to, ahead);
            store(to, some[i], how);
        }
        j += N / M;
        x += N / M * stride;
        out += N / M * out_stride;
    };
    while (j + CLASSES <= steps) write_classes(std::integral_constant<int, CLASSES>{});
    while (j < steps) write_classes(std::integral_constant<int, 1>{});
}
// write(how to store, registers of rows side by side, the first of them) for all `vectors` of these.
template <int M, class Write>
CSOFTMAX_INLINE void for_columns(std::ptrdiff_t vectors, bool streamed, Write write) {
    for_some<M>(vectors, [&](auto count, std::ptrdiff_t v) CSOFTMAX_INLINED {
        streamed ? write(Streamed{}, count, v) : write(Full{}, count, v);
    });
}

// out_j <- e_j / sum; `kept`: x holds the terms e.
template <bool kept, class T>
CSOFTMAX_APART void divide_all_terms(const T* x, std::ptrdiff_t stride, T* out,
                                     std::ptrdiff_t out_stride, std::ptrdiff_t steps,
                                     const Row<T>* rows, std::ptrdiff_t vectors, bool streamed) {
    constexpr int W = Vec<T>::LANES;
    constexpr int N = kept ? TOGETHER : 2;
    for_columns<N>(vectors, streamed, [&](auto how, auto count, std::ptrdiff_t at) CSOFTMAX_INLINED {
        constexpr int M = decltype(count)::value;
        Divisor<T> divisors[M];
        Anchor<T> anchors[M];
        for (int v = 0; v < M; ++v) {
            divisors[v] = rows[at + v].divisor;
            anchors[v] = rows[at + v].anchor;
        }
        write_some_columns<M>(x + at * W, stride, out + at * W, out_stride, steps, how,
                              [&](auto& e, std::ptrdiff_t) CSOFTMAX_INLINED {
                                  if (!kept) terms(e, anchors, e);
                                  for (std::size_t i = 0; i < std::size(e); ++i)
                                      e[i] = divide(e[i], divisors[i % M]);
                              });
    });
}
template <class T>
CSOFTMAX_INLINE void divide_terms(const T* x, std::ptrdiff_t stride, T* out,
                                  std::ptrdiff_t out_stride, std::ptrdiff_t steps, bool kept,
                                  const Row<T>* rows, std::ptrdiff_t vectors, bool streamed) {
    if (kept)
        divide_all_terms<true>(x, stride, out, out_stride, steps, rows, vectors, streamed);
    else
        divide_all_terms<false>(x, stride, out, out_stride, steps, rows, vectors, streamed);
}

// out_j <- (x_j - max) - log(sum(exp(x - max)))
template <class T>
CSOFTMAX_APART void write_log_softmax(const T* x, std::ptrdiff_t stride, T* out,
                                      std::ptrdiff_t out_stride, std::ptrdiff_t steps,
                                      const Row<T>* rows, std::ptrdiff_t vectors, bool streamed) {
    constexpr int W = Vec<T>::LANES;
    for_columns<TOGETHER>(vectors, streamed, [&](auto how, auto count, std::ptrdiff_t at) CSOFTMAX_INLINED {
        constexpr int M = decltype(count)::value;
        Vec<T> maxima[M], offsets[M];
        for (int v = 0; v < M; ++v) {
            maxima[v] = rows[at + v].max;
            offsets[v] = rows[at + v].offset;
        }
        write_some_columns<M>(x + at * W, stride, out + at * W, out_stride, steps, how,
                              [&](auto& some, std::ptrdiff_t) CSOFTMAX_INLINED {
                                  for (std::size_t i = 0; i < std::size(some); ++i)
                                      some[i] = (some[i] - maxima[i % M]) - offsets[i % M];
                              });
    });
}

// out_j <- y_j * (grad_j - sum(y * grad)), the sum in two words
template <class T>
CSOFTMAX_APART void write_products(const T* y, std::ptrdiff_t stride, const T* grad,
                                   std::ptrdiff_t grad_stride, T* out, std::ptrdiff_t out_stride,
                                   std::ptrdiff_t steps, const Row<T>* rows,
                                   std::ptrdiff_t vectors, bool streamed) {
    constexpr int W = Vec<T>::LANES;
    for_columns<TOGETHER>(vectors, streamed, [&](auto how, auto count, std::ptrdiff_t at) CSOFTMAX_INLINED {
        constexpr int M = decltype(count)::value;
        Exact<T> dot[M];
        for (int v = 0; v < M; ++v) dot[v] = rows[at + v].sum;
        write_some_columns<M>(
            y + at * W, stride, out + at * W, out_stride, steps, how,
            [&](auto& some, std::ptrdiff_t j) CSOFTMAX_INLINED {
                for (std::size_t i = 0; i < std::size(some); ++i) {
                    const Vec<T> g =
                        load(grad + (j + i / M) * grad_stride + (at + i % M) * W);
                    some[i] = some[i] * ((g - dot[i % M].error) - dot[i % M].value);
                }
            });
    });
}

// Cross-entropy: out_j <- (p_j sum(w) - w_j) scale; the entry at the label is set right afterwards. `kept`: x
// holds the terms.
template <bool kept, bool weighted, class T>
CSOFTMAX_APART void write_all_gradients(const T* x, std::ptrdiff_t stride, const Weights<T>& w, T* out,
                                        std::ptrdiff_t out_stride, std::ptrdiff_t steps,
                                        const Row<T>* rows, std::ptrdiff_t vectors, bool streamed) {
    constexpr int W = Vec<T>::LANES;
    constexpr std::ptrdiff_t AHEAD = 16;
    for_columns<2>(vectors, streamed, [&](auto how, auto count, std::ptrdiff_t at) CSOFTMAX_INLINED {
        constexpr int M = decltype(count)::value;
        Anchor<T> anchors[M];
        for (int v = 0; v < M; ++v) anchors[v] = rows[at + v].anchor;
        const Gradient<T> gradients[2] = {Gradient<T>(rows[at]), Gradient<T>(rows[at + M - 1])};
        static_assert(M <= 2, "registers of rows side by side");
        write_some_columns<M>(
            x + at * W, stride, out + at * W, out_stride, steps, how,
            [&](auto& e, std::ptrdiff_t j) CSOFTMAX_INLINED {
                constexpr int N = std::extent<std::remove_reference_t<decltype(e)>>::value;
                const std::ptrdiff_t ahead = std::min(AHEAD, steps - 1 - j - (N - 1) / M) * stride * sizeof(T);
                for (int i = 0; i < N && !kept; ++i)
                    prefetch(x + (j + i / M) * stride + (at + i % M) * W, ahead);
                if (!kept) terms(e, anchors, e);
                for (int i = 0; i < N; ++i) {
                    const Gradient<T>& gradient = gradients[i % M];
                    e[i] = weighted ? gradient.at(e[i], w.at(j + i / M, (at + i % M) * W))
                                    : gradient.at(e[i]);
                }
            });
    });
}
template <class T>
CSOFTMAX_INLINE void write_gradients(const T* x, std::ptrdiff_t stride, const Weights<T>& w, T* out,
                                     std::ptrdiff_t out_stride, std::ptrdiff_t steps, bool kept,
                                     bool weighted, const Row<T>* rows, std::ptrdiff_t vectors,
                                     bool streamed) {
    const auto write = [&](auto is_kept, auto is_weighted) {
        write_all_gradients<is_kept.value, is_weighted.value>(x, stride, w, out, out_stride, steps, rows,
                                                              vectors, streamed);
    };
    const std::true_type yes;
    const std::false_type no;
    if (kept)
        weighted ? write(yes, yes) : write(yes, no);
    else
        weighted ? write(no, yes) : write(no, no);
}

}  // namespace csoftmax
