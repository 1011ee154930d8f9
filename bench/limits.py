"""Print how near the kernels come to what the machine can do, one thread.

    python bench/limits.py
    python bench/limits.py --seconds 60 --json limits.json

The rates are measured in the same rounds as the kernels: bytes per second of np.copyto, read and
written bytes counted, in cache and out of it; and fused multiply-adds per second, for which NumPy's
matrix product stands: half its floating-point operations. The bound of a kernel is the longest of
its products (fused or not) at this rate, half of all its operations (a processor that has pipes of
their own for sums does as many of those beside), and its bytes at the rate of the copy; the
fraction is bound over time. In cache the time is the difference between a call and one of
half the rows, without what a call costs. A copy out of cache may bypass the cache when it writes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import machine
import report
from tqdm import tqdm


class Kernel(NamedTuple):
    """What a kernel does for an element."""

    sweeps: int  # over a row
    touched: int  # entries read and written, all sweeps together: the traffic in cache
    moved: int  # entries read and written when a row stays in cache between sweeps: out of cache
    products: dict[str, float]  # of floating-point numbers, fused with a sum or not
    operations: dict[str, float]  # these, and all others


# Counted in the inner loops (docs/performance.md): blends and comparisons too, integers not.
KERNELS = {
    "softmax": Kernel(3, 6, 2, {"float32": 12, "float64": 17}, {"float32": 20, "float64": 25}),
    "log_softmax": Kernel(3, 6, 2, {"float32": 10, "float64": 15}, {"float32": 24, "float64": 29}),
    "logsumexp": Kernel(2, 4, 1, {"float32": 10, "float64": 15}, {"float32": 22, "float64": 27}),
    "softmax_vjp": Kernel(
        2, 5, 3, {"float32": 2, "float64": 2}, {"float32": 7.25, "float64": 7.25}
    ),
    "cross_entropy_with_grad, labels": Kernel(
        3, 6, 2, {"float32": 13, "float64": 18}, {"float32": 25, "float64": 30}
    ),
}
ROW = 1000
SIZES = {"in cache": 128 * 1024, "out of cache": 128 * 1024**2}  # bytes of an array
MATRIX = 768  # rows and columns of the product
RATES = ("copy in cache", "copy out of cache", "multiply-adds")


def measure(dtype: str, seconds: float) -> list[dict[str, Any]]:
    """The rates, then the kernels: quartiles over the rounds."""
    # What starts threads is imported after the process was bound to a processor.
    import numpy as np
    from cells import Cell, numpy_call
    from comparison import quartiles
    from interleave import interleave

    import csoftmax

    csoftmax.set_num_threads(1)
    itemsize = np.dtype(dtype).itemsize
    rows = {where: size // itemsize // ROW for where, size in SIZES.items()}
    rng = np.random.default_rng(0)
    calls: dict[str, Any] = {}
    for where, n in rows.items():
        source = rng.standard_normal((n, ROW), dtype)
        target = np.empty_like(source)
        calls[f"copy {where}"] = lambda s=source, t=target: np.copyto(t, s)
    a, b = rng.standard_normal((2, MATRIX, MATRIX), dtype)
    product = np.empty_like(a)
    calls["multiply-adds"] = lambda: np.matmul(a, b, out=product)
    for function in KERNELS:
        for where, n in (*rows.items(), ("half", rows["in cache"] // 2)):
            cell = Cell(function, dtype, (n, ROW), -1)
            calls[f"{function} {where}"] = numpy_call(csoftmax, cell, preallocated=True)
    times = interleave(calls, seconds=seconds)

    rates = {f"copy {w}": 2 * n * ROW * itemsize / times[f"copy {w}"] for w, n in rows.items()}
    rates["multiply-adds"] = MATRIX**3 / times["multiply-adds"]
    records: list[dict[str, Any]] = [
        {"dtype": dtype, "rate": rate, "per ns": quartiles(rates[rate] / 1e9)} for rate in RATES
    ]
    for function, kernel in KERNELS.items():
        for where, n in rows.items():
            time, count = times[f"{function} {where}"], n
            if where == "in cache":
                time, count = time - times[f"{function} half"], n - n // 2
            moves = itemsize * (kernel.touched if where == "in cache" else kernel.moved)
            most = max(kernel.products[dtype], kernel.operations[dtype] / 2)
            arithmetic = most / rates["multiply-adds"]
            traffic = moves / rates[f"copy {where}"]
            bound = np.maximum(arithmetic, traffic)
            records.append(
                {
                    "dtype": dtype,
                    "function": function,
                    "where": where,
                    "sweeps": kernel.sweeps,
                    "bytes": moves,
                    "products": kernel.products[dtype],
                    "operations": kernel.operations[dtype],
                    "arithmetic ns": quartiles(1e9 * arithmetic),
                    "traffic ns": quartiles(1e9 * traffic),
                    "ns": quartiles(1e9 * time / (count * ROW)),
                    "fraction": quartiles(bound * count * ROW / time),
                }
            )
    return records


def print_tables(records: list[dict[str, Any]]) -> None:
    print("| dtype | rate | per ns |\n|---|---|--:|")
    for r in records:
        if "rate" in r:
            unit = "multiply-adds" if r["rate"] == "multiply-adds" else "bytes"
            print(f"| {r['dtype']} | {r['rate']} | {report.spread(r['per ns'])} {unit} |")
    print("\nFor an element, in ns; a fraction of 1 is the bound:\n")
    columns = "function dtype where sweeps bytes products operations arithmetic traffic "
    columns += "measured fraction"
    print(f"| {columns.replace(' ', ' | ')} |\n|---|---|---|{'--:|' * 8}")
    for r in records:
        if "function" in r:
            numbers = [r["sweeps"], r["bytes"], r["products"], r["operations"]]
            ns = [report.digits(r[name][1]) for name in ("arithmetic ns", "traffic ns")]
            cells = [r["function"], r["dtype"], r["where"], *map(str, numbers), *ns]
            print(
                f"| {' | '.join(cells)} | {report.spread(r['ns'])} | "
                f"**{report.spread(r['fraction'])}** |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="for all rounds (default: 60)")
    parser.add_argument("--json", type=Path, help="write the records there")
    options = parser.parse_args()
    threads = machine.limit("1")
    run = {
        "machine": machine.describe(()),
        "threads": threads,
        "settings": {"csoftmax": "csoftmax.set_num_threads(1)"},
        "limits": [
            record
            for dtype in tqdm(("float32", "float64"), unit="dtype", disable=None)
            for record in measure(dtype, options.seconds / 2)
        ],
    }
    print(*report.header(run), "", sep="\n")
    print_tables(run["limits"])
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
