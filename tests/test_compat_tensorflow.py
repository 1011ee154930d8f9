"""csoftmax.compat.tensorflow: TensorFlow's and Keras' results, each known difference, errors."""

from __future__ import annotations

import json
import operator
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from csoftmax.compat import tensorflow as tf

HERE = Path(__file__).parent
KERAS, TENSORFLOW, NOTEBOOK = (
    json.loads((HERE / "golden" / f"{name}.json").read_text())
    for name in ("keras", "tensorflow", "notebook")
)
EXAMPLE = HERE.parent / "examples" / "from_tensorflow.py"
NAN, INF = np.nan, np.inf
RTOL = {"float16": 1e-2, "float32": 1e-6, "float64": 1e-12}

X = np.array([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
P = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
ONE_HOT = np.eye(3)[[1, 2]]
CCE, SCE = tf.keras.losses.CategoricalCrossentropy, tf.keras.losses.SparseCategoricalCrossentropy


@pytest.fixture(autouse=True)
def _instruction_set(compiled, monkeypatch):
    """Every test once on each instruction set."""
    for module in (tf.nn, tf.math, tf.keras.losses, tf.keras.utils):
        monkeypatch.setattr(module, "csoftmax", compiled)


# --------------------------------------------------------------------------- TensorFlow's results


def decoded(value):
    if not isinstance(value, dict):
        return value
    return np.array(value["data"], object).astype(value["dtype"]).reshape(value["shape"])


@pytest.mark.parametrize("name", sorted({case["function"] for case in TENSORFLOW["cases"]}))
def test_tensorflow(name):
    """Values, dtype and shape; with lists in place of arrays the same values."""
    cases = [case for case in TENSORFLOW["cases"] if case["function"] == name]
    assert len(cases) >= 6
    for case in cases:
        function = operator.attrgetter(name)(tf)
        if "options" in case:
            function = function(**case["options"])
        call = {key: decoded(value) for key, value in case["call"].items()}
        got, want = function(**call), decoded(case["result"])
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        rtol = RTOL[got.dtype.name]
        np.testing.assert_allclose(got, want, rtol, rtol / 10, err_msg=str(case))
        arrays = {key: v for key, v in call.items() if isinstance(v, np.ndarray)}
        if got.dtype == np.float64 and all(map(np.size, arrays.values())):
            lists = {key: array.tolist() for key, array in arrays.items()}
            np.testing.assert_array_equal(function(**{**call, **lists}), got)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-12), (None, 1e-12)])
@pytest.mark.parametrize("name", sorted({c["name"] for c in KERAS["categorical_crossentropy"]}))
def test_keras_categorical_crossentropy(name, dtype, rtol):
    """Results of Keras in float64; in float32, 1 - 1e-7 is 1 - 2**-23."""
    for case in KERAS["categorical_crossentropy"]:
        if case["name"] == name:
            y, p, want = (np.array(case[key], float) for key in ("y", "p", "loss"))
            if (name, dtype) == ("perfect", "float32"):
                want = np.array(2.0**-23)
            got = CCE(**case["ctor"], dtype=dtype)(y, p, **case["call"])
            assert got.dtype == (dtype or "float64")
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol, atol=0)


@pytest.mark.parametrize("case", KERAS["to_categorical"], ids=lambda case: f"{case['x']}")
def test_keras_to_categorical(case):
    if "error" in case:
        with pytest.raises((IndexError, ValueError)) as raised:
            tf.keras.utils.to_categorical(case["x"], **case["kw"])
        assert raised.type.__name__ == case["error"]
    else:
        got = tf.keras.utils.to_categorical(x=case["x"], **case["kw"])
        assert got.dtype == case["dtype"]
        assert got.shape == tuple(case["shape"])
        assert got.tolist() == case["result"]


