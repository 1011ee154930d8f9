"""Print a Markdown table of speed ratios: the time of each peer over the time of csoftmax.

    python bench/ratios.py                      csoftmax against its NumPy twin
    python bench/ratios.py --peer torch         and against PyTorch
    python bench/ratios.py --only "softmax float32 4096x1000"

Results are compared before anything is timed. All implementations run interleaved in one process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cells import CALLS, FUNCTIONS, LOSSES, Cell, cells
from interleave import interleave
from tqdm import tqdm

import csoftmax

RTOL = {"float32": 1e-4, "float64": 1e-10}  # wide enough for the twin's rounding, narrow for a bug


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="append", choices=["torch"], default=[])
    parser.add_argument("--threads", type=int, default=1, help="of csoftmax and the peers")
    parser.add_argument("--only", default="", help="cells whose name contains this text")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all rounds together")
    return parser.parse_args()


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def set_threads(threads: int, peers: list[str]) -> None:
    csoftmax.set_num_threads(threads)
    if "torch" in peers:
        import torch

        torch.set_num_threads(threads)


def check(cell: Cell, calls: Mapping[str, Callable[[], Any]]) -> None:
    """Raise unless every implementation gives the result of the twin."""
    expected = calls["twin"]()
    tolerance = RTOL[cell.dtype]
    for name, call in calls.items():
        result = call()
        both = (result, expected) if isinstance(expected, tuple) else ((result,), (expected,))
        for actual, wanted in zip(*both, strict=True):
            np.testing.assert_allclose(
                np.asarray(actual),
                wanted,
                rtol=tolerance,
                atol=tolerance * float(np.max(np.abs(wanted))),
                err_msg=f"{name}: {cell}",
            )


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def spread(ratios: npt.NDArray[np.float64]) -> str:
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return f"**{median:.2f}** [{low:.2f}, {high:.2f}]"


def print_header(threads: int, peers: list[str]) -> None:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", *peers[1:])]
    print(f"{cpu_model()}, {os.cpu_count()} cores, threads: {threads}")
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    csoftmax.show_config()
    print("\nTime of a peer over time of csoftmax: median of the rounds [quartiles].")
    print("Above 1 csoftmax is faster. `out` is allocated beforehand, except for the twin.\n")
    print(f"| function | dtype | shape | axis | csoftmax | {' | '.join(peers)} | rounds |")
    print("|---|---|---|--:|--:|" + "--:|" * len(peers) + "--:|")


def main() -> None:
    options = arguments()
    peers = ["twin", *options.peer]
    chosen = [cell for cell in cells(FUNCTIONS | LOSSES) if options.only in str(cell)]
    if not chosen:
        raise SystemExit(f"--only {options.only!r}: no cell has this in its name")
    set_threads(options.threads, peers)
    print_header(options.threads, peers)

    medians: dict[tuple[str, str], dict[str, list[float]]] = {}
    for cell in tqdm(chosen, unit="cell", disable=None):  # None: a bar on a terminal only
        calls = {name: CALLS[name](cell) for name in ("csoftmax", *peers)}
        check(cell, calls)
        times = interleave(calls, seconds=options.seconds / len(chosen))
        ours = times["csoftmax"]
        ratios = {peer: times[peer] / ours for peer in peers}
        group = medians.setdefault((cell.function, cell.dtype), {peer: [] for peer in peers})
        for peer, ratio in ratios.items():
            group[peer].append(float(np.median(ratio)))
        shape = "{}x{}".format(*cell.shape)
        row = [cell.function, cell.dtype, shape, str(cell.axis), duration(float(np.median(ours)))]
        tqdm.write(f"| {' | '.join([*row, *map(spread, ratios.values()), str(len(ours))])} |")

    print_summary(medians, peers)


def print_summary(
    medians: Mapping[tuple[str, str], Mapping[str, list[float]]], peers: list[str]
) -> None:
    """Geometric mean over the shapes, with the worst and the best of them."""
    print(f"\n| function | dtype | {' | '.join(peers)} |")
    print("|---|---|" + "--:|" * len(peers))
    for (function, dtype), group in medians.items():
        ratios = (
            f"**{geometric_mean(group[peer]):.2f}** ({min(group[peer]):.2f} to "
            f"{max(group[peer]):.2f})"
            for peer in peers
        )
        print(f"| {function} | {dtype} | {' | '.join(ratios)} |")
    print()
    for peer in peers:
        values = [ratio for group in medians.values() for ratio in group[peer]]
        slower = sum(value < 1 for value in values)
        print(
            f"{peer}: geometric mean of all {geometric_mean(values):.2f}; "
            f"csoftmax is slower in {slower} of {len(values)} cells"
        )


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


if __name__ == "__main__":
    main()
