"""Measure csoftmax against every peer that is installed, and print a Markdown table of ratios.

    python bench/compare.py                              one thread
    python bench/compare.py --threads all                all processors of the process
    python bench/compare.py --only "^softmax float32" --peers torch,jax --seconds 20
    python bench/compare.py --json one.json --plot one.png

Results are compared before anything is timed. All candidates of a cell run interleaved, round by
round in one process, bound to as many processors as there are threads.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import report
from tqdm import tqdm

if TYPE_CHECKING:
    from cells import Cell

# Threads that wait for work in a loop, as those of OpenMP do for a millisecond or so, would take
# the next candidate's processors.
PAUSE = 0.003


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1", help="number, or all (default: 1)")
    parser.add_argument("--only", default="", help="cells in whose name this expression is found")
    parser.add_argument("--peers", help="with commas between them (default: all installed)")
    parser.add_argument("--seconds", type=float, default=240, help="for all rounds (default: 240)")
    parser.add_argument("--json", type=Path, help="write the records there")
    parser.add_argument("--plot", type=Path, help="draw them there, as PNG")
    return parser.parse_args()


def chosen_cells(only: str) -> list[Cell]:
    from cells import cells

    chosen = [cell for cell in cells() if re.search(only, str(cell))]
    if not chosen:
        raise SystemExit(f"--only {only!r}: no cell has this in its name")
    return chosen


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Print a row as each cell is done, and return all of them."""
    threads = machine.limit(options.threads)
    from cells import numpy_call
    from comparison import measure
    from peers import CANDIDATES, PEERS, Csoftmax, installed

    from csoftmax import reference

    chosen = chosen_cells(options.only)
    names = installed() if options.peers is None else options.peers.split(",")
    if unknown := set(names) - set(PEERS):
        raise SystemExit(f"--peers: no {', '.join(sorted(unknown))}; known: {', '.join(PEERS)}")
    peers = {"csoftmax": Csoftmax(threads), **{name: PEERS[name](threads) for name in names}}
    run: dict[str, Any] = {
        "machine": machine.describe(m for peer in peers.values() for m in peer.modules),
        "threads": threads,
        "settings": {name: peer.threads for name, peer in peers.items()},
        "candidates": [c for c in CANDIDATES if CANDIDATES[c] in peers],
        "cells": [],
    }
    print(*report.header(run), "", report.LEGEND, "", report.table_head(run), sep="\n", flush=True)
    for cell in tqdm(chosen, unit="cell", disable=None):  # None: a bar on a terminal only
        calls = {}
        for peer in peers.values():
            calls.update(peer.calls(cell))
        twin = numpy_call(reference, cell, preallocated=False)
        record = measure(
            cell,
            calls,
            twin,
            seconds=options.seconds / len(chosen),
            pause=PAUSE if threads > 1 else 0.0,
        )
        run["cells"].append(record)
        tqdm.write(report.table_row(run, record))
    print("", *report.summary(run), sep="\n")
    return run


def main() -> None:
    options = arguments()
    run = compare(options)
    if options.json:
        options.json.write_text(json.dumps(run, indent=1), encoding="utf-8")
    if options.plot:
        report.plot(run, options.plot)
    if any(record["wrong"] for record in run["cells"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
