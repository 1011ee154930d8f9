"""What the benchmarks measure: functions x dtypes x shapes, with their inputs and csoftmax's calls.

A call takes no arguments. A preallocated one writes into memory that it has from the start, a
fresh one returns new arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import csoftmax
from csoftmax import reference

Array = npt.NDArray[Any]
Call = Callable[[], Any]

FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "softmax_vjp")
LOSSES = tuple(
    f"cross_entropy_with_grad, {target}"
    for target in ("labels", "probabilities", "weights and smoothing")
)
SCORES = (  # measured if they are asked for
    "log_softmax_gather",
    "softmax_entropy",
    "log_softmax_topk",
    "sample_categorical",
    "softmax at 0.7",
    "log_softmax at 0.7",
)
DTYPES = ("float32", "float64")
SHAPES = (  # shape, class axis
    ((1, 10), -1),
    ((100, 10), -1),
    ((1000, 3), -1),
    ((1000, 10), -1),
    ((1_000_000, 3), -1),
    ((100_000, 10), -1),
    ((30_000, 32), -1),
    ((20_000, 100), -1),
    ((4096, 1000), -1),
    ((512, 50_257), -1),
    ((64, 128_256), -1),
    ((1, 10_000_000), -1),
    ((3, 1_000_000), 0),
    ((10, 100_000), 0),
    ((1000, 4096), 0),
    ((4096, 1024), 0),
    ((32, 21, 128, 128), 1),
)
SMOOTHING = 0.1
TOP = 50  # classes of log_softmax_topk
TWIN_LIMIT = 1_000_000  # entries


class Cell(NamedTuple):
    """One line of a table."""

    function: str
    dtype: str
    shape: tuple[int, ...]
    axis: int

    def __str__(self) -> str:
        return f"{self.function} {self.dtype} {self.where}"

    @property
    def where(self) -> str:
        return f"{'x'.join(map(str, self.shape))} axis {self.axis}"

    @property
    def name(self) -> str:
        """The function's name in the package."""
        return self.function.partition(", ")[0].partition(" at ")[0]

    @property
    def temperature(self) -> float:
        return float(self.function.partition(" at ")[2] or 1)

    @property
    def top(self) -> int:
        """k of log_softmax_topk."""
        return min(TOP, self.classes)

    @property
    def target(self) -> str:
        """What a loss is of; else empty."""
        return self.function.partition(", ")[2]

    @property
    def targets(self) -> str:
        """The array of the inputs that has them."""
        return "probabilities" if self.target == "probabilities" else "labels"

    @property
    def classes(self) -> int:
        return self.shape[self.axis]

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Without the class axis for logsumexp; of a loss, that of its gradient."""
        if self.name != "logsumexp":
            return self.shape
        return tuple(n for i, n in enumerate(self.shape) if i != self.axis % len(self.shape))

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def cells(functions: tuple[str, ...] = FUNCTIONS + LOSSES) -> list[Cell]:
    """All cells of these functions; those that share their inputs stand together."""
    return [
        Cell(function, dtype, shape, axis)
        for (shape, axis), dtype, function in product(SHAPES, DTYPES, functions)
    ]


class Inputs:
    """Every array that a function of a cell may take, made when it is first asked for."""

    def __init__(self, dtype: str, shape: tuple[int, ...], axis: int) -> None:
        self.dtype, self.shape, self.axis = np.dtype(dtype), shape, axis
        self._rng = np.random.default_rng(0)

    def _normal(self, scale: float) -> Array:
        values = self._rng.standard_normal(self.shape, self.dtype)
        values *= self.dtype.type(scale)
        return values

    @cached_property
    def logits(self) -> Array:
        return self._normal(3.0)

    @cached_property
    def grad(self) -> Array:
        return self._normal(1.0)

    @cached_property
    def y(self) -> Array:
        return np.asarray(reference.softmax(self.logits, self.axis))

    @cached_property
    def probabilities(self) -> Array:
        return np.asarray(reference.softmax(self._normal(1.0), self.axis))

    @cached_property
    def labels(self) -> Array:
        samples = np.delete(self.shape, self.axis)
        return self._rng.integers(self.shape[self.axis], size=tuple(samples))

    @cached_property
    def class_weight(self) -> Array:
        return self._rng.uniform(0.5, 2.0, self.shape[self.axis]).astype(self.dtype)


@lru_cache(maxsize=1)
def _inputs(dtype: str, shape: tuple[int, ...], axis: int) -> Inputs:
    return Inputs(dtype, shape, axis)


def inputs(cell: Cell) -> Inputs:
    """The inputs of a cell, the same for cells of equal dtype, shape and axis in a row."""
    return _inputs(cell.dtype, cell.shape, cell.axis)


def numpy_call(module: Any, cell: Cell, *, preallocated: bool) -> Call:
    """The call of csoftmax or of its twin."""
    x, axis, function = inputs(cell), cell.axis, getattr(module, cell.name)
    out = np.empty(cell.result_shape, cell.dtype) if preallocated else None
    if cell.name == "softmax_vjp":
        y, grad = x.y, x.grad
        return lambda: function(y, grad, axis, out=out)
    logits, temperature, k = x.logits, cell.temperature, cell.top
    if cell.name == "log_softmax_gather":
        labels = x.labels
        return lambda: function(logits, labels, axis)
    if cell.name == "softmax_entropy":
        return lambda: function(logits, axis)
    if cell.name == "log_softmax_topk":
        return lambda: function(logits, k, axis)
    if cell.name == "sample_categorical":
        rng = np.random.default_rng(0)
        return lambda: function(logits, rng, None, axis)
    if temperature != 1:
        return lambda: function(logits, axis, out=out, temperature=temperature)
    if not cell.target:
        return lambda: function(logits, axis, out=out)
    targets, weight = getattr(x, cell.targets), x.class_weight
    if cell.target != "weights and smoothing":
        return lambda: function(logits, targets, axis=axis, out=out)
    return lambda: function(
        logits, targets, axis=axis, class_weight=weight, label_smoothing=SMOOTHING, out=out
    )


def suite_cells(functions: tuple[str, ...]) -> list[tuple[Cell, str]]:
    """What `pytest bench` measures: every cell, and the twin's where that does not take long."""
    return [
        (cell, implementation)
        for cell in cells(functions)
        for implementation in ("csoftmax", "twin")
        if implementation == "csoftmax" or cell.size <= TWIN_LIMIT
    ]


def suite_call(cell: Cell, implementation: str) -> Call:
    module = csoftmax if implementation == "csoftmax" else reference
    return numpy_call(module, cell, preallocated=module is csoftmax)
