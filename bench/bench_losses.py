"""pytest-benchmark: cross-entropy (and gradient) against the NumPy twin. Run by `pytest bench`."""

from __future__ import annotations

from typing import Any

import pytest
from cells import CALLS, LOSSES, Cell, cells


@pytest.mark.parametrize("implementation", ["csoftmax", "twin"])
@pytest.mark.parametrize("cell", cells(LOSSES), ids=str)
def test_loss(benchmark: Any, cell: Cell, implementation: str) -> None:
    benchmark.group = str(cell)
    benchmark(CALLS[implementation](cell))
