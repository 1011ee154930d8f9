// few_columns.hpp - entries of few classes between memory and registers, in which each lane is a row.
#pragma once

#include <cstring>

#include "tile.hpp"

namespace csoftmax {

// Registers of rows, each class `stride` entries from the one before. `dense`: of rows that lie one after the other
// and are transposed on the way. Lines `ahead` bytes behind are asked for, of columns when they are written.
template <class T> struct Columns {
    T* data;
    std::ptrdiff_t stride, ahead;
    bool dense;

    // some[j * M + v]: class j of N, register v of M side by side.
    template <int N, int M> CSOFTMAX_INLINE void load(Vec<T> (&some)[N * M]) const {
        if (CAN_TRANSPOSE<T> && dense) {
            for (int v = 0; v < M; ++v) {
                Vec<T> classes[N];
                load_rows_of<N>(data + v * N * Vec<T>::LANES, classes);
                for (int j = 0; j < N; ++j) some[j * M + v] = classes[j];
            }
        } else {
            for (int i = 0; i < N * M; ++i)
                some[i] = csoftmax::load(data + i / M * stride + i % M * Vec<T>::LANES);
        }
    }
    template <int N, int M> CSOFTMAX_INLINE void store(const Vec<T> (&some)[N * M]) const {
        if (CAN_TRANSPOSE<T> && dense) {
            for (int v = 0; v < M; ++v) {
                Vec<T> classes[N];
                for (int j = 0; j < N; ++j) classes[j] = some[j * M + v];
                store_rows_of<N>(data + v * N * Vec<T>::LANES, classes);
            }
        } else {
            for (int i = 0; i < N * M; ++i) {  // each class is far from the next
                T* to = data + i / M * stride + i % M * Vec<T>::LANES;
                csoftmax::store(to, some[i]);
                prefetch_to_write(to, ahead);
            }
        }
    }
    // From register v on.
    template <int N> CSOFTMAX_INLINE Columns at(std::ptrdiff_t v) const {
        return {data + v * Vec<T>::LANES * (dense ? N : 1), stride, ahead, dense};
    }

private:
    template <int N> CSOFTMAX_INLINE void load_rows_of(const T* rows, Vec<T> (&classes)[N]) const {
        constexpr int W = Vec<T>::LANES, C = PIECE<T>;
        for (int k = 0; k < N * W; k += LINE_BYTES / sizeof(T)) prefetch(rows + k, ahead);
        if constexpr (!CAN_TRANSPOSE<T>) {
            return;
        } else if constexpr (PICKED<T, N>) {
            for (int k = 0; k < N; ++k) classes[k] = csoftmax::load(rows + k * W);
            transpose_whole<false>(classes);
        } else {
            for (int j = 0; j < N; j += C) {  // the last classes once more, if they do not fill a block
                const int first = j + C < N ? j : N - C;
                Vec<T> block[C];
                for (int k = 0; k < C; ++k)
                    block[k] = csoftmax::load_rows<T>(reinterpret_cast<const char*>(rows + k * N + first),
                                                      C * N * sizeof(T));
                transpose(block);
                for (int k = 0; k < C; ++k) classes[first + k] = block[k];
            }
        }
    }
    template <int N> CSOFTMAX_INLINE void store_rows_of(T* rows, Vec<T> (&classes)[N]) const {
        constexpr int W = Vec<T>::LANES, C = PIECE<T>;
        for (int k = 0; k < N * W; k += LINE_BYTES / sizeof(T)) prefetch_to_write(rows + k, ahead);
        if constexpr (!CAN_TRANSPOSE<T>) {
            return;
        } else if constexpr (PICKED<T, N>) {
            transpose_whole<true>(classes);
            for (int k = 0; k < N; ++k) csoftmax::store(rows + k * W, classes[k]);
        } else {
            for (int j = 0; j < N; j += C) {
                const int first = j + C < N ? j : N - C;
                Vec<T> block[C];
                for (int k = 0; k < C; ++k) block[k] = classes[first + k];
                transpose(block);
                for (int i = 0; i < W; ++i)
                    store_piece(reinterpret_cast<char*>(rows + i * N + first), block[i % C], i / C);
            }
        }
    }
};

// `whole` entries: those of a few rows, and then the fill.
template <class T>
inline void copy_and_fill(T* to, const void* rows, std::ptrdiff_t entries, std::ptrdiff_t whole, T fill) {
    for (std::ptrdiff_t i = 0; i < whole; i += Vec<T>::LANES) store(to + i, broadcast(fill));
    std::memcpy(to, rows, entries * sizeof(T));
}

// Whether rows of n entries lie one after the other, as Columns takes them.
template <class T> inline bool lie_dense(const T*, const View& view, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t size = sizeof(T);
    return CAN_TRANSPOSE<T> && plain(view, view.class_stride, size) && view.lane_stride == n * size &&
           view.temperature == 1;
}

}  // namespace csoftmax
