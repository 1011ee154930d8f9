"""Bounds on the errors in ULP, for every instruction set, dtype, path and kind of logits.

`pytest -m long tests/test_accuracy.py` looks at many million entries more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import truth
from measure import Inputs, Regime, errors, regimes
from truth import Digits, Rows, digits_ulps, ulps

# The largest error in ULP: float32, float64.
BOUNDS = {
    "softmax": (3, 4),
    "softmax, subnormal": (2, 2),  # the errors of term and sum come before the rounding
    "softmax, row sums": (4, 4),
    "log_softmax": (3, 3),
    "logsumexp": (2, 2),
    "softmax_entropy": (4, 4),
    "softmax_vjp": (4, 4),
    "log_softmax_vjp": (4, 4),
    "cross_entropy, labels": (3, 3),
    "cross_entropy, probabilities": (3, 3),
    "gradient, labels": (4, 4),
    "gradient, probabilities": (4, 4),
}
DTYPES = [
    np.float32,
    pytest.param(
        np.float64, marks=pytest.mark.skipif(not truth.WIDE_ENOUGH, reason=truth.NOT_WIDE_ENOUGH)
    ),
]


def bound(measure: str, dtype: Any) -> float:
    return BOUNDS[measure][dtype == np.float64]


class Path(NamedTuple):
    """A way through the kernels: lengths of the rows, memory layout and threads."""

    samples: tuple[int, ...]
    classes: tuple[int, ...]
    axis: int = -1  # where the classes lie
    spaced: bool = False  # every other entry of a larger array
    in_place: bool = False
    threads: int = 1
    every: int = 1  # of the regimes and lengths


PATHS = {
    "short rows": Path((100,), tuple(range(2, 33)), every=5),
    "middle rows": Path((4,), (33, 64, 100, 101, 200, 257, 1000, 3000), every=3),
    "long rows": Path((1,), (5000, 50_000), every=5),
    "200,000": Path((1,), (200_000,), every=7),
    "a million, 1 thread": Path((1,), (1_000_000,), every=30),
    "a million, 2 threads": Path((1,), (1_000_000,), every=30, threads=2),
    "two long rows, 2 threads": Path((2,), (50_000,), every=9, threads=2),
    "many rows, 2 threads": Path((700,), (100,), every=7, threads=2),
    "few columns": Path((3,), (10, 300, 3000), axis=0, every=4),
    "many columns": Path((300,), (3, 10, 17), axis=0, every=4),
    "many long columns": Path((70,), (300,), axis=0, every=5),
    "middle axis": Path((5, 9), (7, 100), axis=1, every=3),
    "in place": Path((40,), (10, 300), in_place=True, every=3),
    "columns in place": Path((40,), (10, 300), axis=0, in_place=True, every=3),
    "spaced": Path((20,), (3, 10, 50, 500), every=5, spaced=True),
    "spaced columns": Path((40,), (10, 100), axis=0, every=3, spaced=True),
}


def by_path(csm: ModuleType, path: Path) -> dict[str, Callable[..., Any]]:
    """The functions on arrays whose classes lie last, laid out as the path wants them."""

    def laid_out(a: Any) -> Any:
        a = np.ascontiguousarray(np.moveaxis(a, -1, path.axis))
        if path.spaced:
            a = np.repeat(a[..., None], 2, -1)
            a[..., 1] = np.nan
        return a[..., 0] if path.spaced else a.copy()

    def call(name: str, *arrays: Any, **options: Any) -> Any:
        operands = [a if a.dtype.kind == "i" else laid_out(a) for a in arrays]
        if path.in_place and name not in ("logsumexp", "softmax_entropy", "cross_entropy"):
            options["out"] = operands[0]
        with csm.threads(path.threads):
            return getattr(csm, name)(*operands, axis=path.axis, **options)

    def like_input(name: str) -> Callable[..., Any]:
        return lambda *arrays: np.moveaxis(call(name, *arrays), path.axis, -1)

    def gradient(x: Any, target: Any) -> Any:
        result = call("cross_entropy_with_grad", x, target, reduction="none")[1]
        return np.moveaxis(result, path.axis, -1)

    names = ("softmax", "log_softmax", "softmax_vjp", "log_softmax_vjp")
    return {
        **{name: like_input(name) for name in names},
        "logsumexp": lambda x: call("logsumexp", x),
        "softmax_entropy": lambda x: call("softmax_entropy", x),
        "cross_entropy": lambda x, target: call("cross_entropy", x, target, reduction="none"),
        "gradient": gradient,
    }


@lru_cache(maxsize=1)  # conftest.py has the next implementation go the same path
def inputs(path: Path, dtype: Any, seed: int) -> list[tuple[str, Inputs]]:
    """What goes a path, and what it is."""
    return [
        (f"{regime}, {n} classes", Inputs(regime, (*path.samples, n), dtype, [seed, n]))
        for regime, n in [*product(regimes(dtype), path.classes)][:: path.every]
        if n <= 300 or regime.kind != "log-probabilities"  # mpmath is slow
    ]


def check(csm: ModuleType, dtype: Any, *paths: Path, seed: int = 0) -> None:
    """Every error within its bound, or else the worst case of each that is not."""
    worst: dict[str, tuple[float, str]] = {}
    for path in paths:
        implementation = by_path(csm, path)
        for kind, given in inputs(path, dtype, seed):
            for measure, error in errors(implementation, given):
                largest = float(error.max(initial=0))
                if largest > max(bound(measure, dtype), worst.get(measure, (0.0,))[0]):
                    worst[measure] = largest, kind
    lines = [f"{measure}: {error:.4g} ULP, {where}" for measure, (error, where) in worst.items()]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_path(compiled: ModuleType, path: Path, dtype: Any) -> None:
    check(compiled, dtype, path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_seeds(compiled: ModuleType, dtype: Any, seed: int) -> None:
    short, middle = Path((2000,), (2, 3, 5, 10)), Path((100,), (30, 100, 1000))
    check(compiled, dtype, short, middle, Path((1,), (200_000,)), seed=seed)


CONFIDENT = [[40, 0, 0], [745, 0], [745, 0, 0], [1e4, 0], [0, 1e4], [28, 0], [100, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", CONFIDENT)
def test_confident_row(compiled: ModuleType, row: list[float], dtype: Any) -> None:
    x = np.array([row] * len(row), dtype)
    labels = np.arange(len(row))
    rows, weights = Rows(x), truth.target_weights(labels, x)
    loss, gradient = compiled.cross_entropy_with_grad(x, labels, reduction="none")
    assert ulps(compiled.log_softmax(x), rows.log_softmax).max() <= 3
    assert ulps(loss, rows.cross_entropy(weights)).max() <= 3
    assert ulps(gradient, *rows.gradient(weights)).max() <= 4
    assert ulps(compiled.softmax(x), rows.softmax).max() <= 3
    assert ulps(compiled.logsumexp(x), rows.logsumexp).max() <= 2
    assert ulps(compiled.softmax_entropy(x), rows.entropy).max() <= 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 10, 31])
def test_logsumexp_near_0(compiled: ModuleType, classes: int, dtype: Any) -> None:
    """A maximum of 0, one as tiny as what is not the maximum, or probabilities that add up to 1."""
    p = np.logspace(-30, -1, 100)
    kinds = [np.zeros_like(p), p, -p / 3]
    if dtype == np.float32:  # in float64 their sum needs more than two words
        kinds += [np.log1p(-p), np.log1p(-p) * (1 + p)]
    x = np.full((len(kinds) * p.size, classes), -np.inf, dtype)
    x[:, 0], x[:, -1] = np.concatenate(kinds), np.tile(np.log(p), len(kinds))
    got = compiled.logsumexp(x)
    for row, result in zip(x, got, strict=True):
        want = Digits(row[np.isfinite(row)]).logsumexp
        assert digits_ulps(result, want, dtype) <= 2, row


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 40])
def test_maxima_midway_between_powers_of_2(compiled: ModuleType, classes: int, dtype: Any) -> None:
    """Both whole numbers near max / ln 2 are as good, but all terms must go by the same one."""
    log2_e, near = dtype(1 / np.log(2)), (np.arange(-400, 400) + 0.5) * np.log(2)
    spacing = np.spacing(np.abs(near).astype(dtype))
    maxima = (
        near.astype(dtype)[:, None] + spacing[:, None] * np.arange(-3, 4, dtype=dtype)
    ).ravel()
    midway = maxima[(maxima * log2_e) % 1 == 0.5]
    assert midway.size > 100
    x = np.full((midway.size, classes), -np.inf, dtype)
    x[:, 0], x[:, -1] = midway, midway - 30  # nothing but a term equal to the peak keeps digits
    want = -np.log1p(np.exp(x[:, -1].astype(np.longdouble) - midway))
    for axis, logits in ((1, x), (0, x.T.copy())):
        log_p = compiled.log_softmax(logits, axis)
        assert ulps(log_p.take(0, axis), want).max() <= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [45, 210, 500])
def test_maxima_anywhere(compiled: ModuleType, classes: int, dtype: Any) -> None:
    """Wherever a maximum is, once or twice, its log-probability has the digits of other terms."""
    gap, i = 20, np.arange(classes)
    x = np.full((classes, classes), -gap, dtype)
    x[i, i] = x[i[::3], (7 * i[::3] + 3) % classes] = 0
    ties = (x == 0).sum(1).astype(np.longdouble)
    assert set(ties) == {1, 2}
    want = -np.log(ties) - np.log1p((classes - ties) / ties * np.exp(np.longdouble(-gap)))
    for axis in (1, 0):
        log_p = compiled.log_softmax(x.T.copy() if axis == 0 else x, axis)
        assert ulps(log_p[i, i], want).max() <= 3


OPTIONS = {
    "none": {},
    "class weights": {"class_weight": True},
    "smoothing": {"label_smoothing": 0.1},
    "both": {"class_weight": True, "label_smoothing": 0.1},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["label", "q"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_loss_options(
    compiled: ModuleType, options: dict[str, Any], reduction: str, target: str, dtype: Any
) -> None:
    for i, n in enumerate((3, 10, 100, 1000)):
        given = Inputs(Regime("normal", 80), (50, n), dtype, [n, i])
        classes = np.random.default_rng(n).uniform(0.1, 10, n).astype(dtype)
        chosen = options | ({"class_weight": classes} if "class_weight" in options else {})
        to = getattr(given, target)
        weights = truth.target_weights(to, given.x, **chosen)
        want, (gradient, size) = given.rows.cross_entropy(weights), given.rows.gradient(weights)
        per_label = target == "label" and "class_weight" in options
        divisor = truth.wider(classes[given.label]).sum() if per_label else want.dtype.type(50)
        if reduction != "none":
            want = want.sum()
        if reduction == "mean":
            want, gradient, size = want / divisor, gradient / divisor, size / divisor
        got = compiled.cross_entropy_with_grad(given.x, to, reduction=reduction, **chosen)
        assert ulps(got[0], want).max() <= 3
        assert ulps(got[1], gradient, size).max() <= 4


def test_float16(compiled: ModuleType) -> None:
    """Computed in float32 and rounded once."""
    rng = np.random.default_rng(0)
    for n in (3, 100, 5000):
        x = (3 * rng.standard_normal((50, n))).astype(np.float16)
        rows, labels = Rows(x), x.argmax(-1)
        weights = truth.target_weights(labels, x)
        loss, gradient = compiled.cross_entropy_with_grad(x, labels, reduction="none")
        results = {
            "softmax": (compiled.softmax(x), rows.softmax),
            "log_softmax": (compiled.log_softmax(x), rows.log_softmax),
            "logsumexp": (compiled.logsumexp(x), rows.logsumexp),
            "softmax_entropy": (compiled.softmax_entropy(x), rows.entropy),
            "cross_entropy": (loss, rows.cross_entropy(weights)),
            "gradient": (gradient, *rows.gradient(weights)),
        }
        worst = {name: float(ulps(*result).max()) for name, result in results.items()}
        assert max(worst.values()) <= 0.501, worst
    zeros = compiled.softmax(np.zeros(70_000, np.float16))
    np.testing.assert_array_equal(zeros, np.full(70_000, 1 / 70_000, np.float16))


@pytest.mark.parametrize("spread", [1, 80, 5000])
def test_longdouble(compiled: ModuleType, spread: float) -> None:
    """A plain loop with the C library's functions: x - max is rounded, which costs the spread."""
    x = np.random.default_rng(0).uniform(-spread, 0, (4, 30)).astype(np.longdouble)
    x *= 1 + np.longdouble(2) ** -60
    results = [compiled.softmax(x), compiled.log_softmax(x), compiled.logsumexp(x)[:, None]]
    for i, row in enumerate(x):
        exact = Digits(row)
        size = abs(exact.max) + exact.log_rest
        answers = (exact.softmax, None), (exact.log_softmax, None), ([exact.logsumexp], size)
        for got, (wanted, size) in zip(results, answers, strict=True):
            for g, want in zip(got[i], wanted, strict=True):
                assert digits_ulps(g, want, np.longdouble, size) <= 3 + spread
