"""one_hot, which is strict, and to_categorical, which is Keras'."""

import json
from pathlib import Path

import numpy as np
import pytest
from checks import assert_like_twin

KERAS = json.loads((Path(__file__).parent / "golden" / "keras.json").read_text())
ERRORS = {"IndexError": IndexError, "ValueError": ValueError}
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i2"]


@pytest.mark.parametrize("case", KERAS["to_categorical"], ids=lambda case: str(case["x"]))
def test_to_categorical_is_keras(csm, case):
    if "error" in case:
        with pytest.raises(ERRORS[case["error"]]):
            csm.to_categorical(case["x"], **case["kw"])
        return
    got = csm.to_categorical(case["x"], **case["kw"])
    want = np.array(case["result"], case["dtype"]).reshape(case["shape"])
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize(
    "y", [True, [[[1]], [[0]]], [[1], [0]], np.float16([1.9, -0.9]), np.array([[2, 0]], ">i4")]
)
def test_to_categorical_of_other_input(csm, y):
    got = assert_like_twin(csm, "to_categorical", y)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got.sum(-1), np.ones(got.shape[:-1]))


def test_to_categorical_takes_zero_classes_for_none(csm):
    np.testing.assert_array_equal(csm.to_categorical([0, 2], 0), csm.to_categorical([0, 2]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3.0, -4.0])
def test_to_categorical_without_such_a_class(csm, bad):
    with np.errstate(all="raise"), pytest.raises(IndexError, match=r"y\[1\]"):
        csm.to_categorical([0.0, bad], 3)


@pytest.mark.parametrize("labels", INTEGERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bool", "int8", "complex64"])
def test_one_hot_dtypes(csm, labels, dtype):
    got = csm.one_hot(np.array([2, 0, 1], labels), dtype=dtype)
    np.testing.assert_array_equal(got, np.eye(3, dtype=dtype)[[2, 0, 1]], strict=True)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 1, 3), (0,), (2, 0)])
@pytest.mark.parametrize("classes", [4, np.int32(7)])
def test_one_hot_of_any_shape_and_axis(csm, shape, classes):
    labels = np.random.default_rng(0).integers(0, 4, size=shape)
    for axis in range(-len(shape) - 1, len(shape) + 1):
        got = csm.one_hot(labels, classes, axis=axis)
        want = np.moveaxis(np.eye(int(classes))[labels], -1, axis)
        np.testing.assert_array_equal(got, want, strict=True)


def test_one_hot_counts_the_classes(csm):
    assert csm.one_hot([0, 3]).shape == (2, 4)
    assert csm.one_hot([0, 3]).dtype == np.float64
    assert csm.one_hot(2).shape == (3,)
    assert csm.one_hot(np.zeros(2, int), 1).tolist() == [[1], [1]]


@pytest.mark.parametrize("layout", ["reversed", "spaced", "broadcast", "fortran", "read-only"])
def test_one_hot_of_any_layout(csm, layout):
    labels = np.array([[0, 1, 2], [2, 1, 0]])
    view = {
        "reversed": labels[::-1, ::-1].copy()[::-1, ::-1],
        "spaced": np.repeat(labels, 2, axis=1)[:, ::2],
        "broadcast": np.broadcast_to(labels[0], (2, 3)),
        "fortran": np.asfortranarray(labels),
        "read-only": labels.copy(),
    }[layout]
    view.flags.writeable = False
    np.testing.assert_array_equal(csm.one_hot(view), np.eye(3)[view])
    np.testing.assert_array_equal(csm.to_categorical(view), np.eye(3)[view])
