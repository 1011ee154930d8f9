"""pytest-benchmark: softmax and its relatives against the NumPy twin. Run by `pytest bench`."""

from __future__ import annotations

from typing import Any

import pytest
from cells import FUNCTIONS, Cell, suite_call, suite_cells


@pytest.mark.parametrize(("cell", "implementation"), suite_cells(FUNCTIONS), ids=str)
def test_function(benchmark: Any, cell: Cell, implementation: str) -> None:
    benchmark.group = str(cell)
    benchmark(suite_call(cell, implementation))
