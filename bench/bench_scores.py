"""pytest-benchmark: scores, samples and temperature beside the twin. Run by `pytest bench`."""

from __future__ import annotations

from typing import Any

import pytest
from cells import SCORES, Cell, suite_call, suite_cells


@pytest.mark.parametrize(("cell", "implementation"), suite_cells(SCORES), ids=str)
def test_score(benchmark: Any, cell: Cell, implementation: str) -> None:
    benchmark.group = str(cell)
    benchmark(suite_call(cell, implementation))
