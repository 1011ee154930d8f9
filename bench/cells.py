"""What the benchmarks measure: functions x dtypes x shapes, as calls that need no arguments.

A call writes into memory allocated beforehand where the implementation can; the NumPy twin is
called as its users would call it, with fresh results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import csoftmax
from csoftmax import reference

# Label in the tables: (function, its array arguments as named in `inputs`).
FUNCTIONS = {
    "softmax": ("softmax", ("logits",)),
    "log_softmax": ("log_softmax", ("logits",)),
    "logsumexp": ("logsumexp", ("logits",)),
    "softmax_vjp": ("softmax_vjp", ("y", "grad")),
    "log_softmax_vjp": ("log_softmax_vjp", ("log_y", "grad")),
}
LOSSES = {
    f"{function}, {target}": (function, ("logits", target))
    for function in ("cross_entropy", "cross_entropy_with_grad")
    for target in ("labels", "probabilities")
}
DTYPES = ("float32", "float64")
SHAPES = (  # shape, axis
    ((1, 10), -1),
    ((100, 10), -1),
    ((100_000, 10), -1),
    ((1_000_000, 3), -1),
    ((30_000, 32), -1),
    ((4096, 1000), -1),
    ((64, 50_000), -1),
    ((10, 100_000), 0),
    ((1000, 4096), 0),
)


class Cell(NamedTuple):
    """One line of a table."""

    function: str
    dtype: str
    shape: tuple[int, int]
    axis: int

    def __str__(self) -> str:
        rows, columns = self.shape
        return f"{self.function} {self.dtype} {rows}x{columns} axis {self.axis}"


def cells(functions: Iterable[str]) -> list[Cell]:
    """All cells of these functions; those that share their inputs stand together."""
    return [
        Cell(function, dtype, shape, axis)
        for (shape, axis), dtype, function in product(SHAPES, DTYPES, functions)
    ]


@lru_cache(maxsize=1)
def inputs(dtype: str, shape: tuple[int, int], axis: int) -> dict[str, npt.NDArray[Any]]:
    """Every array that a function of a cell may take."""
    rng = np.random.default_rng(0)

    def normal(scale: float) -> npt.NDArray[Any]:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    logits = normal(3.0)
    return {
        "logits": logits,
        "grad": normal(1.0),
        "y": reference.softmax(logits, axis),
        "log_y": reference.log_softmax(logits, axis),
        "labels": rng.integers(shape[axis], size=shape[1 + axis]),
        "probabilities": reference.softmax(normal(1.0), axis),
    }


def numpy_call(module: Any, cell: Cell, *, preallocate: bool) -> Callable[[], Any]:
    """The call of csoftmax or of its twin."""
    name, arguments = (FUNCTIONS | LOSSES)[cell.function]
    arrays = inputs(*cell[1:])
    call = partial(getattr(module, name), *(arrays[a] for a in arguments), axis=cell.axis)
    if preallocate and name != "cross_entropy":  # a scalar loss has no out=
        result = call()
        call = partial(call, out=np.empty_like(result[1] if isinstance(result, tuple) else result))
    return call


def torch_call(cell: Cell) -> Callable[[], Any]:
    """PyTorch's call; for a gradient by autograd, forward and backward."""
    import torch  # only when it is asked for

    aten = torch.ops.aten
    x = {name: torch.from_numpy(array) for name, array in inputs(*cell[1:]).items()}
    logits, axis = x["logits"], cell.axis
    name, (_, *others) = (FUNCTIONS | LOSSES)[cell.function]
    out = torch.empty_like(torch.logsumexp(logits, axis) if name == "logsumexp" else logits)
    if name in ("softmax", "log_softmax", "logsumexp"):
        return partial(getattr(torch, name), logits, axis, out=out)
    if name == "softmax_vjp":
        backward = aten._softmax_backward_data.out
        return partial(backward, x["grad"], x["y"], axis, logits.dtype, grad_input=out)
    if name == "log_softmax_vjp":
        backward = aten._log_softmax_backward_data.out
        return partial(backward, x["grad"], x["log_y"], axis, logits.dtype, out=out)

    # PyTorch's class axis is 1.
    target = x[others[0]] if axis == -1 or others[0] == "labels" else x[others[0]].T
    leaf = logits.clone().requires_grad_(name == "cross_entropy_with_grad")
    loss = partial(torch.nn.functional.cross_entropy, leaf if axis == -1 else leaf.T, target)
    if name == "cross_entropy":
        return loss

    def loss_with_grad() -> tuple[Any, Any]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    return loss_with_grad


CALLS: dict[str, Callable[[Cell], Callable[[], Any]]] = {
    "csoftmax": partial(numpy_call, csoftmax, preallocate=True),
    "twin": partial(numpy_call, reference, preallocate=False),
    "torch": torch_call,
}
