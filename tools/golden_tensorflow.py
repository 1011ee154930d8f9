"""Writes tests/golden/tensorflow.json: TensorFlow's results for the calls below.

    pip install tensorflow==2.21 && python tools/golden_tensorflow.py

Each case has the function's name below ``tf``, its arguments and the result; a case of a class has
the arguments of its instance too. Arrays are objects with dtype and data, and "nan", "inf" and
"-inf" are strings.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "tensorflow.json"
NAN, INF = np.nan, np.inf
Case = tuple[str, dict[str, Any] | None, dict[str, Any]]

rng = np.random.default_rng(2)
LOGITS = rng.normal(0, 3, size=(3, 4)).round(4)
CUBE = rng.normal(0, 3, size=(2, 3, 4)).round(4)
LABELS = np.array([1, 0, 3])
ONE_HOT = np.eye(4)[LABELS]
SOFT = rng.dirichlet(np.ones(4), 3).round(4)
PROBABILITIES = rng.dirichlet(np.ones(4), 3).round(4)
WEIGHTS = np.array([0.5, 2.0, 0.0])
FLOATS = ["float16", "float32", "float64"]
SPECIAL = np.array([[NAN, 1], [INF, 1], [-INF, 1], [-INF, -INF], [NAN, INF], [800, -800], [0, 0]])
REDUCTIONS = ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None]


def functions() -> Iterator[Case]:
    for name, dtype in itertools.product(["nn.softmax", "nn.log_softmax"], FLOATS):
        for x, axis in [(LOGITS, None), (LOGITS, 0), (CUBE, 1), (CUBE, -3), (LOGITS[0], -1)]:
            yield name, None, {"logits": x.astype(dtype), "axis": axis}
        yield name, None, {"logits": SPECIAL.astype(dtype).clip(-INF, 100)}

    for dtype, keepdims in itertools.product(FLOATS, [False, True]):
        for axis in [None, 0, -1, [0, 1], [1], []]:
            options = {"axis": axis, "keepdims": keepdims}
            yield "math.reduce_logsumexp", None, {"input_tensor": LOGITS.astype(dtype), **options}
    yield "math.reduce_logsumexp", None, {"input_tensor": SPECIAL, "axis": 1}
    yield "math.reduce_logsumexp", None, {"input_tensor": np.zeros((0, 2)), "axis": 0}
    yield "math.reduce_logsumexp", None, {"input_tensor": np.float64(2)}

    name = "nn.softmax_cross_entropy_with_logits"
    for dtype, labels in itertools.product(FLOATS, [ONE_HOT, SOFT, 3 * SOFT]):
        x = LOGITS.astype(dtype)
        yield name, None, {"labels": labels.astype(dtype), "logits": x}
        yield name, None, {"labels": labels.T.astype(dtype), "logits": x.T, "axis": 0}
    for labels in [ONE_HOT.astype(int), ONE_HOT > 0, SOFT[:1], SOFT[0], SOFT.astype("float32")]:
        yield name, None, {"labels": labels, "logits": LOGITS}
    yield name, None, {"labels": SOFT[0], "logits": LOGITS[0]}
    yield name, None, {"labels": np.eye(2)[[0, 0, 0, 0, 0, 1, 1]], "logits": SPECIAL}

    name = "nn.sparse_softmax_cross_entropy_with_logits"
    for dtype in FLOATS:
        yield name, None, {"labels": LABELS, "logits": LOGITS.astype(dtype)}
    yield name, None, {"labels": np.array([[0, 1, 2], [3, 3, 0]]), "logits": CUBE}
    yield name, None, {"labels": np.int32(1), "logits": LOGITS[0]}
    yield name, None, {"labels": np.array([1, 1, 1, 1, 1, 1, 0]), "logits": SPECIAL}

    for y_pred, from_logits in [(PROBABILITIES, False), (2 * PROBABILITIES, False), (LOGITS, True)]:
        common = {"y_pred": y_pred, "from_logits": from_logits}
        name = "keras.losses.categorical_crossentropy"
        yield name, None, {"y_true": ONE_HOT, **common}
        yield name, None, {"y_true": SOFT, "label_smoothing": 0.2, **common}
        name = "keras.losses.sparse_categorical_crossentropy"
        yield name, None, {"y_true": LABELS, **common}
        yield name, None, {"y_true": LABELS, "ignore_class": 3, **common}


def losses() -> Iterator[Case]:
    name = "keras.losses.SparseCategoricalCrossentropy"
    predictions = [(PROBABILITIES, False), (LOGITS, True)]
    weights = [None, WEIGHTS, WEIGHTS[:, None], np.array(0.5), np.array([[1.0, 2, 3]] * 2)]
    for (p, from_logits), ignored, reduction, weight in itertools.product(
        predictions, [None, 0, -1], REDUCTIONS, weights
    ):
        options = {"from_logits": from_logits, "ignore_class": ignored, "reduction": reduction}
        y = np.where(LABELS == 3, -1, LABELS) if ignored == -1 else LABELS
        call = {"y_true": y, "y_pred": p, "sample_weight": weight}
        yield name, {**options, "dtype": "float64"}, call
    for options in [{}, {"ignore_class": 1}, {"axis": 1, "from_logits": True}]:
        yield name, {**options, "dtype": "float32"}, {"y_true": LABELS, "y_pred": PROBABILITIES}
    for y, ignored in [(LABELS[:, None], None), (LABELS + 0.75, None), (LABELS[:, None], 0)]:
        options = {"ignore_class": ignored, "dtype": "float64"}
        yield name, options, {"y_true": y, "y_pred": PROBABILITIES}
    options = {"ignore_class": -1, "dtype": "float64"}
    yield name, options, {"y_true": np.full(3, -1), "y_pred": PROBABILITIES}
    yield name, options, {"y_true": np.array([-1, 0, 1]), "y_pred": np.diag([NAN, 1, 1])}
    y, weight = np.array([[0, 1, -1], [-1, -1, 3]]), np.array([[1.0, 2, 3], [4, 5, 6]])
    for reduction, from_logits in itertools.product(REDUCTIONS, [False, True]):
        options = {"ignore_class": -1, "reduction": reduction, "dtype": "float64"}
        call = {"y_true": y, "y_pred": np.abs(CUBE) / 10, "sample_weight": weight}
        yield name, {**options, "from_logits": from_logits}, call

    name = "keras.losses.CategoricalCrossentropy"
    for (p, from_logits), reduction, weight in itertools.product(predictions, REDUCTIONS, weights):
        options = {"from_logits": from_logits, "reduction": reduction, "label_smoothing": 0.1}
        call = {"y_true": SOFT, "y_pred": p, "sample_weight": weight}
        yield name, {**options, "dtype": "float64"}, call
    for p, from_logits in predictions:  # the number of classes is 3, the last axis has length 4
        options = {"from_logits": from_logits, "axis": 0, "label_smoothing": 0.3}
        yield name, {**options, "dtype": "float64"}, {"y_true": SOFT, "y_pred": p}
    edges = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [NAN, 0, 1], [-1, 0, 3], [1e-9, 1, 1]])
    for dtype in ["float32", "float64"]:
        options = {"reduction": None, "dtype": dtype}
        yield name, options, {"y_true": np.eye(3)[[0, 0, 0, 2, 2, 0]], "y_pred": edges}
        yield name, options, {"y_true": np.zeros((0, 3)), "y_pred": np.zeros((0, 3))}
    for reduction in ["sum_over_batch_size", "sum"]:
        options = {"reduction": reduction, "dtype": "float64"}
        yield name, options, {"y_true": np.zeros((0, 3)), "y_pred": np.zeros((0, 3))}
        yield name, options, {"y_true": np.zeros((0, 2, 3)), "y_pred": np.zeros((0, 2, 3))}
        yield name, options, {"y_true": ONE_HOT[0], "y_pred": PROBABILITIES[0]}
    for shape, weight in [((3, 1, 4), WEIGHTS), ((3, 4, 1), WEIGHTS), ((1, 12), np.array(0.5))]:
        call = {"y_true": SOFT.reshape(shape), "y_pred": PROBABILITIES.reshape(shape)}
        for options in [{"reduction": None}, {"reduction": "mean"}]:
            options |= {"axis": shape.index(max(shape)), "dtype": "float64"}
            yield name, options, {**call, "sample_weight": weight}
    zero = {"y_true": ONE_HOT, "y_pred": PROBABILITIES, "sample_weight": np.zeros(3)}
    yield name, {"reduction": "mean_with_sample_weight", "dtype": "float64"}, zero


def plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    numbers = np.ravel(value).tolist()
    data = [v if np.isfinite(v) else str(v) for v in numbers]
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": data}


def result(name: str, options: dict[str, Any] | None, call: dict[str, Any]) -> Any:
    function = operator.attrgetter(name)(tf)
    return np.asarray((function if options is None else function(**options))(**call))


cases = [
    {
        "function": name,
        **({} if options is None else {"options": options}),
        "call": plain(call),
        "result": plain(result(name, options, call)),
    }
    for name, options, call in itertools.chain(functions(), losses())
]
made_with = f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}"
lines = ",\n".join(json.dumps(case) for case in cases)
TARGET.write_text(f'{{"made_with": "{made_with}", "cases": [\n{lines}\n]}}\n')
