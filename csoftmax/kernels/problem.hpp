// problem.hpp - one call: its operands as Views, how they are cut up, and how single entries are read and written.
//
// A View is a matrix of rows ("lanes") x classes with any strides, float16 or the computing type T,
// with or without a mask.
#pragma once

#include <cstdlib>
#include <initializer_list>

#include "outgoing.hpp"

namespace csoftmax {

struct View {
    char* data;
    std::ptrdiff_t outer_stride, lane_stride, class_stride;  // bytes
    std::ptrdiff_t run;                        // classes one class_stride apart, 0: all; the runs
    std::ptrdiff_t run_count[3], run_stride[3];  // lie along up to three axes, the last one fastest
    bool half;                                 // float16 in memory
    const char* mask;                          // nullptr: all count
    std::ptrdiff_t mask_lane_stride, mask_class_stride;
    double temperature;  // what entries are divided by when they come into a tile
    std::uintptr_t end;  // behind the last entry of the whole operand, if known
};

// How far ahead of memory up to p lines are asked for: `bytes`, if the operand goes on for so long. Where it ends
// there may be no memory, and the search for each line takes longer than to compute what one holds.
CSOFTMAX_INLINE std::ptrdiff_t ahead_of(const View& view, const void* p, std::ptrdiff_t bytes) {
    return reinterpret_cast<std::uintptr_t>(p) + bytes <= view.end ? bytes : 0;
}

// Whether neighbours in memory belong to different rows.
inline bool lanes_adjacent(const View& view) {
    return std::abs(view.lane_stride) < std::abs(view.class_stride);
}

// Whether the kernels can work on the view's memory itself, `stride` being that of neighbours.
inline bool plain(const View& view, std::ptrdiff_t stride, std::ptrdiff_t size) {
    return !view.half && !view.mask && !view.run && stride == size;
}

inline float half_to_float(std::uint16_t h) {
    std::uint32_t magnitude = std::uint32_t(h & 0x7fff) << 13;
    float f;
    std::memcpy(&f, &magnitude, sizeof f);
    f *= 0x1p+112f;  // moves the exponent's bias from 15 to 127, subnormals included
    std::uint32_t b;
    std::memcpy(&b, &f, sizeof b);
    if ((h & 0x7c00) == 0x7c00) b = magnitude | 0x7f800000;  // inf and NaN
    b |= std::uint32_t(h & 0x8000) << 16;
    std::memcpy(&f, &b, sizeof f);
    return f;
}

inline std::uint16_t float_to_half(float f) {  // to nearest, ties to even
    std::uint32_t b;
    std::memcpy(&b, &f, sizeof b);
    std::uint16_t sign = std::uint16_t((b >> 16) & 0x8000);
    b &= 0x7fffffff;
    if (b > 0x7f800000) return sign | 0x7e00;   // NaN
    if (b >= 0x477ff000) return sign | 0x7c00;  // rounds to 65536 or more: inf
    if (b < 0x38800000) {                       // subnormal: 0.5 has their unit as its last bit
        float magnitude;
        std::memcpy(&magnitude, &b, sizeof b);
        magnitude += 0.5f;
        std::memcpy(&b, &magnitude, sizeof b);
        return sign | std::uint16_t(b - 0x3f000000);
    }
    b += 0xfff + ((b >> 13) & 1);
    return sign | std::uint16_t((b - (112u << 23)) >> 13);
}

template <class T> CSOFTMAX_INLINE T read(const char* p, bool half) {
    if (half) {
        std::uint16_t h;
        std::memcpy(&h, p, sizeof h);
        return T(half_to_float(h));
    }
    T x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

template <class T> CSOFTMAX_INLINE T read_like(const T*, const char* p, bool half) {
    return read<T>(p, half);
}

template <class T> CSOFTMAX_INLINE void write(char* p, T x, bool half) {
    if (half) {
        std::uint16_t h = float_to_half(float(x));
        std::memcpy(p, &h, sizeof h);
    } else {
        std::memcpy(p, &x, sizeof x);
    }
}

// One call: its operands, and how they are cut up.
struct Problem {
    View x;    // logits, probabilities or log-probabilities
    View y;    // second (lanes, n) operand: output gradient or target probabilities
    View out;  // (lanes, n), or (lanes,) with class_stride 0; data is nullptr if not asked for
    std::ptrdiff_t outer, lanes, n;  // `outer` matrices of lanes x n

    // cross-entropy
    const char *label, *scale;  // nullptr for probabilities; weights of the samples
    int label_kind;             // bytes of a label, negative if unsigned
    int scale_bytes;            // of a weight: float, double or long double
    long double factor;         // of all weights
    std::ptrdiff_t label_outer_stride, label_stride, scale_outer_stride, scale_stride;
    View class_weight;          // (n,)
    View loss;                  // (lanes,); of topk the indices, (lanes, count)
    double smoothing;
    std::int64_t ignore_index;

    std::ptrdiff_t count;  // how many of its classes, or samples of them, a row gives

    std::ptrdiff_t group;         // lanes of a group,
    std::ptrdiff_t head;          // and of one before all others, which begin at a line of the cache
    std::ptrdiff_t width;         // the same in column form, 1 in row form
    std::ptrdiff_t tile_classes;  // classes that a tile holds
    bool streamed;                // results go past the caches
    bool direct;                  // on the operands' own memory, no tile but for ragged ends
    bool wide;                    // columns along wide runs of rows, their sums in memory
    std::ptrdiff_t packed;        // entries of memory a thread for what no tile holds
    std::ptrdiff_t ahead;         // bytes from a row to that of the next group, to be prefetched;
    std::ptrdiff_t out_ahead;     // the same of its result, or 0
    std::ptrdiff_t aside;         // lanes of a part of a group whose results are written to memory aside first, or 0;
    Outgoing* outgoing;           // those of the part before, or nullptr
    int row_threads;              // threads for the chunks of one row
    bool piecewise;               // classes are summed piece by piece, against the maximum so far
    bool kept;                    // terms of pieces stay in the result, or are found once more
};

// Whether the classes of a loss have weights beside that of the label.
CSOFTMAX_INLINE bool has_weights(const Problem& p) { return !p.label || p.smoothing != 0; }

// Not of runs along several axes: they may lie in any order, and so their end is not that of the last one.
inline void set_end(View& view, const Problem& p, std::ptrdiff_t size) {
    const auto span = [](std::ptrdiff_t n, std::ptrdiff_t stride) {
        return n > 1 && stride > 0 ? (n - 1) * stride : 0;
    };
    if (view.run == 0)
        view.end = reinterpret_cast<std::uintptr_t>(view.data) + size + span(p.outer, view.outer_stride) +
                   span(p.lanes, view.lane_stride) + span(p.n, view.class_stride);
}

// The problem with the matrix number `outer` of its operands.
inline Problem matrix(const Problem& p, std::ptrdiff_t outer) {
    Problem q = p;
    for (View* view : {&q.x, &q.y, &q.out, &q.loss})
        if (view->data) view->data += outer * view->outer_stride;
    if (q.label) q.label += outer * q.label_outer_stride;
    if (q.scale) q.scale += outer * q.scale_outer_stride;
    return q;
}

// `lanes` of its rows from `lane` on; the place of the losses stays.
inline Problem part(const Problem& p, std::ptrdiff_t outer, std::ptrdiff_t lane,
                    std::ptrdiff_t lanes) {
    Problem q = matrix(p, outer);
    for (View* view : {&q.x, &q.y, &q.out})
        if (view->data) view->data += lane * view->lane_stride;
    if (q.label) q.label += lane * q.label_stride;
    if (q.scale) q.scale += lane * q.scale_stride;
    q.outer = 1;
    q.lanes = lanes;
    return q;
}

template <class L> CSOFTMAX_INLINE std::int64_t read_integer(const char* p) {
    L label;
    std::memcpy(&label, p, sizeof label);
    return static_cast<std::int64_t>(label);  // a uint64 of 2^63 or more is no class either
}
// What is wider than T, if anything is.
template <class T>
using Wide = std::conditional_t<std::is_same<T, long double>::value, long double, double>;

template <class T> CSOFTMAX_INLINE Wide<T> read_scale(const T*, const Problem& p, std::ptrdiff_t lane) {
    const char* at = p.scale + lane * p.scale_stride;
    switch (p.scale_bytes) {
        case sizeof(float): return read<float>(at, false);
        case sizeof(double): return Wide<T>(read<double>(at, false));
        default: return Wide<T>(read<long double>(at, false));
    }
}
CSOFTMAX_INLINE std::int64_t read_label(const char* at, int kind) {
    switch (kind) {
        case 1: return read_integer<std::int8_t>(at);
        case 2: return read_integer<std::int16_t>(at);
        case 4: return read_integer<std::int32_t>(at);
        case -1: return read_integer<std::uint8_t>(at);
        case -2: return read_integer<std::uint16_t>(at);
        case -4: return read_integer<std::uint32_t>(at);
        default: return read_integer<std::int64_t>(at);
    }
}
CSOFTMAX_INLINE std::int64_t label_of(const Problem& p, std::ptrdiff_t lane) {
    return read_label(p.label + lane * p.label_stride, p.label_kind);
}

}  // namespace csoftmax
