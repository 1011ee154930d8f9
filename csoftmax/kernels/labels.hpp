// labels.hpp - integer labels in their own dtype, and sums over samples.
#pragma once

#include <algorithm>
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
    using U = Wide<T>;
    constexpr int W = Vec<U>::LANES, CHAINS = 16, N = CHAINS / W;
    std::ptrdiff_t i = 0;
    if (n >= CHAINS) {
        Exact<U> sums[N];
        for (Exact<U>& sum : sums) sum = exact(broadcast(U(0)));
        for (; i + CHAINS <= n; i += CHAINS)
            for (int k = 0; k < N; ++k) {
                U some[W];
                for (int j = 0; j < W; ++j) some[j] = U(x[i + k * W + j]);
                sums[k] = add_exactly(sums[k], load(some));
            }
        for (int k = 1; k < N; ++k) sums[0] = add_any(end_sum(sums[0]), end_sum(sums[k]));
        const Exact<U> sum = across_lanes<W / 2>(end_sum(sums[0]), add_any<U>);
        total.add(lane(sum.value, 0));
        total.error += lane(sum.error, 0);
    }
    for (; i < n; ++i) total.add(x[i]);
}

// labels (lanes,) <- those of the rows lane <= i < lane + lanes. Returns whether one is ignored.
template <class L>
CSOFTMAX_INLINE void read_labels(const char* at, std::ptrdiff_t stride, std::ptrdiff_t lanes,
                                 std::int64_t* labels) {
    if (stride == sizeof(L))
        for (std::ptrdiff_t k = 0; k < lanes; ++k) labels[k] = read_integer<L>(at + k * sizeof(L));
    else
        for (std::ptrdiff_t k = 0; k < lanes; ++k) labels[k] = read_integer<L>(at + k * stride);
}
inline bool read_labels(const Problem& p, std::ptrdiff_t lane, std::ptrdiff_t lanes,
                        std::int64_t* labels) {
    const std::ptrdiff_t stride = p.label_stride;
    const char* at = p.label + lane * stride;
    switch (p.label_kind) {
        case 1: read_labels<std::int8_t>(at, stride, lanes, labels); break;
        case 2: read_labels<std::int16_t>(at, stride, lanes, labels); break;
        case 4: read_labels<std::int32_t>(at, stride, lanes, labels); break;
        case -1: read_labels<std::uint8_t>(at, stride, lanes, labels); break;
        case -2: read_labels<std::uint16_t>(at, stride, lanes, labels); break;
        case -4: read_labels<std::uint32_t>(at, stride, lanes, labels); break;
        default: read_labels<std::int64_t>(at, stride, lanes, labels);
    }
    std::int64_t ignored = 0;
    for (std::ptrdiff_t k = 0; k < lanes; ++k) ignored |= labels[k] == p.ignore_index ? -1 : 0;
    return ignored != 0;
}

// What multiplies loss and gradient of a sample.
template <class T> CSOFTMAX_INLINE T sample_scale(const T* tag, const Problem& p, std::ptrdiff_t lane) {
    return T(read_scale(tag, p, lane) * static_cast<Wide<T>>(p.factor));
}

// Sum of the weights of all samples that are not ignored (if any are): their own times the class
// weight at the label; their number if there are no weights. `bad` if a label is no class.
template <class T> inline long double sum_weights(const Problem& p, bool weighted, bool ignores, bool& bad) {
    if (!p.label && !weighted) return p.lanes;
    const T* tag = nullptr;
    const View c = p.class_weight;
    LongSum<long double> sum;
    std::ptrdiff_t count = 0;
    for (std::ptrdiff_t i = 0; i < p.lanes; i += MAX_LANES) {
        const std::ptrdiff_t lanes = std::min<std::ptrdiff_t>(MAX_LANES, p.lanes - i);
        std::int64_t labels[MAX_LANES];
        const auto ignored = [&](std::ptrdiff_t k) CSOFTMAX_INLINED { return ignores && labels[k] == p.ignore_index; };
        if (p.label) {
            std::int64_t outside = 0;  // negative if a label is negative, or n or more
            read_labels(p, i, lanes, labels);
            for (std::ptrdiff_t k = 0; k < lanes; ++k) {
                outside |= ignored(k) ? 0 : labels[k] | (std::int64_t(p.n) - 1 - labels[k]);
                count += !ignored(k);
            }
            if (outside < 0) {
                bad = true;
                return 0;
            }
        }
        if (!weighted) continue;
        Wide<T> weights[MAX_LANES];
        for (std::ptrdiff_t k = 0; k < lanes; ++k) {
            weights[k] = ignored(k) ? 0 : read_scale(tag, p, i + k);
            if (p.label && !ignored(k)) weights[k] *= read<T>(c.data + labels[k] * c.class_stride, false);
        }
        add_to_sum(sum, weights, lanes);
    }
    return weighted ? sum.value() : static_cast<long double>(count);
}

}  // namespace csoftmax
