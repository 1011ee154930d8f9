// operations.hpp - what the sweeps can compute, and the three of them.
#pragma once

namespace csoftmax {

enum Operation {
    SOFTMAX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    LOGSUMEXP_AGAIN,  // the second sum of rows that need one
    CROSS_ENTROPY,
    ENTROPY,
    TOPK,         // the largest log-probabilities of each row; see scores.pxi
    SAMPLE,       // goes its own way from run() on
    SOFTMAX_VJP,  // from here on: two (lanes, n) operands and no maximum
    LOG_SOFTMAX_VJP,
    CCE,
    CCE_GRADIENT,
};

enum Sweep { MAXIMUM, ADD_UP, WRITE };

}  // namespace csoftmax
