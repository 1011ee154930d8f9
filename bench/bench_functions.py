"""pytest-benchmark: softmax and its relatives against the NumPy twin. Run by `pytest bench`."""

from __future__ import annotations

from typing import Any

import pytest
from cells import CALLS, FUNCTIONS, Cell, cells


@pytest.mark.parametrize("implementation", ["csoftmax", "twin"])
@pytest.mark.parametrize("cell", cells(FUNCTIONS), ids=str)
def test_function(benchmark: Any, cell: Cell, implementation: str) -> None:
    benchmark.group = str(cell)
    benchmark(CALLS[implementation](cell))
