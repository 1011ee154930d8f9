// tile.hpp - between the caller's memory and the dense tile that the kernels compute on.
//
// A tile holds one chunk of a View (problem.hpp) in one of two forms:
//   row form (width 1):  one row, tile[j], padded with `fill` to whole registers;
//   column form:         `width` rows side by side, tile[j * width + lane], lanes beyond padded.
// Strides, masks, float16, transposition and ragged ends are settled here and nowhere else.
#pragma once

#include "problem.hpp"
#include "summation.hpp"

namespace csoftmax {

constexpr int MAX_LANES = 128;  // rows side by side in a group

constexpr std::ptrdiff_t round_up(std::ptrdiff_t n, std::ptrdiff_t unit) {
    return (n + unit - 1) / unit * unit;
}

// Calls visit(pointer into the view, pointer into its mask, index into the tile) for `lanes` rows
// from `lane` on and the classes j0 <= j < j1, walking memory in its own order.
template <class Visit>
CSOFTMAX_INLINE void walk(const View& view, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                          std::ptrdiff_t j0, std::ptrdiff_t j1, std::ptrdiff_t width,
                          Visit visit) {
    char* data = view.data + lane * view.lane_stride + j0 * view.class_stride;
    const char* mask = view.mask;
    if (mask) mask += lane * view.mask_lane_stride + j0 * view.mask_class_stride;
    auto one = [&](std::ptrdiff_t i, std::ptrdiff_t j) {
        visit(data + i * view.lane_stride + j * view.class_stride,
              mask + i * view.mask_lane_stride + j * view.mask_class_stride, j * width + i);
    };
    const std::ptrdiff_t n = j1 - j0;
    if (lanes == 1)
        for (std::ptrdiff_t j = 0; j < n; ++j) one(0, j);
    else if (lanes_adjacent(view))
        for (std::ptrdiff_t j = 0; j < n; ++j)
            for (std::ptrdiff_t i = 0; i < lanes; ++i) one(i, j);
    else
        for (std::ptrdiff_t i = 0; i < lanes; ++i)
            for (std::ptrdiff_t j = 0; j < n; ++j) one(i, j);
}

// Classes from the one that is moved to the one that is asked for: the processor does not foresee
// strides beyond a page. Strides of a power of 2 leave room for eight cache lines or so. Of fewer than
// MANY classes the lanes behind these are asked for, which the next group will move.
// Short rows that lie one after the other are asked for NEXT bytes ahead.
constexpr std::ptrdiff_t AHEAD = 6, MANY = 32, NEXT = 2048;

// Whether contiguous rows of n entries can be moved to or from column form LANES at a time: pieces
// of PIECE entries lie in one row, or reach into the next ones.
template <class T> inline bool transposable(const View& view, std::ptrdiff_t n) {
    const std::ptrdiff_t size = sizeof(T);
    return n > 0 && plain(view, view.class_stride, size) &&
           (n >= PIECE<T> || view.lane_stride == n * size);
}

// One block: `columns` registers of the tile and pieces of LANES rows, either way.
template <bool back, class T>
CSOFTMAX_INLINE void transpose_block(T* tile, std::ptrdiff_t width, char* rows,
                                     std::ptrdiff_t lane_stride, int columns) {
    constexpr int C = PIECE<T>;
    Vec<T> v[C];
    for (int k = 0; k < C; ++k)
        if (back)
            v[k] = k < columns ? load(tile + k * width) : broadcast(T(0));
        else
            v[k] = load_rows<T>(rows + k * lane_stride, C * lane_stride);
    transpose(v);
    if (back) {  // in order: where pieces reach into the next rows, those have the last word
        for (int i = 0; i < Vec<T>::LANES; ++i)
            store_piece(rows + i * lane_stride, v[i % C], i / C);
    } else {
        for (int k = 0; k < C; ++k)
            if (k < columns) store(tile + k * width, v[k]);
    }
}

// tile[j * width + lane] <- row[lane][j], and back, for `lanes` rows (a multiple of LANES). Where n
// is no multiple of PIECE the last blocks overlap.
template <bool back, class T>
inline void transpose_rows(T* tile, const View& view, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                           std::ptrdiff_t j0, std::ptrdiff_t n, std::ptrdiff_t width) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, C = PIECE<T>, BLOCK_BYTES = C * W * sizeof(T);
    const std::ptrdiff_t stride = view.lane_stride;
    const char* end = view.data + (lane + lanes) * stride;
    const bool more = ahead_of(view, end, NEXT) != 0;
    const std::ptrdiff_t two_blocks = ahead_of(view, end, 2 * W * stride);
    for (std::ptrdiff_t i = 0; i < lanes; i += W) {
        char* rows = view.data + (lane + i) * stride + j0 * sizeof(T);
        if (more && n <= FEW && stride == n * std::ptrdiff_t(sizeof(T)))  // what is next in memory
            for (std::ptrdiff_t k = 0; k < W * stride; k += 64)
                back ? prefetch_to_write(rows + k, NEXT) : prefetch(rows + k, NEXT);
        if (n >= C) {
            for (std::ptrdiff_t j = 0; j < n; j += C) {
                if (n > FEW)
                    for (std::ptrdiff_t k = 0; k < BLOCK_BYTES; k += 64)
                        prefetch(rows, two_blocks + j * W * std::ptrdiff_t(sizeof(T)) + k);
                if (j + C > n) j = n - C;
                transpose_block<back>(tile + j * width + i, width, rows + j * sizeof(T), stride,
                                      int(C));
            }
        } else if (i + W < lanes) {
            transpose_block<back>(tile + i, width, rows, stride, int(n));
        } else {  // beyond the last rows there may be nothing, or another thread at work
            T copy[C * W];
            T* memory = reinterpret_cast<T*>(rows);
            for (std::ptrdiff_t k = 0; k < C; ++k)
                store(copy + k * W, k < n && !back ? load(memory + k * W) : broadcast(T(0)));
            transpose_block<back>(tile + i, width, reinterpret_cast<char*>(copy), stride, int(n));
            for (std::ptrdiff_t k = 0; k < n && back; ++k) store(memory + k * W, load(copy + k * W));
        }
    }
}

