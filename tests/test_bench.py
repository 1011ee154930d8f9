"""The benchmark: it runs, its files and page say what it found, and no wrong result is timed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax import reference

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from cells import FUNCTIONS, LOSSES, SCORES, Cell, cells, inputs, numpy_call
from comparison import check
from interleave import interleave
from page import joined, write
from report import digits

COMPARE = Path(__file__).parents[1] / "bench" / "compare.py"
SOFTMAX, LABELS = (Cell(name, "float32", (100, 10), -1) for name in ("softmax", LOSSES[0]))


def twin(cell: Cell) -> Callable[[], Any]:
    return numpy_call(reference, cell, preallocated=False)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(COMPARE), *options],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_one_cell(tmp_path: Path) -> None:
    file, plot = tmp_path / "one.json", tmp_path / "one.png"
    only = r"^softmax float32 100x10 "
    measured = ("--only", only, "--peers", "twin", "--seconds", "0.05")
    done = run(*measured, "--json", str(file), "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["threads"] == 1
    assert found["candidates"] == ["csoftmax", "csoftmax fresh", "twin"]
    (record,) = found["cells"]
    assert (record["function"], record["dtype"]) == ("softmax", "float32")
    assert (record["shape"], record["axis"], record["wrong"]) == ([100, 10], -1, {})
    assert record["rounds"] >= 5
    assert set(record["seconds"]) == set(found["candidates"])
    assert set(record["ratios"]) == {"csoftmax fresh", "twin"}
    low, median, high = record["ratios"]["twin"]
    assert 0 < low <= median <= high
    assert "\n| softmax | float32 | 100×10 | -1 |" in done.stdout
    assert f"**{digits(median)}** twin |" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")

    write([found], tmp_path / "docs")
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert f"**{digits(median)}** twin |" in page
    assert (tmp_path / "docs" / "benchmarks-1.png").exists()


def test_all_are_warmed_up_or_none() -> None:
    slow_calls = []

    def slow() -> None:
        slow_calls.append(1)
        time.sleep(2e-3)

    times = interleave({"fast": int, "slow": slow}, seconds=0)
    assert len(times["fast"]) == len(times["slow"]) == 5
    assert len(slow_calls) == 1 + 2 * 5  # one to know how long it takes

    slow_calls.clear()
    interleave({"slow": slow, "slower": lambda: time.sleep(4e-3)}, seconds=0)
    assert len(slow_calls) == 1 + 5


def test_files_of_some_cells_are_put_together() -> None:
    records = [
        {"function": c.function, "dtype": c.dtype, "shape": [*c.shape], "axis": c.axis}
        for c in cells()[:4]
    ]

    def of(threads: int, *chosen: int, load: float = 0) -> dict[str, Any]:
        some = [records[i] for i in chosen]
        return {"machine": {"cpu": "one", "load": load}, "threads": threads, "cells": some}

    growth = {"machine": {"cpu": "one", "load": 0}, "threads": 1, "growth": []}
    found = joined([growth, of(1, 2, 1), of(2, 3), of(1, 3, 0, load=1)])
    assert found == [growth, of(1, 0, 1, 2, 3), of(2, 3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "nothing"), "--only 'nothing': no cell"),
        (("--peers", "abacus"), "--peers: no 'abacus': expected"),
        (("--threads", "0"), "--threads 0: expected"),
    ],
)
def test_bad_option_is_a_one_line_error(options: tuple[str, ...], message: str) -> None:
    done = run(*options)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_scores_are_measured_if_asked_for() -> None:
    assert not {cell.function for cell in cells()} & set(SCORES)
    pattern = f"^({'|'.join(SCORES)}) float32 100x10 "
    done = run("--only", pattern, "--peers", "twin,scipy", "--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    for function in SCORES:
        assert f"\n| {function} | float32 | 100×10 | -1 |" in done.stdout


def test_wrong_samples_are_named() -> None:
    cell = Cell("sample_categorical", "float64", (40_000, 5), -1)
    likely = inputs(cell).logits.argmax(-1)
    found = check(cell, {"likely": lambda: likely, "few": lambda: likely[1:]}, twin(cell))
    assert list(found) == ["likely", "few"]
    assert check(cell, {"right": twin(cell)}, twin(cell)) == {}


@pytest.mark.parametrize("function", FUNCTIONS + LOSSES)
@pytest.mark.parametrize("axis", [0, -1])
def test_wrong_result_is_named(function: str, axis: int) -> None:
    cell = Cell(function, "float64", (4, 5), axis)

    def wrong() -> Any:
        result = twin(cell)()
        values = result[1] if isinstance(result, tuple) else result
        values.flat[3] += 1e-6
        return result

    found = check(cell, {"csoftmax": twin(cell), "right": twin(cell), "wrong": wrong}, twin(cell))
    assert list(found) == ["wrong"]
    with pytest.raises(SystemExit, match="csoftmax differs from the twin"):
        check(cell, {"csoftmax": wrong}, twin(cell))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_wrong(bad: float) -> None:
    found = check(SOFTMAX, {"wrong": lambda: np.full((100, 10), bad)}, twin(SOFTMAX))
    assert list(found) == ["wrong"]


def test_other_shape_is_wrong() -> None:
    found = check(SOFTMAX, {"wrong": lambda: twin(SOFTMAX)()[:1]}, twin(SOFTMAX))
    assert found == {"wrong": "shape (1, 10), expected (100, 10)"}


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, []), (100.0, ["sums"])])
def test_losses_and_gradient_of_their_sum_count_as_means(factor: float, wrong: list[str]) -> None:
    x = inputs(LABELS)

    def sums() -> tuple[Any, Any]:
        options = {"reduction": "none"}
        losses, gradient = reference.cross_entropy_with_grad(x.logits, x.labels, **options)
        return losses, gradient / np.float32(factor)

    assert list(check(LABELS, {"sums": sums}, twin(LABELS))) == wrong