def test_example_gives_the_numbers_of_tensorflow(capsys):
    """The example as it stands, but for the random weights, which the golden file has others of."""
    source, count = re.subn(
        r"\nW = np.random.rand.*\n",
        f"\nW = np.array({NOTEBOOK['W']})\n",
        EXAMPLE.read_text(encoding="utf-8"),
    )
    assert count == 1
    exec(compile(source, str(EXAMPLE), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    number = r"-?\d[\d.e+-]*"
    losses = re.findall(rf"Cross-Entropy Loss: ({number})", printed)
    wanted = [sample["cce"] for sample in NOTEBOOK["samples"]]
    np.testing.assert_allclose(np.array(losses, float), wanted, rtol=1e-12)
    means = re.findall(rf"CategoricalCrossentropy.*: ({number})", printed)
    np.testing.assert_allclose(np.array(means, float), [np.mean(wanted)] * 2, rtol=1e-12)
    gradient = re.search(r"Sample 4, .* Gradient: \[(.*)\]", printed)
    assert gradient
    np.testing.assert_allclose(
        np.array(gradient[1].split(), float), NOTEBOOK["samples"][4]["cce_gradient"], rtol=1e-7
    )


def test_only_the_import_of_the_example_is_changed():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "csoftmax" in line] == [
        "from csoftmax.compat import tensorflow as tf  # was: import tensorflow as tf"
    ]


def test_example_runs():
    runpy.run_path(str(EXAMPLE), run_name="__main__")


# ------------------------------------------------------------------------------- known differences

sce = tf.nn.softmax_cross_entropy_with_logits
ssce = tf.nn.sparse_softmax_cross_entropy_with_logits
LONG = np.longdouble(0.25)
# What is called, with its arguments and the result here.
DIFFERENCES = {
    "Python floats": (tf.nn.softmax, [[0.0, 0.0]], np.float64([0.5, 0.5])),
    "integers": (tf.nn.softmax, [np.array([2, 2])], np.float64([0.5, 0.5])),
    "bools": (tf.math.reduce_logsumexp, [np.array([True])], np.float64(1)),
    "longdouble": (tf.nn.softmax, [np.zeros(4, "g")], np.array([LONG] * 4)),
    "float64": (CCE(), [ONE_HOT[:1], P[:1]], np.float64(-np.log(0.5))),
    "float32": (CCE(), [ONE_HOT[:1], np.float32(P[:1])], np.float32(-np.log(np.float32(0.5)))),
    "float16": (CCE(dtype="float16"), [[[1.0, 0]], [[1.0, 0]]], np.float16(2.0**-23)),
    "0 at -inf": (sce, [[[1.0, 0]], [[0, -INF]]], np.float64([0])),
    "0 at -inf, loss": (CCE(from_logits=True), [[[1.0, 0]], [[0, -INF]]], np.float64(0)),
    "infinite": (sce, [[[INF, 0]], [[0.0, 0]]], np.float64([NAN])),
    "labels": (ssce, [np.uint8([1]), [[0.0, 0]]], np.log([2.0])),
    "large labels": (SCE(), [np.array([2**24 + 1]), np.ones((1, 2**24 + 2), "f2")], None),
    "axis": (SCE(axis=0), [np.array([1]), [[0.25], [0.75]]], np.float64(-np.log(0.75))),
    "ignored after the cut": (SCE(ignore_class=1), [np.array([1.5, 0]), P], -np.log(0.1)),
    "single class": (CCE(), [np.ones((2, 1)), np.ones((2, 1))], -np.log(1 - 1e-7)),
    "lists": (SCE(), [[1], [[0.25, 0.75]]], np.float64(-np.log(0.75))),
}


@pytest.mark.parametrize(("call", "args", "want"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_each_difference(call, args, want):
    """What the first lines of the module list."""
    if want is None:
        want = np.float16(np.log(2**24 + 2))
    got = call(*args)
    assert got.dtype == np.asarray(want).dtype
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_bfloat16():
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = X.astype(bfloat16)
    calls = [
        (tf.nn.softmax, [x]),
        (tf.nn.log_softmax, [x]),
        (tf.math.reduce_logsumexp, [x]),
        (sce, [ONE_HOT, x]),
        (ssce, [[1, 2], x]),
        (CCE(), [ONE_HOT, P.astype(bfloat16)]),
        (CCE(dtype=bfloat16), [ONE_HOT, P]),
        (SCE(from_logits=True), [[1, 2], x]),
    ]
    for call, args in calls:
        got = call(*args)
        wide = [np.float32(a) if getattr(a, "dtype", None) == bfloat16 else a for a in args]
        assert got.dtype == bfloat16
        np.testing.assert_allclose(np.float32(got), np.float32(call(*wide)), rtol=2**-8)


# --------------------------------------------------------------------------------------- arguments


def test_names_and_order_of_arguments():
    np.testing.assert_array_equal(tf.nn.softmax(X, 0, "name"), tf.nn.softmax(logits=X, axis=-2))
    np.testing.assert_array_equal(sce(ONE_HOT.T, X.T, 0, "name"), sce(logits=X, labels=ONE_HOT))
    np.testing.assert_array_equal(ssce([1, 2], X, "name"), ssce(labels=[1, 2], logits=X))
    total = tf.math.reduce_logsumexp(X, (0, 1), True, "name")
    np.testing.assert_array_equal(total, [[tf.math.reduce_logsumexp(X)]])
    loss = CCE(True, 0.1, 0, "sum", "mine", "float32")
    assert (loss.name, loss.reduction, loss.dtype) == ("mine", "sum", np.float32)
    assert (loss.from_logits, loss.label_smoothing, loss.axis) == (True, 0.1, 0)
    sparse = SCE(True, 2, None, 1, "mine", "float64")
    assert (sparse.name, sparse.reduction, sparse.dtype) == ("mine", None, np.float64)
    assert (sparse.from_logits, sparse.ignore_class, sparse.axis) == (True, 2, 1)
    assert (CCE().name, SCE().name) == (
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
    )


def test_arguments_are_left_alone():
    x, y, weight = X.copy(), ONE_HOT.copy(), np.ones((2, 1))
    CCE(label_smoothing=0.1)(y, np.abs(x), weight)
    SCE(ignore_class=1)(np.array([[1], [2]]), np.abs(x), weight)
    sce(y, x)
    for array, before in ((x, X), (y, ONE_HOT), (weight, 1)):
        np.testing.assert_array_equal(array, np.broadcast_to(before, array.shape))


AXIS = np.exceptions.AxisError


@pytest.mark.parametrize(
    ("call", "args", "options", "error", "message"),
    [
        (tf.nn.softmax, [["a"]], {}, TypeError, "logits has dtype <U1: expected real numbers"),
        (tf.nn.log_softmax, [X * 1j], {}, TypeError, "logits has dtype complex128"),
        (tf.nn.softmax, [X, 2], {}, AXIS, "axis 2 is out of bounds"),
        (tf.nn.softmax, [X, (0, 1)], {}, TypeError, r"axis is \(0, 1\): expected an integer"),
        (tf.nn.softmax, [1.0], {}, AXIS, "axis -1"),
        (tf.math.reduce_logsumexp, [None], {}, TypeError, "input_tensor has dtype object"),
        (tf.math.reduce_logsumexp, [X, [0, 0]], {}, ValueError, "expected each axis once"),
        (tf.math.reduce_logsumexp, [X], {"keepdims": 2}, TypeError, "keepdims is 2"),
        (sce, [ONE_HOT[:, :2], X], {}, ValueError, r"labels has shape \(2, 2\): .* \(2, 3\)"),
        (sce, [ONE_HOT, X[:1]], {}, ValueError, r"labels has shape \(2, 3\)"),
        (sce, [["a"], X], {}, TypeError, "labels has dtype <U1"),
        (sce, [ONE_HOT, X, None], {}, TypeError, "axis is None: expected an integer"),
        (ssce, [[1, 3], X], {}, IndexError, r"labels\[1\] is 3: expected a label in \[0, 3\)"),
        (ssce, [[-1, 0], X], {}, IndexError, r"labels\[0\] is -1"),
        (ssce, [[1.0, 0.0], X], {}, TypeError, "labels has dtype float64: expected integers"),
        (ssce, [[[1], [0]], X], {}, ValueError, r"labels has shape \(2, 1\): expected \(2,\)"),
        (ssce, [0, 1.0], {}, ValueError, "logits is a number"),
        (CCE(), [ONE_HOT[:1], P], {}, ValueError, r"y_true has shape \(1, 3\): expected \(2, 3\)"),
        (CCE(), [ONE_HOT, None], {}, TypeError, "y_pred has dtype object"),
        (CCE(), [ONE_HOT * 1j, P], {}, TypeError, "y_true has dtype complex128"),
        (CCE(), [3.0, 2.0], {}, AXIS, "axis -1"),
        (CCE(axis=None), [ONE_HOT, P], {}, TypeError, "axis is None"),
        (CCE(label_smoothing=1.5), [ONE_HOT, P], {}, ValueError, "label_smoothing is 1.5"),
        (CCE(), [ONE_HOT, P, [1, 2, 3]], {}, ValueError, r"sample_weight has shape \(3,\)"),
        (CCE(), [ONE_HOT, P, "a"], {}, TypeError, "sample_weight has dtype <U1"),
        (SCE(), [[1, 3], P], {}, IndexError, r"y_true\[1\] is 3: expected a label in \[0, 3\)"),
        (SCE(), [[1, 0, 0], P], {}, ValueError, r"y_true has shape \(3,\): expected \(2,\)"),
        (SCE(ignore_class=1.5), [[1, 0], P], {}, TypeError, "ignore_class is 1.5"),
        (SCE(axis=2), [[1, 0], P], {}, AXIS, "axis 2"),
        (CCE, [], {"reduction": "average"}, ValueError, "reduction is 'average': expected one of"),
        (SCE, [], {"dtype": "int32"}, TypeError, "dtype is int32: expected a floating dtype"),
        (CCE, [], {"dtype": "float"[:3]}, TypeError, "dtype is 'flo'"),
    ],
)
def test_errors(call, args, options, error, message):
    with pytest.raises(error, match=message):
        call(*args, **options)


def test_version():
    assert re.fullmatch(r"2\.21\.0\+csoftmax\.[\d.]+", tf.__version__)


def test_tensorflow_is_not_imported():
    code = "import sys, csoftmax.compat.tensorflow as tf; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
