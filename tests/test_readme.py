"""The README: its Python examples run, its links lead somewhere, it names every public function."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import csoftmax

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/benchmarks.md",
    "docs/avx2/benchmarks.md",
]


def test_python_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    # One session for all blocks; a line that is not an example would go untested.
    for block in blocks:
        assert block.startswith(">>> ")
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README", str(README), 0)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert result.attempted >= len(blocks)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_local_links_exist(document: str) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link


@pytest.mark.parametrize("name", csoftmax.__all__)
def test_every_public_name_is_in_the_readme(name: str) -> None:
    if not name.startswith("__"):
        assert re.search(rf"`{name}\b", TEXT), name
