"""Writes PyTorch's values and gradients to tests/golden/linear_cross_entropy.json.

    python tools/golden_linear_cross_entropy.py

Every case is computed as F.cross_entropy(F.linear(...)) in float64 and compared with
F.linear_cross_entropy (PyTorch 2.13 or later) before it is written.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

FILE = Path(__file__).parents[1] / "tests" / "golden" / "linear_cross_entropy.json"
SAMPLES, FEATURES, CLASSES = 6, 4, 5


def cases() -> Iterator[dict[str, Any]]:
    """Operands, target and options; PyTorch's default -100 for a label that is ignored."""
    rng = np.random.default_rng(0)
    for target, with_bias, weighted, smoothing, reduction in itertools.product(
        ("labels", "ignored", "probabilities"),
        (False, True),
        (False, True),
        (0.0, 0.1),
        ("mean", "sum", "none"),
    ):
        labels = rng.integers(0, CLASSES, SAMPLES)
        if target == "ignored":
            labels[[1, 4]] = -100
        probabilities = rng.dirichlet(np.ones(CLASSES), SAMPLES)
        yield {
            "x": rng.standard_normal((SAMPLES, FEATURES)).tolist(),
            "weight": (2 * rng.standard_normal((CLASSES, FEATURES))).tolist(),
            "bias": rng.standard_normal(CLASSES).tolist() if with_bias else None,
            "target": (probabilities if target == "probabilities" else labels).tolist(),
            "class_weight": rng.uniform(0.1, 2, CLASSES).tolist() if weighted else None,
            "ignore_index": -100 if target == "ignored" else None,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }


def with_results(case: dict[str, Any]) -> dict[str, Any]:
    """The case with the loss and the gradients of its sum."""
    operands = {
        name: torch.tensor(case[name], dtype=torch.float64, requires_grad=True)
        for name in ("x", "weight", "bias")
        if case[name] is not None
    }
    target = torch.from_numpy(np.array(case["target"]))  # float64, or labels
    weight = case["class_weight"]
    options: dict[str, Any] = {
        "weight": None if weight is None else torch.tensor(weight, dtype=torch.float64),
        "label_smoothing": case["label_smoothing"],
        "reduction": case["reduction"],
    }
    x, w, b = (operands.get(name) for name in ("x", "weight", "bias"))
    loss = F.cross_entropy(F.linear(x, w, b), target, **options)
    loss.sum().backward()
    fused = F.linear_cross_entropy(x, w, target, linear_bias=b, **options)
    torch.testing.assert_close(fused, loss, rtol=1e-12, atol=1e-12)
    gradients = {f"d{name}": tensor.grad.tolist() for name, tensor in operands.items()}
    return {**case, "loss": loss.tolist(), **gradients}


if __name__ == "__main__":
    made = {
        "made_with": f"tools/golden_linear_cross_entropy.py, torch {torch.__version__}",
        "cases": [with_results(case) for case in cases()],
    }
    FILE.write_text(json.dumps(made) + "\n", encoding="utf-8")
