"""Measure csoftmax against every peer that is installed, and print a Markdown table of ratios.

    python bench/compare.py                              one thread
    python bench/compare.py --threads all                all processors of the process
    python bench/compare.py --only "^softmax float32" --peers torch,jax --seconds 20
    python bench/compare.py --only "^log_softmax_topk"   scores, samples and temperature: only so
    python bench/compare.py --growth                     csoftmax's time per element against size
    python bench/compare.py --json one.json --plot one.png
    python bench/compare.py --report one.json all.json   docs/benchmarks.md from such files

Results are compared before anything is timed. All candidates of a cell run interleaved, round by
round in one process, bound to as many processors as there are threads.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import machine
import page
import report
from tqdm import tqdm

# Threads that wait for work in a loop, as OpenMP's do for some milliseconds, would take the next
# candidate's processors.
PAUSE = 0.005


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1", help="a number, or all (default: 1)")
    parser.add_argument("--only", default="", help="cells in whose name this expression is found")
    parser.add_argument("--peers", help="with commas between them (default: all installed)")
    parser.add_argument("--seconds", type=float, default=240, help="for all rounds (default: 240)")
    parser.add_argument("--growth", action="store_true", help="time per element, and no peers")
    parser.add_argument("--json", type=Path, help="write the records there")
    parser.add_argument("--plot", type=Path, help="draw them there, as PNG")
    parser.add_argument("--report", type=Path, nargs="+", help="measure nothing; write the page")
    parser.add_argument(
        "--folder", type=Path, default=page.DOCS, help="for the page (default: docs)"
    )
    return parser.parse_args()


def compare(options: argparse.Namespace, threads: int) -> report.Run:
    """Print a row as each cell is done, and return all of them."""
    # What starts threads is imported after the process was bound to its processors.
    from cells import SCORES, cells, numpy_call
    from comparison import measure
    from peers import chosen_peers, installed

    from csoftmax import reference

    every = [*cells(), *(cells(SCORES) if options.only else ())]
    chosen = [cell for cell in every if re.search(options.only, str(cell))]
    if not chosen:
        raise SystemExit(f"--only {options.only!r}: no cell has this in its name")
    names = installed() if options.peers is None else options.peers.split(",")
    peers = chosen_peers(names, threads)
    run: report.Run = {
        "machine": machine.describe(m for peer in peers.values() for m in peer.modules),
        "threads": threads,
        "settings": {name: peer.threads for name, peer in peers.items()},
        "candidates": [name for peer in peers.values() for name in peer.names],
        "cells": [],
    }
    print(*report.header(run), "", report.LEGEND, "", report.table_head(run), sep="\n", flush=True)
    for cell in tqdm(chosen, unit="cell", disable=None):  # None: a bar on a terminal only
        calls = {name: call for peer in peers.values() for name, call in peer.calls(cell).items()}
        twin = numpy_call(reference, cell, preallocated=False)
        seconds = options.seconds / len(chosen)
        record = measure(cell, calls, twin, seconds=seconds, pause=PAUSE * (threads > 1))
        run["cells"].append(record)
        tqdm.write(report.table_row(run, record))
    print("", *report.summary(run), sep="\n")
    return run


def grow(options: argparse.Namespace, threads: int) -> report.Run:
    """The same for time per element."""
    from growth import growth
    from peers import chosen_peers

    (ours,) = chosen_peers([], threads).values()
    run: report.Run = {
        "machine": machine.describe(()),
        "threads": threads,
        "settings": {"csoftmax": ours.threads},
        "growth": growth(options.seconds),
    }
    print(*report.header(run), "", *report.growth_table(run), sep="\n")
    return run


def main() -> None:
    options = arguments()
    if options.report:
        page.write(
            [json.loads(path.read_text(encoding="utf-8")) for path in options.report],
            options.folder,
        )
        return
    threads = machine.limit(options.threads)
    run = (grow if options.growth else compare)(options, threads)
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if options.plot and not options.growth:
        report.plot(run, options.plot)
    if any(record["wrong"] for record in run.get("cells", [])):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
