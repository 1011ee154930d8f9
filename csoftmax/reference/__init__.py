"""The NumPy twin: csoftmax in plain NumPy, oracle of the tests and baseline of the benchmark.

Same names, signatures, dtypes and errors as the compiled functions; imports only NumPy.

The gradient of a loss through softmax is the Jacobian product ``softmax_vjp``. The formula
``(I - a.T) * a @ g`` that teaching notebooks use for it is right only if ``a`` is an (n, 1)
column: on a 1-D vector ``a.T`` is ``a`` itself, and the product silently becomes
``(delta_ij - a_j) * a_j``, which is not the Jacobian of softmax.
"""

from csoftmax.reference.functions import (
    cce,
    cce_gradient,
    cross_entropy,
    cross_entropy_with_grad,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    one_hot,
    softmax,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
    to_categorical,
)
from csoftmax.reference.scores import (
    log_softmax_gather,
    log_softmax_topk,
    sample_categorical,
    softmax_entropy,
)

__all__ = [
    "cce",
    "cce_gradient",
    "cross_entropy",
    "cross_entropy_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "log_softmax_gather",
    "log_softmax_topk",
    "log_softmax_vjp",
    "logsumexp",
    "one_hot",
    "sample_categorical",
    "softmax",
    "softmax_entropy",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "to_categorical",
]
