"""Time and memory of linear_cross_entropy_with_grad beside its peers, as a Markdown table.

    python bench/linear_cross_entropy.py                    all shapes, all processors
    python bench/linear_cross_entropy.py --only "C=10000" --rounds 5 --json file.json
    python bench/linear_cross_entropy.py --threads 1

Every candidate is a process of its own. In each round all of them compute, one after the other, in
random order, once or for a fifth of a second. The memory is the largest that the process has while
it computes, less what it had before (libraries, inputs, a first small call) and less the gradients.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import machine


class Shape(NamedTuple):
    samples: int
    features: int
    classes: int
    dtype: str
    wrt: tuple[str, ...]  # gradients; a bias is there if it has one
    candidates: tuple[str, ...]

    def __str__(self) -> str:
        sizes = f"N={self.samples}, D={self.features}, C={self.classes}, {self.dtype}"
        return f"{sizes}, gradients of {' and '.join(self.wrt)}"


UNFUSED = ("csoftmax unfused", "NumPy", "torch")
ALL = ("csoftmax", *UNFUSED, "torch fused")
CLASSIFIER = ("csoftmax", *UNFUSED, "scikit-learn")
SHAPES = (
    Shape(4096, 512, 32000, "float32", ("x", "weight"), ALL),
    Shape(4096, 64, 10000, "float32", ("x", "weight"), ALL),
    Shape(100000, 64, 10, "float32", ("weight", "bias"), CLASSIFIER),
    Shape(100000, 64, 10, "float64", ("weight", "bias"), CLASSIFIER),
    Shape(4096, 256, 256000, "float32", ("x", "weight"), ("csoftmax", "torch fused")),
)
# Seconds between two candidates: idle threads wait for work in a loop, some for 0.2 s, and would
# take the next one's processors.
PAUSE = 0.3
NEEDS = {"torch": "torch", "torch fused": "torch", "scikit-learn": "sklearn"}
RTOL = {"float32": 1e-3, "float64": 1e-9}  # of loss and norms: wide enough for anyone's rounding


def composed(shape: Shape, x: Any, weight: Any, bias: Any, y: Any, entropy: Any) -> Any:
    """Loss and gradients by way of all logits; `entropy` turns these into its gradient."""
    logits = x @ weight.T
    if bias is not None:
        logits += bias
    loss, gradient = entropy(logits, y)
    made = {
        "x": lambda: gradient @ weight,
        "weight": lambda: gradient.T @ x,
        "bias": lambda: gradient.sum(axis=0),
    }
    return loss, [made[name]() for name in shape.wrt]


def numpy_entropy(logits: Any, y: Any) -> Any:
    """The usual lines, without temporaries that can be spared."""
    import numpy as np

    rows = np.arange(len(y))
    logits -= logits.max(axis=1, keepdims=True)
    at_labels = logits[rows, y]
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(sums[:, 0]) - at_labels)
    logits /= sums * len(y)
    logits[rows, y] -= 1 / len(y)
    return loss, logits


def torch_call(shape: Shape, arrays: Any, y: Any, threads: int, fused: bool) -> Callable[[], Any]:
    import torch

    functional = torch.nn.functional
    torch.set_num_threads(threads)
    operands = {
        name: torch.from_numpy(a).requires_grad_(name in shape.wrt)
        for name, a in arrays.items()
        if a is not None
    }
    x, weight, bias = (operands.get(name) for name in ("x", "weight", "bias"))
    target = torch.from_numpy(y)

    def call() -> Any:
        for tensor in operands.values():
            tensor.grad = None
        if fused:
            options = torch.nn.LinearCrossEntropyOptions()
            loss = functional.linear_cross_entropy(
                x, weight, target, linear_bias=bias, options=options
            )
        else:
            loss = functional.cross_entropy(functional.linear(x, weight, bias), target)
        loss.backward()
        return loss.item(), [operands[name].grad.numpy() for name in shape.wrt]

    return call


def sklearn_call(arrays: Any, y: Any) -> Callable[[], Any]:
    """As LogisticRegression has it, its own threads (one) and its layout of the coefficients."""
    import numpy as np
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    x, weight, bias = arrays["x"], arrays["weight"], arrays["bias"]
    coefficients = np.asfortranarray(np.concatenate([weight, bias[:, None]], axis=1))
    target = y.astype(x.dtype)
    model = LinearModelLoss(HalfMultinomialLoss(n_classes=len(weight)), fit_intercept=True)

    def call() -> Any:
        loss, gradient = model.loss_gradient(coefficients, x, target)
        return loss, [gradient[:, :-1], gradient[:, -1]]

    return call


def make_call(candidate: str, shape: Shape, threads: int) -> Callable[[], Any]:
    """A function that computes loss and gradients once."""
    import numpy as np

    import csoftmax

    rng = np.random.default_rng(0)
    dtype: Any = shape.dtype
    arrays = {
        "x": rng.standard_normal((shape.samples, shape.features), dtype),
        "weight": rng.standard_normal((shape.classes, shape.features), dtype),
        "bias": rng.standard_normal(shape.classes, dtype) if "bias" in shape.wrt else None,
    }
    arrays["weight"] /= np.sqrt(shape.features).astype(dtype)
    x, weight, bias = arrays.values()
    y = rng.integers(0, shape.classes, shape.samples)
    csoftmax.set_num_threads(threads)
    if candidate == "csoftmax":

        def fused() -> Any:
            loss, gradients = csoftmax.linear_cross_entropy_with_grad(
                x, weight, y, bias=bias, wrt=shape.wrt
            )
            return loss, [gradient for gradient in gradients if gradient is not None]

        return fused
    if candidate == "csoftmax unfused":

        def entropy(z: Any, y: Any) -> Any:
            return csoftmax.cross_entropy_with_grad(z, y, out=z)

        return lambda: composed(shape, x, weight, bias, y, entropy)
    if candidate == "NumPy":
        return lambda: composed(shape, x, weight, bias, y, numpy_entropy)
    if candidate == "scikit-learn":
        return sklearn_call(arrays, y)
    return torch_call(shape, arrays, y, threads, candidate == "torch fused")


def memory(field: str) -> int:
    """VmRSS or VmHWM (its maximum) of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise ValueError(f"no {field} in /proc/self/status")


