"""Print Markdown tables of errors in ULP: csoftmax, NumPy, and SciPy and PyTorch if installed.

    python bench/errors.py                      one line a function and dtype: the worst of all
    python bench/errors.py --full               and one for each kind of logits
    python bench/errors.py --only "log_softmax float32"

The exact answers and the kinds of logits are those of the tests, tests/truth.py and
tests/measure.py.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import cpu_model
from tqdm import tqdm

import csoftmax
from csoftmax import reference

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from measure import MEASURES, Inputs, Regime, errors, regimes

Functions = Mapping[str, Callable[..., Any]]
DTYPES = (np.float32, np.float64)
SHAPES = ((300, 2), (300, 10), (20, 1000), (1, 50_000))
SLOW = 1000  # classes, beyond which log-probabilities would keep mpmath busy


def of_module(module: Any) -> Functions:
    """csoftmax, or its twin."""
    names = ("softmax", "log_softmax", "logsumexp", "softmax_entropy")
    names += ("softmax_vjp", "log_softmax_vjp")
    return {
        **{name: getattr(module, name) for name in names},
        "cross_entropy": partial(module.cross_entropy, reduction="none"),
        "gradient": lambda x, t: module.cross_entropy_with_grad(x, t, reduction="none")[1],
    }


def of_numpy() -> Functions:
    """What is written by hand: the formulas, with the maximum subtracted."""

    def softmax(x: Any) -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def log_softmax(x: Any) -> Any:
        z = x - x.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    def logsumexp(x: Any) -> Any:
        m = x.max(-1, keepdims=True)
        return (m + np.log(np.exp(x - m).sum(-1, keepdims=True)))[..., 0]

    def cross_entropy(x: Any, target: Any) -> Any:
        if target.dtype.kind == "f":
            return -(target * log_softmax(x)).sum(-1)
        return -np.take_along_axis(log_softmax(x), target[..., None], -1)[..., 0]

    def gradient(x: Any, target: Any) -> Any:
        result = softmax(x)
        if target.dtype.kind == "f":
            return result - target
        result[np.arange(len(x)), target] -= 1
        return result

    return {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "softmax_entropy": lambda x: -(softmax(x) * log_softmax(x)).sum(-1),
        "softmax_vjp": lambda y, g: y * (g - (y * g).sum(-1, keepdims=True)),
        "log_softmax_vjp": lambda log_y, g: g - np.exp(log_y) * g.sum(-1, keepdims=True),
        "cross_entropy": cross_entropy,
        "gradient": gradient,
    }


def of_scipy() -> Functions:
    from scipy import special

    names = ("softmax", "log_softmax", "logsumexp")
    return {name: partial(getattr(special, name), axis=-1) for name in names}


def of_torch() -> Functions:
    import torch

    aten = torch.ops.aten
    loss = partial(torch.nn.functional.cross_entropy, reduction="none")

    def gradient(x: Any, target: Any) -> Any:
        leaf = x.clone().requires_grad_(True)
        return torch.autograd.grad(loss(leaf, target).sum(), leaf)[0]

    functions = {
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "softmax_vjp": lambda y, g: aten._softmax_backward_data(g, y, -1, g.dtype),
        "log_softmax_vjp": lambda log_y, g: aten._log_softmax_backward_data(g, log_y, -1, g.dtype),
        "cross_entropy": loss,
        "gradient": gradient,
    }

    def on_arrays(function: Callable[..., Any], *arrays: Any) -> Any:
        return function(*map(torch.from_numpy, arrays)).numpy()

    return {name: partial(on_arrays, function) for name, function in functions.items()}


def implementations() -> dict[str, Functions]:
    peers = {"SciPy": of_scipy, "torch": of_torch}
    return {
        "csoftmax": of_module(csoftmax),
        "NumPy": of_numpy(),
        "twin": of_module(reference),
        **{name: of() for name, of in peers.items() if importlib.util.find_spec(name.lower())},
    }


class Errors:
    """The errors seen so far, in ULP."""

    def __init__(self) -> None:
        self.largest = self.total = 0.0
        self.count = 0

    def add(self, errors: Any) -> None:
        self.largest = max(self.largest, float(errors.max(initial=0)))
        self.total += float(errors.sum())
        self.count += errors.size

    def __str__(self) -> str:
        if not self.count:
            return "–"
        return f"**{in_digits(self.largest)}** ({in_digits(self.total / self.count)})"


def in_digits(ulps: float) -> str:
    """Three digits, or the power of two that is nearest."""
    if ulps < 100 or not np.isfinite(ulps):
        return f"{ulps:.2f}"
    return f"{ulps:.0f}" if ulps < 1000 else f"2^{np.log2(ulps):.0f}"


Line = tuple[str, ...]  # measure, dtype and, in the full table, kind of logits
Table = dict[Line, dict[str, Errors]]
Cell = tuple[type, Regime, tuple[int, int]]


def cells(only: str) -> tuple[list[Cell], set[Line]]:
    """The inputs, and the lines of the summary whose name contains the text."""
    lines = {
        (measure, dtype.__name__)
        for measure, dtype in product(MEASURES, DTYPES)
        if only in f"{measure} {dtype.__name__}"
    }
    chosen = [dtype for dtype in DTYPES if any(dtype.__name__ in line for line in lines)]
    return [
        (dtype, regime, shape)
        for dtype in chosen
        for regime, shape in product(regimes(dtype), SHAPES)
        if regime.kind != "log-probabilities" or shape[-1] <= SLOW
    ], lines


def measure(only: str, peers: Mapping[str, Functions]) -> Table:
    """The errors of every line: those of the summary, and one for each kind of logits."""
    inputs, lines = cells(only)
    if not lines:
        raise SystemExit(f"--only {only!r}: no line of the table has this in its name")
    table: Table = {}
    for dtype, regime, shape in tqdm(inputs, unit="cell", disable=None):  # None: on a terminal only
        given = Inputs(regime, shape, dtype, shape)
        for name, functions in peers.items():
            with np.errstate(all="ignore"):
                for measured, found in errors(functions, given):
                    line = (measured, dtype.__name__)
                    if line in lines:
                        for key in (line, (*line, str(regime))):
                            table.setdefault(key, {}).setdefault(name, Errors()).add(found)
    return table


def print_header(peers: Mapping[str, Functions]) -> None:
    packages = [name.lower() for name in peers if name not in ("csoftmax", "twin")]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    print(f"{cpu_model()}, Python {platform.python_version()}, {', '.join(versions)}")
    csoftmax.show_config()
    print(HEADER)


HEADER = """
Largest error in ULP, and mean (in brackets), over all kinds of logits and rows of 2 to 50,000.
An ULP is the unit of the last place of the exact result. Where a result that is not 0 comes out 0,
no digit is right: up to 2^24 ULP in float32 and 2^53 in float64; more is wrong in magnitude too. A
NaN counts as inf. For the products and for gradients of probabilities the unit is that of the sum
of the absolute terms, for row sums that of 1, and for logsumexp nearer 0 than 8 eps that of 8 eps.
NumPy is the formula with the maximum subtracted, twin is csoftmax.reference, for a dash there is no
such function.
"""


def print_table(table: Table, columns: list[str], peers: Mapping[str, Functions]) -> None:
    print(f"| {' | '.join([*columns, *peers])} |")
    print("|---" * len(columns) + "|" + "--:|" * len(peers))
    order = list(MEASURES)
    by_measure = sorted(table, key=lambda line: (order.index(line[0]), line[1]))
    for line in by_measure:
        found = table[line]
        if len(line) == len(columns) and found["csoftmax"].count:
            values = [str(found.get(name, Errors())) for name in peers]
            print(f"| {' | '.join([*line, *values])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="a line for each kind of logits, too")
    parser.add_argument("--only", default="", help="lines whose name contains this text")
    parser.add_argument("--threads", type=int, default=1, help="of csoftmax")
    options = parser.parse_args()
    csoftmax.set_num_threads(options.threads)
    peers = implementations()
    table = measure(options.only, peers)
    print_header(peers)
    print_table(table, ["function", "dtype"], peers)
    if options.full:
        print()
        print_table(table, ["function", "dtype", "logits"], peers)


if __name__ == "__main__":
    main()