// Calls visit(view of a run, its first class there and behind its last, its first class here) for
// each of the runs that the classes j0 <= j < j1 lie in.
template <class Visit>
CSOFTMAX_INLINE void for_runs(const View& view, std::ptrdiff_t j0, std::ptrdiff_t j1, Visit visit) {
    if (view.run == 0) {
        visit(view, j0, j1, j0);
        return;
    }
    for (std::ptrdiff_t j = j0, end; j < j1; j = end) {
        const std::ptrdiff_t number = j / view.run, first = j - number * view.run;
        View run = view;
        run.run = 0;
        std::ptrdiff_t rest = number;
        for (int axis = 2; axis >= 0; --axis) {
            run.data += rest % view.run_count[axis] * view.run_stride[axis];
            rest /= view.run_count[axis];
        }
        end = j1 < (number + 1) * view.run ? j1 : (number + 1) * view.run;
        visit(run, first, first + (end - j), j);
    }
}

// Neighbouring lanes of one class, mostly whole registers: too few for the library's memcpy.
template <class T> CSOFTMAX_INLINE void copy_lanes(T* to, const T* from, std::ptrdiff_t lanes) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES;
    std::ptrdiff_t i = 0;
    for (; i + W <= lanes; i += W) store(to + i, load(from + i));
    if (i < lanes) std::memcpy(to + i, from + i, (lanes - i) * sizeof(T));
}

// The bytes to what is asked for of n classes at `data`, `lanes` side by side.
CSOFTMAX_INLINE std::ptrdiff_t ahead_of_columns(const View& view, std::ptrdiff_t lanes, std::ptrdiff_t size,
                                                const char* data, std::ptrdiff_t n) {
    const std::ptrdiff_t run = lanes * size;
    return ahead_of(view, data + (n - 1) * view.class_stride + run, n < MANY ? run : AHEAD * view.class_stride);
}