def serve(candidate: str, shape: Shape, threads: int) -> None:
    """In the candidate's process: compute for each line of input, and answer with a line."""
    import numpy as np

    small = shape._replace(samples=64, classes=min(shape.classes, 64))
    make_call(candidate, small, threads)()
    call = make_call(candidate, shape, threads)
    for _ in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # the maximum starts again from here
        before = memory("VmRSS")
        seconds = []
        while sum(seconds) < 0.2:
            gradients: Any = None  # those of the call before need not be there
            start = perf_counter()
            loss, gradients = call()
            seconds.append(perf_counter() - start)
        extra = memory("VmHWM") - before - sum(gradient.nbytes for gradient in gradients)
        norms = [float(np.linalg.norm(gradient)) for gradient in gradients]
        answer = {"seconds": median(seconds), "extra": extra, "numbers": [float(loss), *norms]}
        print(json.dumps(answer), flush=True)
        del gradients


def measure(number: int, threads: int, rounds: int) -> dict[str, Any]:
    """Medians of each candidate's time and ratio to csoftmax; memory of its first call."""
    shape = SHAPES[number]
    names = [name for name in shape.candidates if name not in NEEDS or find_spec(NEEDS[name])]
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--serve", name, str(number), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    shuffle = random.Random(0).shuffle
    try:
        for _ in range(rounds + 1):  # the first one warms up and measures memory
            shuffle(names)
            for name in names:
                sleep(PAUSE)
                stdin, stdout = processes[name].stdin, processes[name].stdout
                assert stdin is not None
                assert stdout is not None
                stdin.write("go\n")
                stdin.flush()
                if not (line := stdout.readline()):
                    raise SystemExit(f"{shape}: {name} ended without an answer")
                answers[name].append(json.loads(line))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    expected = answers["csoftmax"][0]["numbers"]
    for name in names:
        for got, want in zip(answers[name][0]["numbers"], expected, strict=True):
            if not abs(got - want) <= RTOL[shape.dtype] * abs(want):
                raise SystemExit(f"{shape}: {name} has {got}, csoftmax {want}")
    times = {name: [answer["seconds"] for answer in answers[name][1:]] for name in names}
    ours = times["csoftmax"]
    return {
        "shape": str(shape),
        "rounds": rounds,
        "seconds": {name: median(times[name]) for name in shape.candidates if name in times},
        "ratios": {
            name: median(t / o for t, o in zip(times[name], ours, strict=True)) for name in times
        },
        "extra_bytes": {name: answers[name][0]["extra"] for name in names},
    }


def rows(record: dict[str, Any]) -> list[str]:
    """Of the table."""
    return [
        f"| {record['shape']} | {name} | {seconds:.3g} | {record['ratios'][name]:.2f} | "
        f"{record['extra_bytes'][name] / 1e6:,.0f} |"
        for name, seconds in record["seconds"].items()
    ]


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        candidate, number, threads = sys.argv[2:]
        serve(candidate, SHAPES[int(number)], int(threads))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="all", help="a number, or all (default)")
    parser.add_argument("--only", default="", help="shapes in whose name this expression is found")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each (default: 5)")
    parser.add_argument("--json", type=Path, help="write the records there")
    options = parser.parse_args()
    threads = machine.limit(options.threads)
    chosen = [i for i, shape in enumerate(SHAPES) if re.search(options.only, str(shape))]
    if not chosen:
        raise SystemExit(f"--only {options.only!r}: no shape has this in its name")
    found = {name for name in NEEDS.values() if find_spec(name)}
    run = {"machine": machine.describe(sorted(found)), "threads": threads, "shapes": []}
    print(f"{run['machine']['cpu']}, threads: {threads}, versions: {run['machine']['versions']}\n")
    print("| shape | candidate | seconds | times csoftmax's | MB beside inputs and gradients |")
    print("|---|---|--:|--:|--:|", flush=True)
    for number in chosen:
        record = measure(number, threads, options.rounds)
        run["shapes"].append(record)
        print(*rows(record), sep="\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
