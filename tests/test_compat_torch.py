"""csoftmax.compat.torch: PyTorch's results, PyTorch side by side, each known difference, errors."""

from __future__ import annotations

import inspect
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from csoftmax.compat import torch as compat

GOLDEN = json.loads((Path(__file__).parent / "golden" / "torch_cross_entropy.json").read_text())
NAN, INF = np.nan, np.inf
RTOL = {"float16": 1e-2, "float32": 2e-6, "float64": 1e-12}
FLOATS = list(RTOL)
REDUCTIONS = ["mean", "sum", "none"]

RNG = np.random.default_rng(3)
SHAPES = [(4,), (3, 4), (3, 4, 5), (2, 3, 4, 2), (0, 3), (3, 0), (2, 3, 0)]
SPECIAL = np.array([[NAN, 1], [INF, 1], [-INF, 1], [-INF, -INF], [NAN, INF], [800, -800], [0, 0]])


@pytest.fixture(autouse=True)
def _instruction_set(compiled, monkeypatch):
    """Every test once on each instruction set."""
    monkeypatch.setattr(compat, "csoftmax", compiled)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


# ------------------------------------------------------------------------------ PyTorch's results


def test_golden_cross_entropy():
    for case in GOLDEN["cases"]:
        x, want = np.array(case["logits"], float), np.array(case["loss"], float)
        target = np.array(case["target"], np.int64 if case["hard"] else float)
        weight = None if case["weight"] is None else np.array(case["weight"])
        options = {} if case["ignore_index"] is None else {"ignore_index": case["ignore_index"]}
        options.update({key: case[key] for key in ("label_smoothing", "reduction")})
        got = compat.cross_entropy(x, target, weight, **options)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, 1e-12, 1e-15, err_msg=str(options))


# ---------------------------------------------------------------------- side by side with PyTorch


