"""Time per element of csoftmax's softmax against size, float32, preallocated, interleaved."""

from __future__ import annotations

from typing import Any

import numpy as np
from comparison import quartiles
from interleave import interleave

import csoftmax

ROW, SIZE = 1000, 10_000_000
SERIES = {
    f"rows of {ROW}": [(size // ROW, ROW) for size in 10 ** np.arange(5, 9)],
    f"{SIZE:,} elements": [(SIZE // row, row) for row in 10 ** np.arange(3, 8)],
}


def growth(seconds: float) -> list[dict[str, Any]]:
    """For every shape the nanoseconds per element, and in each round their ratio to the first."""
    records = []
    for series, shapes in SERIES.items():
        calls = {}
        for rows, row in shapes:
            x = np.random.default_rng(0).standard_normal((rows, row), np.float32)
            out = np.empty_like(x)
            calls[rows, row] = lambda x=x, out=out: csoftmax.softmax(x, out=out)
        times = interleave(calls, seconds=seconds / len(SERIES))
        per_element = {shape: 1e9 * t / (shape[0] * shape[1]) for shape, t in times.items()}
        first = per_element[shapes[0]]
        records += [
            {
                "series": series,
                "shape": [int(n) for n in shape],
                "ns": quartiles(t),
                "ratio": quartiles(t / first),
            }
            for shape, t in per_element.items()
        ]
    return records
