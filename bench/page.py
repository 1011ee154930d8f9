"""docs/benchmarks.md with its plots, from the JSON files of compare.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import report

DOCS = Path(__file__).parents[1] / "docs"
FRAME = """\
# Benchmarks

csoftmax against the packages that compute the same on a CPU. PyTorch, JAX and TensorFlow are
measured if they are installed. This page is written by

```sh
pip install -e ".[bench]"
python bench/compare.py --threads 1 --json one.json
python bench/compare.py --threads all --json all.json --peers torch,onnxruntime,jax \\
    --only "^(softmax|log_softmax|logsumexp|softmax_vjp|cross_entropy_with_grad, labels) float32"
python bench/compare.py --growth --json growth.json
python bench/compare.py --report one.json all.json growth.json
```

How it is measured: the inputs of a cell are made once and given to every candidate. First each
result is compared with that of the NumPy twin, `csoftmax.reference`; what differs is named and not
timed. Then all candidates run in one process, in each round once and in random order, after a
warm-up that does not count; calls shorter than half a millisecond are repeated up to that. Only
times of the same round are divided by each other. The process is bound to as many processors as
there are threads. `--peers torch` measures one peer alone, should two not bear each other; files of
a few cells each (`--only`), from one machine, are put together: their processes may run side by
side, each on processors of its own.

What the peers run. twin: plain NumPy. SciPy, scikit-learn: their functions as they are;
scikit-learn's loss is told where to write. torch: `out=`, and for losses the operators that
autograd calls, told where to write; "torch fresh": without, and by autograd. ONNX Runtime: a graph
of its operators, bound to memory. JAX: compiled functions, waited for. TensorFlow: its operations,
for softmax_vjp a compiled graph. numba: compiled loops over rows.
"""


def section(run: report.Run) -> Iterator[str]:
    """A run's machine, plot, summary and table."""
    threads = run["threads"]
    count = "One thread" if threads == 1 else f"{threads} threads"
    machine, versions, _, *settings = report.header(run)
    if "growth" in run:
        yield f"\n## Time per element against size\n\n{count}, float32 softmax in given memory.\\"
        yield f"{machine}\n"
        yield from report.growth_table(run)
        return
    yield f"\n## {count}\n"
    yield f"{machine}\\\n{versions}\n\nThreads of each:\n"
    yield from settings
    yield f"\n![ratios of times, a dot a peer and shape]({plot_name(run)})\n\n{report.LEGEND}\n"
    yield from report.summary(run)
    yield "\n### Every cell\n"
    yield report.table_head(run)
    yield from (report.table_row(run, record) for record in run["cells"])


def plot_name(run: report.Run) -> str:
    return f"benchmarks-{run['threads']}.png"


def joined(runs: list[report.Run]) -> list[report.Run]:
    """The runs, those of the same machine, threads and candidates in one."""
    from cells import cells  # not before compare.py has bound the process to its processors

    wholes: list[report.Run] = []
    for run in runs:
        for whole in wholes:
            if "cells" in run and alike(whole, run):
                whole["cells"] += run["cells"]
                break
        else:
            wholes.append(run | {"cells": [*run["cells"]]} if "cells" in run else run)
    order = {report.name_of(cell._asdict()): number for number, cell in enumerate(cells())}
    for whole in wholes:
        whole.get("cells", []).sort(key=lambda r: order.get(report.name_of(r), len(order)))
    return wholes


def alike(one: report.Run, other: report.Run) -> bool:
    """Whether two runs differ in nothing but their cells, and the load before."""
    first, second = (
        run | {"cells": [], "machine": run["machine"] | {"load": 0}} for run in (one, other)
    )
    return first == second


def write(runs: list[report.Run], folder: Path = DOCS) -> None:
    folder.mkdir(exist_ok=True)
    runs = joined(runs)
    lines = [line for run in runs for line in section(run)]
    text = "\n".join([FRAME.rstrip(), *lines]) + "\n"
    (folder / "benchmarks.md").write_text(text, encoding="utf-8")
    for run in runs:
        if "cells" in run:
            report.plot(run, folder / plot_name(run))
