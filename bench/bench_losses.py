"""pytest-benchmark: cross-entropy with gradient against the NumPy twin. Run by `pytest bench`."""

from __future__ import annotations

from typing import Any

import pytest
from cells import LOSSES, Cell, suite_call, suite_cells


@pytest.mark.parametrize(("cell", "implementation"), suite_cells(LOSSES), ids=str)
def test_loss(benchmark: Any, cell: Cell, implementation: str) -> None:
    benchmark.group = str(cell)
    benchmark(suite_call(cell, implementation))
