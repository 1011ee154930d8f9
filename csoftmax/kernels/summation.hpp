// summation.hpp - sums along the classes whose bits do not depend on the layout.
//
// The terms of a row, numbered j = 0, 1, ..., are added in one order whatever holds them:
//   term j goes to lane j mod LANES; in rows of up to FEW terms, all go to lane 0, unless they are products;
//   each lane adds its terms by blocks of BLOCK, with the rounding error kept (TwoSum);
//   after every CHUNK terms the lanes are added up by halves, and to the total, likewise.
// So the error does not grow with the length of the row. In a block of exponentials only the sums of
// two are rounded: a sum of few terms is then nearly as good as they are. Sums of up to PLAIN products leave
// their errors out.
//
// A row that lies along the lanes of registers (fold) has all its lanes in one register, index 0
// below; columns keep a register for each lane of the sum, and each of their lanes is its own row.
#pragma once

#include "exact.hpp"

namespace csoftmax {

constexpr int CHUNK = 4096, BLOCK = 4, FEW = 31, PLAIN = 32;

// The lanes of what is summed of a chunk: lane i of register v of the rows is number i * vectors + v. The terms, or
// what else the kernel sums; for cross-entropy w, and w (max - x).
template <class T> struct LaneSums {
    Exact<T> *sum, *weight, *spread;
};

// How a row of n terms, or products, is summed: along the lanes of a register or not, in how many registers,
// and whether that is all or one chunk of several.
struct Order {
    bool fold;
    int registers;
    bool whole;
};
template <class T> CSOFTMAX_INLINE Order order_of(const T*, bool fold, std::ptrdiff_t n, bool products) {
    return {fold, fold || (n <= FEW && !products) ? 1 : Vec<T>::LANES, n <= CHUNK};
}

template <class T> CSOFTMAX_INLINE void clear(Exact<T>* lanes, Order order, std::ptrdiff_t vectors) {
    for (std::ptrdiff_t i = 0; i < order.registers * vectors; ++i) lanes[i] = exact(broadcast(T(0)));
}

// total += the lanes of one register of rows, which are `vectors` apart.
template <class T>
CSOFTMAX_INLINE void end_chunk(Exact<T>* lanes, std::ptrdiff_t vectors, Order order, Exact<T>& total) {
    constexpr int HALF = Vec<T>::LANES / 2;
    if (order.fold)
        lanes[0] = across_lanes<HALF>(lanes[0], add_any<T>);
    else if (order.registers > 1)
        for (int half = HALF; half > 0; half /= 2)
            for (int i = 0; i < half; ++i)
                lanes[i * vectors] = add_any(lanes[i * vectors], lanes[(i + half) * vectors]);
    total = order.whole ? lanes[0] : add_any(total, lanes[0]);
}

// The same without errors, of a row that is one chunk.
template <class T> CSOFTMAX_INLINE Exact<T> end_plainly(Exact<T>* lanes, std::ptrdiff_t vectors, int registers) {
    for (int half = registers / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i)
            lanes[i * vectors].value = lanes[i * vectors].value + lanes[(i + half) * vectors].value;
    return exact(lanes[0].value);
}

}  // namespace csoftmax