def assert_same(torch, name, *args, **options):
    """Values to rounding, dtype and shape; arguments are arrays here and tensors there."""

    def tensors(v):
        return torch.from_numpy(v) if isinstance(v, np.ndarray) else v

    function = getattr(torch if name == "logsumexp" else torch.nn.functional, name)
    want = function(*map(tensors, args), **{k: tensors(v) for k, v in options.items()}).numpy()
    got = getattr(compat, name)(*args, **options)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    rtol = RTOL.get(want.dtype.name, 0)
    np.testing.assert_allclose(got, want, rtol, rtol, err_msg=f"{name}, {args}, {options}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_normalizers(torch, name, dtype):
    for shape in [(), *SHAPES]:
        x = np.asarray(3 * RNG.normal(size=shape)).astype(dtype)
        for dim in range(-max(x.ndim, 1), max(x.ndim, 1)):
            assert_same(torch, name, x, dim)
    assert_same(torch, name, SPECIAL.clip(-INF, 100).astype(dtype), dim=1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_dtype_is_cast_to_first(torch, name):
    x = 3 * RNG.normal(size=(3, 4))
    for given, dtype in itertools.product(["float32", "float64", "int64"], ["float32", "float64"]):
        array = x.astype(given)
        got = getattr(compat, name)(array, 1, 3, dtype)
        function = getattr(torch.nn.functional, name)
        want = function(torch.from_numpy(array), 1, 3, getattr(torch, dtype)).numpy()
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, RTOL["float32"], RTOL["float32"])


@pytest.mark.parametrize("shape", [(), *SHAPES])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_dim_left_out(torch, name, shape):
    """The dimension that PyTorch takes, with a warning at the caller, in both."""
    x, function = np.asarray(RNG.normal(size=shape)), getattr(torch.nn.functional, name)
    with pytest.warns(UserWarning, match="Implicit dimension"):
        want = function(torch.from_numpy(x)).numpy()
    with pytest.warns(UserWarning, match="dim is None: expected an integer") as warned:
        got = getattr(compat, name)(x)
    assert warned[0].filename == __file__
    np.testing.assert_allclose(got, want, 1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_logsumexp(torch, dtype):
    for shape in [(), *SHAPES]:
        x = np.asarray(3 * RNG.normal(size=shape)).astype(dtype)
        dims = [0, -1, *([(0, 1), [-1, 0], (1,)] if x.ndim > 1 else [])]
        for dim, keepdim in itertools.product(dims, [False, True]):
            assert_same(torch, "logsumexp", x, dim, keepdim)
    assert_same(torch, "logsumexp", SPECIAL.astype(dtype), dim=1)


def test_logsumexp_out():
    x, out = RNG.normal(size=(3, 4)), np.empty((3, 1))
    assert compat.logsumexp(x, 1, True, out=out) is out
    np.testing.assert_array_equal(out, compat.logsumexp(x, 1, True))


def targets(x, rng):
    """Labels, some or all ignored, and probabilities, for logits or log-probabilities."""
    axis = min(x.ndim - 1, 1)
    samples, classes = x.shape[:axis] + x.shape[axis + 1 :], x.shape[axis]
    ignored = np.full(samples, -100)
    if classes:
        labels = rng.integers(0, classes, samples)
        yield np.asarray(labels), -100
        yield np.where(rng.random(samples) < 0.3, -100, labels), -100
        yield np.asarray(labels), 0
    yield ignored, -100


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_losses_of_labels(torch, name, dtype, shape):
    rng = np.random.default_rng(4)
    x = (3 * rng.normal(size=shape)).astype(dtype)
    weights = [None, rng.random(shape[min(len(shape) - 1, 1)]).astype(dtype)]
    weights.append(np.zeros_like(weights[1]))
    smoothings = [{}]
    if name == "cross_entropy" and x.size:  # see DIFFERENCES
        smoothings.append({"label_smoothing": 0.2})
    for (target, ignored), weight, reduction, smoothing in itertools.product(
        targets(x, rng), weights, REDUCTIONS, smoothings
    ):
        options = {"ignore_index": ignored, "reduction": reduction, **smoothing}
        assert_same(torch, name, x, target, weight, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_probabilities(torch, dtype, shape):
    rng = np.random.default_rng(5)
    x, target = (rng.random(shape).astype(dtype) for _ in range(2))
    weights = [None, rng.random(shape[min(len(shape) - 1, 1)]).astype(dtype)]
    for weight, reduction, smoothing in itertools.product(weights, REDUCTIONS, [0.0, 0.3, 1.0]):
        options = {"reduction": reduction, "label_smoothing": smoothing}
        assert_same(torch, "cross_entropy", x, target, weight, **options)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_losses_of_special_values(torch, name):
    labels = np.array([1, 1, 1, 1, -100, 1, 0])
    for y, weight in itertools.product([labels, 0 * labels], [None, np.array([0.5, 2])]):
        for reduction in REDUCTIONS:
            assert_same(torch, name, SPECIAL, y, weight, reduction=reduction)
    zero = np.array([[-INF, 0.0]])
    for weight, label in itertools.product([[0.0, 1.0], [1.0, 0.0]], [0, 1]):
        if name == "nll_loss" or (weight[0], label) != (0, 0):  # see DIFFERENCES
            assert_same(torch, name, zero, np.array([label]), np.array(weight))


def test_one_hot(torch):
    for labels in [2, [0, 2, 1], [[0], [3]], np.zeros((0, 2), int)]:
        for classes in [-1, 4, 7]:
            if np.size(labels) or classes > 0:
                assert_same(torch, "one_hot", np.array(labels, np.int64), classes)


def test_arguments_are_those_of_pytorch(torch):
    """Names, order and defaults."""
    for name in ("softmax", "log_softmax", "cross_entropy", "nll_loss"):
        here = inspect.signature(getattr(compat, name)).parameters.values()
        there = inspect.signature(getattr(torch.nn.functional, name)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in here] == [
            (p.name, p.kind, p.default) for p in there
        ]


def test_arguments_by_name(torch):
    """Of the functions whose signature PyTorch does not tell."""
    x, y = RNG.normal(size=(3, 4)), np.array([0, 2, 1])
    assert_same(torch, "logsumexp", input=x, dim=0, keepdim=True)
    assert_same(torch, "one_hot", input=y, num_classes=5)


def test_tensors_go_in(torch):
    x, y = RNG.normal(size=(3, 4)), np.array([0, 2, 1])
    for name, args in [("softmax", [x, 1]), ("cross_entropy", [x, y]), ("nll_loss", [x, y])]:
        got = getattr(compat, name)(*map(torch.as_tensor, args[:1]), *args[1:])
        np.testing.assert_array_equal(got, getattr(compat, name)(*args))


# ------------------------------------------------------------------------------- known differences

# Function, arguments, and the result here.
DIFFERENCES = {
    "list": ("softmax", [[0.0, 0.0], 0], np.float64([0.5, 0.5])),
    "integers": ("softmax", [np.array([2, 2]), 0], np.float64([0.5, 0.5])),
    "integers, sum": ("logsumexp", [np.array([2]), 0], np.float64(2)),
    "bools": ("log_softmax", [np.array([True]), 0], np.float64([0])),
    "dtype of input": (
        *("cross_entropy", [np.zeros((1, 2), "f4"), np.float64([[0.5, 0.5]])]),
        np.float32(np.log(2)),
    ),
    "dtype of weight": (
        *("cross_entropy", [np.zeros((1, 2), "f4"), [1], np.float64([1, 2])]),
        np.float32(np.log(2)),
    ),
    "label": ("cross_entropy", [[[0.0, 0.0]], np.int16([1])], np.log(2)),
    "label, nll": ("nll_loss", [[[0.0, -3]], np.uint32([1])], np.float64(3)),
    "0 at -inf": ("cross_entropy", [[[-INF, 0]], [[0.0, 1.0]]], np.float64(0)),
    "0 at -inf, weight": (
        *("cross_entropy", [[[-INF, 0], [0, 0]], [0, 1], [0, 1.0]]),
        np.log(2),
    ),
    "0 at -inf, nll": ("nll_loss", [[[-INF, 0], [0, 0]], [0, 1], [0, 1.0]], np.float64(NAN)),
    "infinite target": ("cross_entropy", [[[0.0, 0]], [[INF, 0]]], np.float64(NAN)),
    "weights cancel": ("cross_entropy", [[[0.0, 0], [0, 1]], [0, 1], [1, -1]], np.float64(NAN)),
    "no class": (
        *("cross_entropy", [np.zeros((1, 0)), [-100], None, None, -100, None, "sum", 0.1]),
        np.float64(0),
    ),
    "no axis": ("logsumexp", [[1.0, 2.0], ()], np.float64([1, 2])),
}


@pytest.mark.parametrize(("name", "args", "want"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_each_difference(name, args, want):
    """What the first lines of the module list."""
    got = getattr(compat, name)(*args)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_half_precision_is_rounded_once():
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = RNG.normal(size=(3, 4))
    for dtype, (name, args) in itertools.product(
        [np.dtype("f2"), bfloat16],
        [
            ("softmax", [1]),
            ("log_softmax", [1]),
            ("logsumexp", [1]),
            ("cross_entropy", [[1, 0, 2]]),
            ("nll_loss", [[1, 0, 2]]),
        ],
    ):
        half = x.astype(dtype)
        got = getattr(compat, name)(half, *args)
        want = getattr(compat, name)(half.astype("f4"), *args)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want.astype(dtype))


# --------------------------------------------------------------------------------------- errors

X, Y = np.zeros((2, 3)), np.array([0, 1])
AXIS = np.exceptions.AxisError


@pytest.mark.parametrize(
    ("name", "args", "options", "error", "message"),
    [
        ("softmax", [["a"], 0], {}, TypeError, "input has dtype <U1: expected real numbers"),
        ("softmax", [X, 2], {}, AXIS, "axis 2 is out of bounds"),
        ("softmax", [1.0, 1], {}, AXIS, "axis 1"),
        ("log_softmax", [X, (0, 1)], {}, TypeError, r"\(0, 1\): expected an integer"),
        ("log_softmax", [X, 1], {"dtype": "int64"}, TypeError, "dtype is int64"),
        ("logsumexp", [X], {}, TypeError, "dim"),
        ("logsumexp", [X, None], {}, TypeError, "axis is None: expected an integer"),
        ("logsumexp", [X, (0, 0)], {}, ValueError, "expected each axis once"),
        ("logsumexp", [X, 0, 2], {}, TypeError, "keepdims is 2"),
        ("logsumexp", [X, 0], {"out": np.empty(2)}, ValueError, r"out has shape \(2,\)"),
        ("one_hot", [[0.0]], {}, TypeError, "input has dtype float64: expected integers"),
        ("one_hot", [[0, -1]], {}, IndexError, r"input\[1\] is -1"),
        ("one_hot", [[-1]], {}, IndexError, r"input\[0\] is -1: expected a label in \[0, 1\)"),
        ("one_hot", [[3], 3], {}, IndexError, r"input\[0\] is 3: expected a label in \[0, 3\)"),
        ("one_hot", [[3], 0], {}, ValueError, "num_classes is 0: expected at least 1"),
        ("one_hot", [[3], -2], {}, ValueError, "num_classes is -2: expected at least 1"),
        ("one_hot", [[3], None], {}, TypeError, "num_classes is None"),
        ("one_hot", [np.zeros(0, int)], {}, ValueError, "num_classes is -1.*empty"),
        ("cross_entropy", [X, Y[:1]], {}, ValueError, r"target has shape \(1,\): expected \(2,\)"),
        ("cross_entropy", [X, X * 1j], {}, TypeError, "target has dtype complex128"),
        ("cross_entropy", [X, X], {"ignore_index": 1}, ValueError, "ignore_index is 1"),
        ("cross_entropy", [X, Y], {"ignore_index": None}, TypeError, "ignore_index is None"),
        ("cross_entropy", [X, Y], {"label_smoothing": 2}, ValueError, "label_smoothing is 2"),
        *(
            (name, args, options, error, message)
            for name in ("cross_entropy", "nll_loss")
            for args, options, error, message in [
                ([X * 1j, Y], {}, TypeError, "input has dtype complex128"),
                ([1.0, 0], {}, ValueError, "input is a number"),
                ([X, [0, 3]], {}, IndexError, r"target\[1\] is 3: expected a label in \[0, 3\)"),
                ([X, [0, -1]], {}, IndexError, r"target\[1\] is -1"),
                ([X, Y, [1.0]], {}, ValueError, r"weight has shape \(1,\): expected \(3,\)"),
                ([X, Y, ["a"] * 3], {}, TypeError, "weight has dtype <U1"),
                ([X, Y, None, True], {}, ValueError, "size_average is True: expected None"),
                ([X, Y], {"reduce": False}, ValueError, "reduce is False: expected None"),
                ([X, Y], {"reduction": "average"}, ValueError, "reduction is 'average'"),
            ]
        ),
        ("nll_loss", [X, X], {}, TypeError, "target has dtype float64: expected integers"),
        ("nll_loss", [X, Y[:1]], {}, ValueError, r"target has shape \(1,\): expected \(2,\)"),
        ("nll_loss", [X, Y], {"ignore_index": 1.5}, TypeError, "ignore_index is 1.5"),
    ],
)
def test_errors(name, args, options, error, message):
    with pytest.raises(error, match=message):
        getattr(compat, name)(*args, **options)


def test_pytorch_is_not_imported():
    code = "import sys, csoftmax.compat.torch; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
