// summation.hpp - LaneSum<T>: a sum along the classes whose bits do not depend on the layout.
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

template <class T> struct LaneSum {
    Exact<T> lanes[Vec<T>::LANES];
    Exact<T> total;
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

template <class T> CSOFTMAX_INLINE void clear(LaneSum<T>& s, Order order) {
    const Vec<T> zero = broadcast(T(0));
    for (int i = 0; i < order.registers; ++i) s.lanes[i].value = s.lanes[i].error = zero;
    s.total.value = s.total.error = zero;
}

template <class T> CSOFTMAX_INLINE void end_chunk(LaneSum<T>& s, Order order) {
    constexpr int HALF = Vec<T>::LANES / 2;
    if (order.fold)
        s.lanes[0] = across_lanes<HALF>(s.lanes[0], add_any<T>);
    else if (order.registers > 1)
        for (int half = HALF; half > 0; half /= 2)
            for (int i = 0; i < half; ++i)
                s.lanes[i] = add_any(s.lanes[i], s.lanes[i + half]);
    if (order.whole) {
        s.total = s.lanes[0];
        return;
    }
    s.total = add_any(s.total, s.lanes[0]);
    for (int i = 0; i < order.registers; ++i) s.lanes[i] = exact(broadcast(T(0)));
}

// The same without errors, of a row that is one chunk.
template <class T> CSOFTMAX_INLINE void end_plainly(LaneSum<T>& s, Order order) {
    for (int half = order.registers / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) s.lanes[i].value = s.lanes[i].value + s.lanes[i + half].value;
    s.total = exact(s.lanes[0].value);
}

template <class T> CSOFTMAX_INLINE Vec<T> value(const LaneSum<T>& s) { return rounded(s.total); }

}  // namespace csoftmax