template <class T>
inline void load_run(T* tile, const View& view, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                      std::ptrdiff_t j0, std::ptrdiff_t j1, std::ptrdiff_t width, T fill) {
    const std::ptrdiff_t n = j1 - j0;
    const std::ptrdiff_t size = sizeof(T);
    const bool few = n < MANY;  // no tile of many classes holds so few of them
    const char* data = view.data + lane * view.lane_stride + j0 * view.class_stride;
    const std::ptrdiff_t ahead = ahead_of_columns(view, lanes, size, data, n);
    if (view.mask) {
        walk(view, lane, lanes, j0, j1, width,
             [&](const char* p, const char* mask, std::ptrdiff_t at) {
                 tile[at] = *mask ? read<T>(p, view.half) : fill;
             });
    } else if (!view.half && width == 1 && view.class_stride == size) {
        std::memcpy(tile, data, n * size);
    } else if (!view.half && lanes > 1 && view.lane_stride == size) {
        for (std::ptrdiff_t j = 0; j < n; ++j) {
            const char* from = data + j * view.class_stride;
            for (std::ptrdiff_t k = 0; k < lanes * size; k += 64)
                few ? prefetch_to_second(from + k, ahead) : prefetch(from + k, ahead);
            copy_lanes(tile + j * width, reinterpret_cast<const T*>(from), lanes);
        }
    } else {
        std::ptrdiff_t done = 0;
        if constexpr (CAN_TRANSPOSE<T>)
            if (width > 1 && transposable<T>(view, n)) {
                done = lanes / Vec<T>::LANES * Vec<T>::LANES;
                transpose_rows<false>(tile, view, lane, done, j0, n, width);
            }
        walk(view, lane + done, lanes - done, j0, j1, width,
             [&](const char* p, const char*, std::ptrdiff_t at) {
                 tile[at + done] = read<T>(p, view.half);
             });
    }
}

template <class T>
inline void load_tile(T* tile, const View& view, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                      std::ptrdiff_t j0, std::ptrdiff_t j1, std::ptrdiff_t width, T fill) {
    const std::ptrdiff_t n = j1 - j0;
    if (width > 1 && lanes == 1 && plain(view, view.class_stride, view.class_stride)) {
        // one row in all lanes: registers that are written whole are soon loaded again
        const char* from = view.data + lane * view.lane_stride + j0 * view.class_stride;
        for (std::ptrdiff_t j = 0; j < n; ++j, from += view.class_stride)
            for (std::ptrdiff_t i = 0; i < width; i += Vec<T>::LANES)
                store(tile + j * width + i, broadcast(read<T>(from, false)));
    } else {
        if (width == 1)
            for (std::ptrdiff_t j = n; j < round_up(n, Vec<T>::LANES); ++j) tile[j] = fill;
        else if (lanes < width)
            for (std::ptrdiff_t j = 0; j < n; ++j)
                for (std::ptrdiff_t i = lanes; i < width; ++i) tile[j * width + i] = fill;

        for_runs(view, j0, j1, [&](const View& run, std::ptrdiff_t a, std::ptrdiff_t b, std::ptrdiff_t j) {
            load_run(tile + (j - j0) * width, run, lane, lanes, a, b, width, fill);
        });
    }
    if (view.temperature != 1) {
        const T temperature = T(view.temperature);
        for (std::ptrdiff_t i = 0; i < n * width; ++i) tile[i] /= temperature;
    }
}

// Entries that the mask leaves out become `fill`.
template <class T>
inline void store_run(const T* tile, const View& view, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                       std::ptrdiff_t j0, std::ptrdiff_t j1, std::ptrdiff_t width, T fill) {
    const std::ptrdiff_t n = j1 - j0;
    const std::ptrdiff_t size = sizeof(T);
    char* data = view.data + lane * view.lane_stride + j0 * view.class_stride;
    const std::ptrdiff_t ahead = ahead_of_columns(view, lanes, size, data, n);
    if (view.mask) {
        walk(view, lane, lanes, j0, j1, width,
             [&](char* p, const char* mask, std::ptrdiff_t at) {
                 write<T>(p, *mask ? tile[at] : fill, view.half);
             });
    } else if (!view.half && width == 1 && view.class_stride == size) {
        std::memcpy(data, tile, n * size);
    } else if (!view.half && lanes > 1 && view.lane_stride == size) {
        for (std::ptrdiff_t j = 0; j < n; ++j) {
            char* to = data + j * view.class_stride;
            for (std::ptrdiff_t k = 0; k < lanes * size; k += 64) prefetch_to_write(to + k, ahead);
            copy_lanes(reinterpret_cast<T*>(to), tile + j * width, lanes);
        }
    } else {
        std::ptrdiff_t done = 0;
        if constexpr (CAN_TRANSPOSE<T>)
            if (width > 1 && transposable<T>(view, n)) {
                done = lanes / Vec<T>::LANES * Vec<T>::LANES;
                transpose_rows<true>(const_cast<T*>(tile), view, lane, done, j0, n, width);
            }
        walk(view, lane + done, lanes - done, j0, j1, width,
             [&](char* p, const char*, std::ptrdiff_t at) {
                 write<T>(p, tile[at + done], view.half);
             });
    }
}

