// kernels.hpp - what the kernels of one dtype do for a call: the only way from functions.pxi to kernels.pxi.
//
// They are a module for each dtype, so that a process has the code of those it uses in memory.
#pragma once

#include <cstddef>

#include "labels.hpp"
#include "operations.hpp"

namespace csoftmax {

struct Kernels {
    std::ptrdiff_t size;  // bytes of an entry
    const void* one;      // an entry
    void (*run)(Operation, Problem&, int threads);

    // Sums over samples; see labels.hpp.
    long double (*sum_weights)(const Problem&, bool weighted, bool ignores, bool& bad);
    void (*add_to_sum)(LongSum<long double>& total, const char* x, std::ptrdiff_t n);

    // Losses over classes that come piece by piece; see pieces.pxi.
    std::ptrdiff_t (*bytes_of_rows)(std::ptrdiff_t lanes);
    void (*take_step)(char* memory, Step, Problem&, std::ptrdiff_t first, std::ptrdiff_t last, int threads);

    // out (rows, columns) = a (rows, terms) @ b, or += if `add`. False if there is no memory.
    bool (*multiply)(const View& a, const View& b, const View& out, std::ptrdiff_t rows,
                     std::ptrdiff_t terms, std::ptrdiff_t columns, bool add, int threads);
};

}  // namespace csoftmax
