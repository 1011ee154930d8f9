// product.hpp - matrix products: out = a b or out += a b, with a (m, k), b (k, n), out (m, n).
//
// A tile of out, TILE_ROWS x PANEL, stays in registers while entries of a are broadcast against a
// panel of b. Panels are packed: DEPTH rows of b and as many columns as the second cache takes. a
// is read where it is if its entries are neighbours along rows or columns. After Goto and van de Geijn, Anatomy of high-performance matrix multiplication, ACM
// Trans. Math. Softw. 34 (2008). Terms are added in order of k, DEPTH of them at a time, so that an
// entry of out has the same bits for any number of threads.
#pragma once

#include <algorithm>

#include "simd.hpp"

namespace csoftmax {

template <class T> struct Matrix {
    T* data;
    std::ptrdiff_t rows, columns, row_stride, column_stride;  // strides in entries
    // At most m rows and n columns of it.
    Matrix part(std::ptrdiff_t row, std::ptrdiff_t column, std::ptrdiff_t m,
                std::ptrdiff_t n) const {
        return {data + row * row_stride + column * column_stride, std::min(m, rows - row),
                std::min(n, columns - column), row_stride, column_stride};
    }
};

// A tile, a row of b and one entry of a take all registers: 32 with AVX-512 and NEON, else 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILE_ROWS = 14;
#else
constexpr int TILE_ROWS = 6;
#endif
constexpr int TILE_VECTORS = 2;
template <class T> constexpr int PANEL = TILE_VECTORS * Vec<T>::LANES;
constexpr std::ptrdiff_t DEPTH = 512;
constexpr std::ptrdiff_t PANELS_BYTES = 524288;         // of packed panels, for each thread
template <class T> constexpr std::ptrdiff_t ROW_ROOM = DEPTH + 64 / sizeof(T);
constexpr std::ptrdiff_t WAY_BYTES = 4096;  // rows so far apart meet in one set of the first cache
constexpr std::ptrdiff_t NARROW_BYTES = 256;  // rows of b that need no packing: few panels

// b in panels of [row][PANEL], one behind the other, with zeros behind the last column.
template <class T> void pack_panels(const Matrix<T>& b, T* panels) {
    constexpr std::ptrdiff_t P = PANEL<T>, AHEAD = 16;  // rows: they come from memory
    const std::ptrdiff_t whole = b.columns / P * P;
    if (whole < b.columns) std::fill_n(panels + whole * b.rows, P * b.rows, T(0));
    if (b.column_stride == 1) {
        for (std::ptrdiff_t k = 0; k < b.rows; ++k) {
            const T* from = b.data + k * b.row_stride;
            T* to = panels + k * P;
            for (std::ptrdiff_t j = 0; j < whole; j += P) {
                prefetch(from + j, AHEAD * b.row_stride * sizeof(T));
                prefetch(from + j + P - 1, AHEAD * b.row_stride * sizeof(T));
                std::memcpy(to + j * b.rows, from + j, P * sizeof(T));
            }
            std::copy(from + whole, from + b.columns, to + whole * b.rows);
        }
        return;
    }
    for (std::ptrdiff_t j = 0; j < b.columns; ++j) {
        const T* from = b.data + j * b.column_stride;
        T* to = panels + j / P * P * b.rows + j % P;
        for (std::ptrdiff_t k = 0; k < b.rows; ++k) to[k * P] = from[k * b.row_stride];
    }
}

// TILE_ROWS rows of a at most, as they lie but closer together, with zeros behind the last.
template <class T> Matrix<T> copy_rows(const Matrix<T>& a, T* to) {
    for (std::ptrdiff_t r = 0; r < TILE_ROWS; ++r) {
        if (r < a.rows)
            std::memcpy(to + r * ROW_ROOM<T>, a.data + r * a.row_stride, a.columns * sizeof(T));
        else
            std::fill_n(to + r * ROW_ROOM<T>, a.columns, T(0));
    }
    return {to, TILE_ROWS, a.columns, ROW_ROOM<T>, 1};
}

// The same in [column][TILE_ROWS].
template <class T> Matrix<T> pack_rows(const Matrix<T>& a, T* to) {
    for (std::ptrdiff_t k = 0; k < a.columns; ++k)
        for (std::ptrdiff_t r = 0; r < TILE_ROWS; ++r)
            to[k * TILE_ROWS + r] =
                r < a.rows ? a.data[k * a.column_stride + r * a.row_stride] : T(0);
    return {to, TILE_ROWS, a.columns, 1, TILE_ROWS};
}

// out (TILE_ROWS, PANEL) = a (TILE_ROWS, depth) b (depth, PANEL), or += that.
template <class T>
CSOFTMAX_APART void multiply_tile(const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& out,
                                  bool add) {
    constexpr int W = Vec<T>::LANES, R = TILE_ROWS, V = TILE_VECTORS, Q = (R + 3) / 4;
    Vec<T> sum[R][V];
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) sum[r][v] = broadcast(T(0));
        prefetch_to_write(out.data + r * out.row_stride);
        prefetch_to_write(out.data + r * out.row_stride + PANEL<T> - 1);
    }
    const T* four[Q];  // every fourth row: x86 reaches the others from there with two registers
    for (int q = 0; q < Q; ++q) four[q] = a.data + 4 * q * a.row_stride;
    const std::ptrdiff_t row = a.row_stride, third = 3 * row;
    const T* at_b = b.data;
    for (std::ptrdiff_t k = 0; k < a.columns; ++k, at_b += b.row_stride) {
        Vec<T> some[V];
        for (int v = 0; v < V; ++v) some[v] = load(at_b + v * W);
        prefetch(four[R / 4], 64);  // the next tile's, if rows are neighbours
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const Vec<T> s = broadcast(four[r / 4][r % 4 == 3 ? third : r % 4 * row]);
            for (int v = 0; v < V; ++v) sum[r][v] = fma(s, some[v], sum[r][v]);
        }
        for (int q = 0; q < Q; ++q) four[q] += a.column_stride;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
            T* at = out.data + r * out.row_stride + v * W;
            store(at, add ? sum[r][v] + load(at) : sum[r][v]);
        }
}

