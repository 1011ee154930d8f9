"""One cell: check that all candidates agree, then time them interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from cells import Call, Cell, inputs
from interleave import interleave

RTOL = {"float32": 1e-4, "float64": 1e-10}  # wide enough for anyone's rounding, narrow for a bug
FRESH = ("twin", "SciPy", "torch fresh", "JAX", "TensorFlow")  # always return new arrays
Record = dict[str, Any]  # of a cell, as the JSON files have it


def results(value: Any, cell: Cell) -> list[npt.NDArray[Any]]:
    """The arrays of a result; losses of samples and the gradient of their sum become the means."""
    arrays = [np.asarray(a) for a in (value if isinstance(value, tuple) else (value,))]
    if cell.name == "log_softmax_topk":  # of equal ones, peers give other indices
        return arrays[:1]
    if not cell.target or arrays[0].ndim == 0:
        return arrays
    samples = cell.size // cell.classes
    losses, gradient = arrays
    return [losses.sum(dtype=np.float64) / samples, gradient / samples]


def difference(cell: Cell, call: Call, expected: list[npt.NDArray[Any]], tolerance: float) -> str:
    """What is wrong with a candidate's result; empty if nothing is."""
    if cell.name == "sample_categorical":
        return difference_of_samples(cell, np.asarray(call()))
    for actual, wanted in zip(results(call(), cell), expected, strict=True):
        if actual.shape != wanted.shape:
            return f"shape {actual.shape}, expected {wanted.shape}"
        error = float(np.max(np.abs(actual - wanted)) / np.max(np.abs(wanted)))
        if not error <= tolerance:
            return f"error {error:.2g} of the largest value, allowed {tolerance:.0e}"
    return ""


def difference_of_samples(cell: Cell, drawn: npt.NDArray[Any]) -> str:
    """The same for samples: their probabilities must have about the mean that is expected."""
    p = np.moveaxis(inputs(cell).y, cell.axis, -1)
    if drawn.shape != p.shape[:-1]:
        return f"shape {drawn.shape}, expected {p.shape[:-1]}"
    mean = np.take_along_axis(p, drawn[..., None], -1).mean()
    error = float(abs(mean - np.mean((p * p).sum(-1))))
    allowed = 5 / np.sqrt(drawn.size)
    return "" if error <= allowed else f"mean probability off by {error:.2g}, over {allowed:.2g}"


def check(cell: Cell, calls: Mapping[str, Call], twin: Call) -> dict[str, str]:
    """What is wrong with which candidate. csoftmax must be right."""
    expected = [np.array(a) for a in results(twin(), cell)]
    tolerance = RTOL[cell.dtype]
    wrong = {}
    for name, call in calls.items():
        own = name.startswith("csoftmax")
        # The plain sums of some peers err with the length of the row.
        factor = 1.0 if own else max(1.0, cell.classes / 1e5)
        if text := difference(cell, call, expected, factor * tolerance):
            if own:
                raise SystemExit(f"{cell}: {name} differs from the twin: {text}")
            wrong[name] = text
    return wrong


def quartiles(values: npt.NDArray[np.float64]) -> list[float]:
    return [float(f"{q:.5g}") for q in np.quantile(values, (0.25, 0.5, 0.75))]


def measure(
    cell: Cell, calls: Mapping[str, Call], twin: Call, *, seconds: float, pause: float
) -> Record:
    """Times of the candidates, and in each round their ratios to csoftmax."""
    wrong = check(cell, calls, twin)
    right = {name: call for name, call in calls.items() if name not in wrong}
    times = interleave(right, seconds=seconds, pause=pause)
    ours, fresh = times["csoftmax"], times["csoftmax fresh"]
    return {
        **cell._asdict(),
        "rounds": len(ours),
        "seconds": {name: quartiles(t)[1] for name, t in times.items()},
        "ratios": {name: quartiles(t / ours) for name, t in times.items() if name != "csoftmax"},
        "fresh_ratios": {name: quartiles(times[name] / fresh) for name in FRESH if name in times},
        "wrong": wrong,
    }
