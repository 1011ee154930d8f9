// labels.hpp - integer labels in their own dtype, and sums over samples.
#pragma once

#include <cmath>
#include <type_traits>

#include "tile.hpp"

namespace csoftmax {

// A sum in two words of T: the rounding errors of many terms add up.
template <class T> struct LongSum {
    T sum = 0, error = 0;
    CSOFTMAX_INLINE void add(T a) {
        T s = sum + a, from_a = s - sum;
        error += (sum - (s - from_a)) + (a - from_a);
        sum = s;
    }
    long double value() const {
        return std::isfinite(sum) ? static_cast<long double>(sum) + error : sum;
    }
};
// total += all of x
template <class T>
inline void add_to_sum(LongSum<long double>& total, const T* x, std::ptrdiff_t n) {
    LongSum<Wide<T>> sums[4];  // several at a time: each is a chain
    for (std::ptrdiff_t i = 0; i < n; ++i) sums[i % 4].add(x[i]);
    for (const auto& part : sums) {
        total.add(part.sum);
        total.error += part.error;
    }
}

// What multiplies loss and gradient of a sample.
template <class T> CSOFTMAX_INLINE T sample_scale(const T* tag, const Problem& p, std::ptrdiff_t lane) {
    return T(read_scale(tag, p, lane) * static_cast<Wide<T>>(p.factor));
}

// Sum of the weights of all samples that are not ignored (if any are): their own times the class
// weight at the label; their number if there are no weights. `bad` if a label is no class.
template <class T> inline long double sum_weights(const Problem& p, bool weighted, bool ignores, bool& bad) {
    LongSum<Wide<T>> sum;
    std::ptrdiff_t count = 0;
    const T* tag = nullptr;
    for (std::ptrdiff_t i = 0; i < p.lanes; ++i) {
        std::int64_t label = 0;
        if (p.label) {
            label = label_of(p, i);
            if (ignores && label == p.ignore_index) continue;
            if (label < 0 || label >= p.n) {
                bad = true;
                return 0;
            }
        }
        if (!weighted) {
            ++count;
            continue;
        }
        Wide<T> weight = read_scale(tag, p, i);
        if (p.label)
            weight *= read<T>(p.class_weight.data + label * p.class_weight.class_stride, false);
        sum.add(weight);
    }
    return weighted ? sum.value() : static_cast<long double>(count);
}

}  // namespace csoftmax
