from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

openmp: bool
numbers: dict[str, int]  # of the kernels that `direct` takes

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> int: ...
def set_forked() -> None: ...
def compiled(function: Function) -> Function: ...
def direct(number: int, x: Any, y: Any, axis: Any, out: Any, temperature: Any = 1.0) -> Any: ...
def direct_gather(x: Any, target: Any, axis: Any, temperature: Any) -> Any: ...
def direct_topk(x: Any, k: Any, axis: Any, temperature: Any) -> Any: ...
def direct_sample(x: Any, uniforms: Any, axis: Any, temperature: Any) -> Any: ...
def direct_cross_entropy(
    x: Any,
    target: Any,
    axis: Any,
    class_weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    smoothing: Any,
    reduction: Any,
    gradient: bool,
    out: Any,
) -> Any: ...
def multiply(a: Any, b: Any, out: Any, add: bool) -> None: ...

PIECE: int  # classes

class PiecewiseCrossEntropy:
    def __init__(
        self, logits: Any, target: Any, scale: Any, class_weight: Any, smoothing: float
    ) -> None: ...
    def add(self, first: int, last: int) -> None: ...
    def losses(self) -> Any: ...
    def write_gradient(self, first: int, last: int) -> None: ...

def exact_sum(a: Any) -> np.longdouble: ...

softmax: np.ufunc
softmax_where: np.ufunc
log_softmax: np.ufunc
log_softmax_where: np.ufunc
softmax_tempered: np.ufunc
softmax_where_tempered: np.ufunc
log_softmax_tempered: np.ufunc
log_softmax_where_tempered: np.ufunc
softmax_entropy: np.ufunc
softmax_entropy_tempered: np.ufunc
logsumexp: np.ufunc
logsumexp_where: np.ufunc
softmax_vjp: np.ufunc
log_softmax_vjp: np.ufunc
cce: np.ufunc
cce_gradient: np.ufunc
cross_entropy_labels: np.ufunc
cross_entropy_labels_with_grad: np.ufunc
cross_entropy_probabilities: np.ufunc
cross_entropy_probabilities_with_grad: np.ufunc