// The tiles of a group of rows. a has TILE_ROWS of them, out those that there are; panels of b are
// `step` entries apart.
template <class T>
void multiply_rows(const Matrix<T>& a, Matrix<T> b, std::ptrdiff_t step, const Matrix<T>& out,
                   bool add) {
    constexpr int P = PANEL<T>;
    for (std::ptrdiff_t j = 0; j < out.columns; j += P, b.data += step) {
        const Matrix<T> to = out.part(0, j, TILE_ROWS, P);
        if (to.rows == TILE_ROWS && to.columns == P) {
            multiply_tile(a, b, to, add);
            continue;
        }
        T tile[TILE_ROWS * P];
        multiply_tile(a, b, {tile, TILE_ROWS, P, P, 1}, false);
        for (std::ptrdiff_t r = 0; r < to.rows; ++r)
            for (std::ptrdiff_t i = 0; i < to.columns; ++i) {
                T& at = to.data[r * to.row_stride + i];
                at = add ? tile[r * P + i] + at : tile[r * P + i];
            }
    }
}

// Entries that one thread needs for its panels and its rows.
template <class T> constexpr std::ptrdiff_t product_scratch(const T*) {
    return PANELS_BYTES / std::ptrdiff_t(sizeof(T)) + ROW_ROOM<T> * TILE_ROWS;
}

// Whether tiles read these rows of a where they are.
template <class T> bool rows_in_place(const Matrix<T>& a) {
    if (a.rows < TILE_ROWS) return false;
    const std::ptrdiff_t bytes = sizeof(T);
    return (a.column_stride == 1 && a.row_stride * bytes % WAY_BYTES != 0) ||
           (a.row_stride == 1 && a.column_stride * bytes % WAY_BYTES != 0);
}

// The whole product by one thread; columns of out have stride 1.
template <class T>
void multiply(const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& out, bool add, T* scratch) {
    constexpr std::ptrdiff_t R = TILE_ROWS, P = PANEL<T>, ITEM = sizeof(T);
    const std::ptrdiff_t terms = std::max<std::ptrdiff_t>(1, a.columns);  // once to write zeros
    const std::ptrdiff_t depth = std::min(DEPTH, terms);
    const std::ptrdiff_t width = PANELS_BYTES / ITEM / depth / P * P;
    const bool packs =
        b.column_stride != 1 || b.columns % P > 0 || b.row_stride * ITEM > NARROW_BYTES;
    T* const copy = scratch + PANELS_BYTES / ITEM;
    for (std::ptrdiff_t j = 0; j < out.columns; j += width)
        for (std::ptrdiff_t k = 0; k < terms; k += depth) {
            Matrix<T> panels = b.part(k, j, depth, width);
            if (packs) {
                pack_panels(panels, scratch);
                panels = {scratch, panels.rows, panels.columns, P, 1};
            }
            const std::ptrdiff_t step = packs ? panels.rows * P : P;
            for (std::ptrdiff_t i = 0; i < out.rows; i += R) {
                const Matrix<T> rows = a.part(i, k, R, depth);
                multiply_rows(rows_in_place(rows) ? rows
                              : a.column_stride == 1 ? copy_rows(rows, copy)
                                                     : pack_rows(rows, copy),
                              panels, step, out.part(i, j, R, width), add || k > 0);
            }
        }
}

// Part `number` of `parts` of the product: of the longer side of out, in whole tiles.
template <class T>
void multiply_part(const Matrix<T>& a, const Matrix<T>& b, const Matrix<T>& out, bool add,
                   std::ptrdiff_t number, std::ptrdiff_t parts, T* scratch) {
    const bool by_rows = out.rows >= out.columns;
    const std::ptrdiff_t unit = by_rows ? TILE_ROWS : PANEL<T>;
    const std::ptrdiff_t tiles = ((by_rows ? out.rows : out.columns) + unit - 1) / unit;
    const std::ptrdiff_t first = tiles * number / parts * unit;
    const std::ptrdiff_t size = tiles * (number + 1) / parts * unit - first;
    if (by_rows)
        multiply(a.part(first, 0, size, a.columns), b, out.part(first, 0, size, out.columns), add,
                 scratch);
    else
        multiply(a, b.part(0, first, b.rows, size), out.part(0, first, out.rows, size), add,
                 scratch);
}

}  // namespace csoftmax
