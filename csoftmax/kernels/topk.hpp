// topk.hpp - the largest classes of each row, in a heap that lies where the result goes.
//
// Of equal classes the first counts as larger, a NaN as little as -inf. The root of the heap is the
// worst of the best so far: only what is above it, which a whole register is asked for at once, is
// looked at by itself. Rows of random order have k log(n / k) of these.
#pragma once

#include <cmath>

#include "tile.hpp"

namespace csoftmax {

template <class T> struct Heap {
    T* value;
    std::int64_t* index;
    std::ptrdiff_t size;

    Heap(const Problem& p, std::ptrdiff_t lane)
        : value(reinterpret_cast<T*>(p.out.data + lane * p.out.lane_stride)),
          index(reinterpret_cast<std::int64_t*>(p.loss.data + lane * p.loss.lane_stride)),
          size(p.count) {}

    // Whether entry i is worse than the class j with the value v.
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

// The classes j0 <= j < j1 of one row, in order; x is that of j0.
template <class T>
inline void select_of_row(const T* x, std::ptrdiff_t stride, Heap<T> heap, std::ptrdiff_t j0,
                          std::ptrdiff_t j1) {
    constexpr std::ptrdiff_t N = 8, W = Vec<T>::LANES;
    std::ptrdiff_t j = j0;
    for (; j < j1 && j < heap.size; ++j) {
        const T v = x[(j - j0) * stride];
        heap.value[j] = v >= -INFINITE<T> ? v : -INFINITE<T>;
        heap.index[j] = j;
        if (j == heap.size - 1) heap.build();
    }
    auto consider = [&](std::ptrdiff_t end) {
        for (; j < end; ++j)
            if (x[(j - j0) * stride] > heap.value[0])
                heap.sink(0, heap.size, x[(j - j0) * stride], j);
    };
    for (; stride == 1 && W > 1 && j + N * W <= j1;) {
        const T* some = x + (j - j0);
        Vec<T> best = broadcast(-INFINITE<T>);
        for (std::ptrdiff_t k = 0; k < N; ++k) best = max(load(some + k * W), best);
        if (lane(max_lanes(best), 0) > heap.value[0])
            consider(j + N * W);
        else
            j += N * W;
    }
    consider(j1);
}

// The same of `lanes` rows side by side, `stride` entries from class to class.
template <class T>
inline void select_top(const T* x, std::ptrdiff_t stride, const Problem& p, std::ptrdiff_t lane,
                       std::ptrdiff_t lanes, std::ptrdiff_t j0, std::ptrdiff_t j1) {
    for (std::ptrdiff_t i = 0; i < lanes; ++i)
        select_of_row(x + i, stride, Heap<T>(p, lane + i), j0, j1);
}

// Sorted, and as write_log_softmax() has them.
template <class T>
inline void finish_top(const Problem& p, std::ptrdiff_t lane, T max, T offset) {
    Heap<T> heap(p, lane);
    heap.sort();
    for (std::ptrdiff_t i = 0; i < heap.size; ++i) heap.value[i] = (heap.value[i] - max) - offset;
}

}  // namespace csoftmax
