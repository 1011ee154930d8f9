"""What compare.py prints and draws of its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import exp, log
from pathlib import Path
from typing import Any

Run = dict[str, Any]  # a JSON file: machine, threads, settings; candidates and cells, or growth
Record = dict[str, Any]  # one of its cells

LEGEND = """\
Time of a peer over time of csoftmax: median over the rounds ± half the distance of its quartiles.
Above 1 csoftmax is faster. Both write into memory allocated beforehand where they can ("fresh":
csoftmax and PyTorch when they do not, though they could). A dash: a peer does not compute this."""


def ours(candidate: str) -> bool:
    return candidate.startswith("csoftmax")


def where(record: Record) -> str:
    return f"{'×'.join(map(str, record['shape']))} | {record['axis']}"


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def digits(ratio: float) -> str:
    """Two decimals, fewer from 10 on."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def spread(quartiles: list[float] | None) -> str:
    if quartiles is None:
        return "–"
    low, median, high = quartiles
    return f"{digits(median)} ±{digits((high - low) / 2)}"


def fastest(record: Record, ratios: str = "ratios") -> str | None:
    """The fastest peer of a cell."""
    peers = {name: q[1] for name, q in record[ratios].items() if not ours(name)}
    return min(peers, key=peers.__getitem__) if peers else None


def geometric_mean(values: Iterable[float]) -> float:
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def header(run: Run) -> list[str]:
    machine = run["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {caches}; {machine['system']}; "
        f"csoftmax runs the instruction set {machine['instruction set']}",
        versions,
        f"threads: {run['threads']}; load of the machine before: {machine['load']}",
        *(f"- {name}: {setting}" for name, setting in run["settings"].items()),
    ]


def table_head(run: Run) -> str:
    names = ["csoftmax", *run["candidates"][1:], "fastest peer"]
    columns = ["function", "dtype", "shape", "axis", *names]
    return f"| {' | '.join(columns)} |\n|---|---|---|--:|{'--:|' * len(names)}"


def table_row(run: Run, record: Record) -> str:
    columns = [record["function"], record["dtype"], where(record)]
    columns.append(duration(record["seconds"]["csoftmax"]))
    columns += [spread(record["ratios"].get(name)) for name in run["candidates"][1:]]
    peer = fastest(record)
    columns.append(f"**{digits(record['ratios'][peer][1])}** {peer}" if peer else "–")
    return f"| {' | '.join(columns)} |"


def ratios_of(records: Iterable[Record], name: str) -> list[float]:
    """The medians of a peer in the cells that it computes; of "fastest peer", of the fastest."""
    found = []
    for record in records:
        peer = fastest(record) if name == "fastest peer" else name
        if peer in record["ratios"]:
            found.append(record["ratios"][peer][1])
    return found


def mean_and_range(values: list[float]) -> str:
    if not values:
        return "–"
    return f"**{digits(geometric_mean(values))}** ({digits(min(values))} to {digits(max(values))})"


def summary(run: Run) -> Iterator[str]:
    """A line a function and dtype, and one a peer."""
    records = run["cells"]
    names = [*(name for name in run["candidates"] if not ours(name)), "fastest peer"]
    yield f"| function | dtype | {' | '.join(names)} |"
    yield f"|---|---|{'--:|' * len(names)}"
    groups = dict.fromkeys((record["function"], record["dtype"]) for record in records)
    for group in groups:
        some = [r for r in records if (r["function"], r["dtype"]) == group]
        values = (mean_and_range(ratios_of(some, name)) for name in names)
        yield f"| {' | '.join([*group, *values])} |"
    yield ""
    yield "| peer | cells | geometric mean | smallest | largest | csoftmax is slower in |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name in names:
        if values := ratios_of(records, name):
            slower = sum(value < 1 for value in values)
            numbers = (geometric_mean(values), min(values), max(values))
            texts = [digits(number) for number in numbers]
            yield f"| {' | '.join([name, str(len(values)), *texts, str(slower)])} |"
    fresh = [
        r["fresh_ratios"][peer][1]
        for r in records
        if (peer := fastest(r, "fresh_ratios")) is not None
    ]
    if own := ratios_of(records, "csoftmax one thread"):
        yield (
            f"\ncsoftmax with one thread over {run['threads']}: geometric mean "
            f"{digits(geometric_mean(own))}, smallest {digits(min(own))}, largest "
            f"{digits(max(own))}, in {len(own)} cells."
        )
    if fresh:
        yield (
            "\nWith fresh results on both sides, the fastest peer over csoftmax: geometric mean "
            f"{geometric_mean(fresh):.2f}, smallest {min(fresh):.2f}, slower in "
            f"{sum(value < 1 for value in fresh)} of {len(fresh)} cells."
        )
    yield from exceptions(records)


