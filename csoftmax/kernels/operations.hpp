// operations.hpp - what the kernels can compute, and their sweeps.
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

// Of losses over classes that come piece by piece; see pieces.pxi.
enum Step { START_ROWS, ADD_PIECE, FIND_LOSSES, WRITE_PIECE };

inline bool takes_pair(Operation operation) { return operation >= SOFTMAX_VJP; }

inline bool writes_rows(Operation operation) {
    return operation != LOGSUMEXP && operation != LOGSUMEXP_AGAIN && operation != CCE && operation != ENTROPY &&
           operation != TOPK;
}

}  // namespace csoftmax
