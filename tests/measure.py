"""What is measured where: logits of every kind, and the errors of any implementation on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import truth
from truth import Rows, ulps


class Regime(NamedTuple):
    """A kind of logits."""

    kind: str
    spread: float
    offset: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.spread:g}" + (f" {self.offset:+g}" if self.offset else "")


def _confident(rng: Any, shape: Any, spread: float) -> Any:
    x = rng.uniform(-spread - 1, -spread, shape)
    np.put_along_axis(x, rng.integers(shape[-1], size=(*shape[:-1], 1)), 0, -1)
    return x


KINDS: dict[str, Callable[..., Any]] = {
    "normal": lambda rng, shape, spread: spread / 4 * rng.standard_normal(shape),
    "uniform": lambda rng, shape, spread: rng.uniform(-spread, 0, shape),
    "confident": _confident,
    # down to where x - max has many more bits than x
    "magnitudes": lambda rng, shape, spread: (
        rng.choice([-1, 1], shape) * spread * np.exp2(-rng.uniform(0, 60, shape))
    ),
    # by float32's spacing at 1e30 and so a multiple of float64's
    "steps": lambda rng, shape, spread: rng.integers(-spread, 1, shape) * 2.0**76,
    # logsumexp is all but 0, or all but the offset
    "log-probabilities": lambda rng, shape, spread: (
        Rows(spread / 4 * rng.standard_normal(shape)).log_softmax
    ),
}


def regimes(dtype: Any) -> list[Regime]:
    """Every kind of logits that a row of this dtype is tried with."""
    spreads = (1, 10, 80, 700)[: None if dtype == np.float64 else 3]
    kinds = ("normal", "uniform", "confident", "magnitudes")
    return [
        *(Regime(kind, spread) for spread in spreads for kind in kinds),
        *(Regime("uniform", 80, offset) for offset in (300, -300, 1e3, -1e3, 1e4, -1e4)),
        Regime("steps", 3, 1e30),
        Regime("log-probabilities", 10),
        Regime("log-probabilities", 10, 1e-3),
    ]


class Inputs:
    """Logits of a regime, and what else the functions take; the classes lie on the last axis."""

    def __init__(self, regime: Regime, shape: tuple[int, ...], dtype: Any, seed: Any) -> None:
        rng = np.random.default_rng(seed)
        x = KINDS[regime.kind](rng, shape, regime.spread) + regime.offset
        self.x = np.asarray(x).astype(dtype)
        self.grad = rng.standard_normal(shape).astype(dtype)
        samples = shape[:-1]
        self.label = np.where(  # as often the maximum as any class
            rng.random(samples) < 0.5, self.x.argmax(-1), rng.integers(shape[-1], size=samples)
        )
        q = rng.exponential(size=shape)
        self.q = (q / q.sum(-1, keepdims=True)).astype(dtype)
        self.rows = Rows(self.x)

    @cached_property
    def y(self) -> Any:
        return self.rows.softmax.astype(self.x.dtype)

    @cached_property
    def log_y(self) -> Any:
        return self.rows.log_softmax.astype(self.x.dtype)

    @cached_property
    def label_weights(self) -> Any:
        return truth.target_weights(self.label, self.x)

    @cached_property
    def q_weights(self) -> Any:
        return truth.target_weights(self.q, self.x)


def softmax_ulps(got: Any, of: Inputs, *, normal: bool) -> Any:
    """Errors where the exact result is normal, or where it is not."""
    want = of.rows.softmax
    return ulps(got, want)[(want >= np.finfo(got.dtype).smallest_normal) == normal]


def logsumexp_ulps(got: Any, of: Inputs) -> Any:
    """Errors; the unit is that of 8 eps at least: a sum so near 1 has no more digits."""
    want = of.rows.logsumexp
    return ulps(got, want, np.maximum(np.abs(want), 8 * np.finfo(got.dtype).eps))


def sum_ulps(got: Any, of: Inputs) -> Any:
    """By how much the sum of each row, not rounded, misses 1; the unit is the dtype's eps."""
    rows = got.reshape(-1, got.shape[-1]).tolist()
    missing = np.array([abs(math.fsum([*row, -1.0])) for row in rows])
    return missing / float(np.finfo(got.dtype).eps)


# What is measured: the function, the names of its inputs, the errors of its result. "cross_entropy"
# has a loss for each row, "gradient" is that of their sum.
Measure = tuple[str, tuple[str, ...], Callable[[Any, Inputs], Any]]
MEASURES: dict[str, Measure] = {
    "softmax": ("softmax", ("x",), lambda got, of: softmax_ulps(got, of, normal=True)),
    "softmax, subnormal": ("softmax", ("x",), lambda got, of: softmax_ulps(got, of, normal=False)),
    "softmax, row sums": ("softmax", ("x",), sum_ulps),
    "log_softmax": ("log_softmax", ("x",), lambda got, of: ulps(got, of.rows.log_softmax)),
    "logsumexp": ("logsumexp", ("x",), logsumexp_ulps),
    "softmax_entropy": ("softmax_entropy", ("x",), lambda got, of: ulps(got, of.rows.entropy)),
    "softmax_vjp": (
        "softmax_vjp",
        ("y", "grad"),
        lambda got, of: ulps(got, *truth.softmax_vjp(of.y, of.grad)),
    ),
    "log_softmax_vjp": (
        "log_softmax_vjp",
        ("log_y", "grad"),
        lambda got, of: ulps(got, *truth.log_softmax_vjp(of.log_y, of.grad)),
    ),
    "cross_entropy, labels": (
        "cross_entropy",
        ("x", "label"),
        lambda got, of: ulps(got, of.rows.cross_entropy(of.label_weights)),
    ),
    "cross_entropy, probabilities": (
        "cross_entropy",
        ("x", "q"),
        lambda got, of: ulps(got, of.rows.cross_entropy(of.q_weights)),
    ),
    "gradient, labels": (
        "gradient",
        ("x", "label"),
        lambda got, of: ulps(got, *of.rows.gradient(of.label_weights)),
    ),
    "gradient, probabilities": (
        "gradient",
        ("x", "q"),
        lambda got, of: ulps(got, *of.rows.gradient(of.q_weights)),
    ),
}


def errors(
    implementation: Mapping[str, Callable[..., Any]], inputs: Inputs
) -> Iterator[tuple[str, Any]]:
    """Of every measure whose function the implementation has, the errors in ULP."""
    for measure, (function, names, error) in MEASURES.items():
        if function in implementation:
            got = implementation[function](*(getattr(inputs, name) for name in names))
            yield measure, error(np.asarray(got), inputs)