template <class T>
inline void store_tile(const T* tile, const View& view, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                       std::ptrdiff_t j0, std::ptrdiff_t j1, std::ptrdiff_t width, T fill) {
    for_runs(view, j0, j1, [&](const View& run, std::ptrdiff_t a, std::ptrdiff_t b, std::ptrdiff_t j) {
        store_run(tile + (j - j0) * width, run, lane, lanes, a, b, width, fill);
    });
}

// Turns a tile of target probabilities into the weights of the classes in the loss:
//   w_j = class_weight_j (scale * t_j + offset)
template <class T>
inline void weigh_targets(T* tile, const View& class_weight, std::ptrdiff_t j0, std::ptrdiff_t j1,
                          std::ptrdiff_t width, T scale, T offset) {
    const std::ptrdiff_t n = (j1 - j0) * width, size = sizeof(T);
    const T* weights = reinterpret_cast<const T*>(class_weight.data);
    if (n == 0) return;                    // without classes there are no weights
    if (class_weight.class_stride == 0) {  // one weight for all, or none
        const T c = *weights;
        if (c == 1 && scale == 1 && offset == 0) return;
        for (std::ptrdiff_t i = 0; i < n; ++i) tile[i] = c * (scale * tile[i] + offset);
    } else if (width == 1 && class_weight.class_stride == size) {
        for (std::ptrdiff_t i = 0; i < n; ++i)
            tile[i] = weights[j0 + i] * (scale * tile[i] + offset);
    } else {
        for (std::ptrdiff_t j = j0; j < j1; ++j) {
            const T c = read<T>(class_weight.data + j * class_weight.class_stride, false);
            T* row = tile + (j - j0) * width;
            for (std::ptrdiff_t i = 0; i < width; ++i) row[i] = c * (scale * row[i] + offset);
        }
    }
}

// Rows of `out` <- those of x, divided by the temperature; both hold their classes side by side.
template <class T>
CSOFTMAX_APART void divide_rows(const T*, const Problem& p, std::ptrdiff_t lane, std::ptrdiff_t lanes) {
    constexpr std::ptrdiff_t W = Vec<T>::LANES, size = sizeof(T);
    const T temperature = T(p.x.temperature);
    for (std::ptrdiff_t i = lane; i < lane + lanes; ++i) {
        const char* x = p.x.data + i * p.x.lane_stride;
        char* out = p.out.data + i * p.out.lane_stride;
        std::ptrdiff_t j = 0;
        for (; j + W <= p.n; j += W, x += W * size, out += W * size) {
            const Vec<T> some = load(reinterpret_cast<const T*>(x));
            store(reinterpret_cast<T*>(out), some / broadcast(temperature));
        }
        for (; j < p.n; ++j, x += size, out += size) write(out, read<T>(x, false) / temperature, false);
    }
}

// `lane_sums`: those of a group, in `some` or in the memory of a wider one. `packed`: if there is such memory, all
// classes of a group in column form, or terms of a long row. `kept_from`: the first class whose term is kept, in
// row form.
template <class T> struct alignas(64) Scratch {
    T tiles[2][4096];
    Exact<T> some[3][MAX_LANES];
    LaneSums<T> lane_sums = {some[0], some[1], some[2]};
    T* packed = nullptr;
    std::ptrdiff_t kept_from = 0;
};

}  // namespace csoftmax
