"""csoftmax: softmax, cross-entropy and their gradients for NumPy arrays, compiled."""

__version__ = "0.1.0"

from csoftmax.encoding import one_hot, to_categorical
from csoftmax.functional import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from csoftmax.layers import Dense, Layer, Softmax, SoftmaxCrossEntropy
from csoftmax.linear import linear_cross_entropy, linear_cross_entropy_with_grad
from csoftmax.losses import cce, cce_gradient, cross_entropy, cross_entropy_with_grad
from csoftmax.scores import (
    log_softmax_gather,
    log_softmax_topk,
    sample_categorical,
    softmax_entropy,
)
from csoftmax.threads import get_num_threads, set_num_threads, show_config, threads

__all__ = [
    "Dense",
    "Layer",
    "Softmax",
    "SoftmaxCrossEntropy",
    "__version__",
    "cce",
    "cce_gradient",
    "cross_entropy",
    "cross_entropy_with_grad",
    "get_num_threads",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "log_softmax_gather",
    "log_softmax_topk",
    "log_softmax_vjp",
    "logsumexp",
    "one_hot",
    "sample_categorical",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_entropy",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "threads",
    "to_categorical",
]
