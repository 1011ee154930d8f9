// topk.hpp - the largest classes of each row, kept where the result goes.
//
// Of equal classes the first counts as larger, a NaN as little as -inf. Only what is above the worst
// of the best so far, which several registers are asked for at once, is looked at by itself: in a row
// of random order k log(n / k) classes. Few of the best are kept in order, by insertion; many are a
// heap, whose root is the worst.
#pragma once

#include <algorithm>

#include "tile.hpp"
#include "vecmath.hpp"

namespace csoftmax {

constexpr std::ptrdiff_t FEW_BEST = 128;

// The result of one row.
template <class T> struct Top {
    T* value;
    std::int64_t* index;
    std::ptrdiff_t size;

    Top(const Problem& p, std::ptrdiff_t lane)
        : value(reinterpret_cast<T*>(p.out.data + lane * p.out.lane_stride)),
          index(reinterpret_cast<std::int64_t*>(p.loss.data + lane * p.loss.lane_stride)),
          size(p.count) {}

    bool few() const { return size <= FEW_BEST; }
    const T& worst() const { return few() ? value[size - 1] : value[0]; }

    // Puts class j among the `count` before it, in descending order; the last one goes.
    void insert(std::ptrdiff_t count, T v, std::int64_t j) {
        std::ptrdiff_t i = count < size ? count : size - 1;
        for (; i > 0 && value[i - 1] < v; --i) {
            value[i] = value[i - 1];
            index[i] = index[i - 1];
        }
        value[i] = v;
        index[i] = j;
    }

    // The heap. Whether entry i is worse than the class j with the value v.
    bool worse(std::ptrdiff_t i, T v, std::int64_t j) const {
        return value[i] < v || (value[i] == v && index[i] > j);
    }
    // Puts class j into the free place i, or below, among the first `count` entries.
    void sink(std::ptrdiff_t i, std::ptrdiff_t count, T v, std::int64_t j) {
        for (std::ptrdiff_t child; (child = 2 * i + 1) < count; i = child) {
            if (child + 1 < count && worse(child + 1, value[child], index[child])) ++child;
            if (!worse(child, v, j)) break;
            value[i] = value[child];
            index[i] = index[child];
        }
        value[i] = v;
        index[i] = j;
    }
    void build() {
        for (std::ptrdiff_t i = size / 2; i-- > 0;) sink(i, size, value[i], index[i]);
    }
    // The worst to the end, again and again.
    void sort() {
        for (std::ptrdiff_t i = size - 1; i > 0; --i) {
            const T v = value[i];
            const std::int64_t j = index[i];
            value[i] = value[0];
            index[i] = index[0];
            sink(0, i, v, j);
        }
    }
};

// *p, which need not be aligned.
template <class T> CSOFTMAX_INLINE T entry(const T* p) {
    return read<T>(reinterpret_cast<const char*>(p), false);
}

// Calls visit(i) for i <= k < n, in order, where x is above `low`, which visits raise.
template <class T, class Visit>
CSOFTMAX_INLINE void for_better(const T* x, std::ptrdiff_t stride, std::ptrdiff_t i,
                                std::ptrdiff_t n, const T& low, Visit visit) {
    constexpr std::ptrdiff_t N = 8, W = Vec<T>::LANES;
    for (; stride == 1 && W > 1 && i + N * W <= n; i += N * W) {
        Vec<T> best = broadcast(-INFINITE<T>);
        for (std::ptrdiff_t k = 0; k < N; ++k) best = max(load(x + i + k * W), best);
        if (lane(max_lanes(best), 0) > low)
            for (std::ptrdiff_t k = i; k < i + N * W; ++k)
                if (entry(x + k) > low) visit(k);
    }
    for (; i < n; ++i)
        if (entry(x + i * stride) > low) visit(i);
}

// The classes j0 <= j < j1 of one row, in order; x is that of j0.
template <class T>
inline void select_of_row(const T* x, std::ptrdiff_t stride, Top<T> top, std::ptrdiff_t j0,
                          std::ptrdiff_t j1) {
    std::ptrdiff_t first = 0;
    for (std::ptrdiff_t j; (j = j0 + first) < std::min(j1, top.size); ++first) {
        T v = entry(x + first * stride);
        if (!(v >= -INFINITE<T>)) v = -INFINITE<T>;  // a NaN
        if (top.few()) {
            top.insert(j, v, j);
        } else {
            top.value[j] = v;
            top.index[j] = j;
            if (j == top.size - 1) top.build();
        }
    }
    for_better(x, stride, first, j1 - j0, top.worst(), [&](std::ptrdiff_t i) {
        if (top.few())
            top.insert(top.size, entry(x + i * stride), j0 + i);
        else
            top.sink(0, top.size, entry(x + i * stride), j0 + i);
    });
}

// The same of `lanes` rows side by side, `stride` entries from class to class; x is that of j0.
template <class T>
CSOFTMAX_APART void select_top(const T* x, std::ptrdiff_t stride, const Problem& p,
                               std::ptrdiff_t lane, std::ptrdiff_t lanes, std::ptrdiff_t j0,
                               std::ptrdiff_t j1) {
    for (std::ptrdiff_t i = 0; i < lanes; ++i)
        select_of_row(x + i, stride, Top<T>(p, lane + i), j0, j1);
}

// Sorted, and as write_log_softmax() has them.
template <class T>
CSOFTMAX_APART void finish_top(const Problem& p, std::ptrdiff_t lane, T max, T offset) {
    Top<T> top(p, lane);
    if (!top.few()) top.sort();
    for (std::ptrdiff_t i = 0; i < top.size; ++i) top.value[i] = (top.value[i] - max) - offset;
}

}  // namespace csoftmax