def exceptions(records: list[Record]) -> Iterator[str]:
    """Cells where a peer is faster, and results that were not right."""
    slower = [r for r in records if (peer := fastest(r)) and r["ratios"][peer][1] < 1]
    if slower:
        yield "\nCells where a peer is faster than csoftmax:\n"
    for record in sorted(slower, key=lambda r: r["ratios"][fastest(r)][1]):
        peer = fastest(record)
        yield f"- {name_of(record)}: {record['ratios'][peer][1]:.2f} {peer}"
    wrong = [(r, name, text) for r in records for name, text in r["wrong"].items()]
    if wrong:
        yield "\nNot timed, because their result differs from the twin's:\n"
    for record, name, text in wrong:
        yield f"- {name}, {name_of(record)}: {text}"


def growth_table(run: Run) -> Iterator[str]:
    yield "| series | shape | ns per element | over the first |"
    yield "|---|---|--:|--:|"
    for r in run["growth"]:
        shape = "×".join(map(str, r["shape"]))
        yield f"| {r['series']} | {shape} | {spread(r['ns'])} | {spread(r['ratio'])} |"


def name_of(record: Record) -> str:
    shape = "×".join(map(str, record["shape"]))
    return f"{record['function']} {record['dtype']} {shape} axis {record['axis']}"


def plot(run: Run, path: Path) -> None:
    """A panel a function and dtype: on each shape's line a dot a peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = run["cells"]
    functions = list(dict.fromkeys(r["function"] for r in records))
    dtypes = list(dict.fromkeys(r["dtype"] for r in records))
    shapes = list(dict.fromkeys(where(r) for r in records))
    peers = [name for name in run["candidates"] if not ours(name)]
    colours = dict(zip(peers, plt.get_cmap("tab10").colors, strict=False))
    figure, axes = plt.subplots(
        len(dtypes),
        len(functions),
        figsize=(2.5 + 2.3 * len(functions), 1.4 + 0.26 * len(shapes) * len(dtypes)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, dtype in zip(axes, dtypes, strict=True):
        for panel, function in zip(row, functions, strict=True):
            for record in records:
                if (record["function"], record["dtype"]) != (function, dtype):
                    continue
                line = shapes.index(where(record))
                for name, quartiles in record["ratios"].items():
                    if name in colours:
                        panel.plot(quartiles[1], line, "o", ms=4.5, color=colours[name], alpha=0.85)
            panel.axvline(1, color="black", lw=1)
            panel.axvspan(1e-3, 1, color="0.92", zorder=0)
            panel.grid(axis="y", lw=0.4)
            panel.set_title(f"{function.replace(', ', chr(10))}\n{dtype}", fontsize=8)
    last = axes[-1][0]
    ratios = [q[1] for r in records for name, q in r["ratios"].items() if name in colours]
    last.set_xscale("log")
    last.set_xlim(min(0.8, 0.9 * min(ratios, default=1)), max(2, 1.2 * max(ratios, default=1)))
    last.set_yticks(range(len(shapes)), [shape.replace(" | ", " axis ") for shape in shapes])
    last.set_ylim(len(shapes) - 0.5, -0.5)
    for panel in axes.flat:
        panel.tick_params(labelsize=7)
    dots = [
        plt.Line2D([], [], marker="o", ls="", color=colours[name], label=name) for name in peers
    ]
    figure.legend(handles=dots, loc="outside upper center", ncols=len(peers), fontsize=8)
    threads = "one thread" if run["threads"] == 1 else f"{run['threads']} threads"
    figure.supxlabel(
        f"time of the peer / time of csoftmax, {threads}; right of the line csoftmax is faster",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
