"""Every dtype that goes in: float16 and bfloat16 over their whole range, integers, refused ones.

ml_dtypes brings bfloat16; csoftmax itself never imports it.
"""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from checks import is_twin
from test_layouts import LAYOUTS

HALVES = ["float16", "bfloat16"]  # NumPy knows the second by name once ml_dtypes is imported
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FORWARD = ["softmax", "log_softmax", "logsumexp"]
PRODUCTS = ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"]
TARGETS = [
    ("labels", {}),
    ("labels", {"label_smoothing": 0.25, "class_weight": [0.5, 2, 1]}),
    ("probabilities", {}),
    ("probabilities", {"label_smoothing": 0.25, "sample_weight": 0.3}),
]
halves = pytest.mark.parametrize("dtype", HALVES)


def every_value(dtype):
    """All 65,536 values, in rows of 3: beside 0.5, and -1e4 or the value's own negative."""
    values = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    rows = np.stack([values, np.full_like(values, 0.5), np.full_like(values, -1e4)], axis=1)
    rows[::2, 2] = -values[::2]
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return rows.astype(dtype)


def rounded_once(got, want, dtype):
    """``want``, in float32, in the narrower dtype; zeros have the same sign."""
    for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (got, want)), strict=True):
        assert (a.dtype, b.dtype) == (dtype, np.float32)
        with np.errstate(all="ignore"):
            a, b = np.float32(a), np.float32(np.asarray(b).astype(dtype))
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))


@halves
@pytest.mark.parametrize("axis", [-1, 0])
def test_the_whole_range_is_computed_in_float32_and_rounded_once(csm, axis, dtype):
    x = np.moveaxis(every_value(dtype), -1, axis).copy()
    y = np.roll(x, 1000, axis=1 + axis)
    wide, wide_y = x.astype(np.float32), y.astype(np.float32)
    labels = np.arange(1 << 16) % 3
    with np.errstate(all="raise"):
        for function in FORWARD:
            call = getattr(csm, function)
            rounded_once(call(x, axis), call(wide, axis), dtype)
        for function in PRODUCTS:
            call = getattr(csm, function)
            rounded_once(call(x, y, axis), call(wide, wide_y, axis), dtype)
        rounded_once(csm.softmax_jacobian(x, axis), csm.softmax_jacobian(wide, axis), dtype)
        rounded_once(csm.cce(x, y, axis), csm.cce(wide, wide_y, axis), dtype)
        rounded_once(csm.cce_gradient(x, y), csm.cce_gradient(wide, wide_y), dtype)
        for kind, options in TARGETS:
            options = {**options, "axis": axis, "reduction": "none"}
            call = csm.cross_entropy_with_grad
            target, wide_target = (labels, labels) if kind == "labels" else (y, wide_y)
            got = call(x, target, **options)
            rounded_once(got, call(wide, wide_target, **options), dtype)
            rounded_once(call(x, wide_target, **options), call(wide, wide_target, **options), dtype)
            loss = csm.cross_entropy(x, target, **options)
            np.testing.assert_array_equal(np.float32(loss), np.float32(got[0]))


@halves
def test_any_target_is_rounded_to_float32_only(csm, dtype):
    x = np.array([0.1, 0.3, -1], dtype)
    target = np.array([0.7003, 0.2, 0.0997])  # float16 has 11 bits for them, bfloat16 8
    want = csm.cross_entropy_with_grad(x.astype("float32"), target)
    rounded_once(csm.cross_entropy_with_grad(x, target), want, dtype)


@halves
@pytest.mark.parametrize(
    ("shape", "axis"), [((70000,), -1), ((70000, 3), 0), ((3, 70000), -1), ((70, 2, 1000), (0, 2))]
)
def test_more_zeros_than_float16_counts(csm, shape, axis, dtype):
    x = np.zeros(shape, dtype)
    n = 70000
    out = x.copy()
    for got in (csm.softmax(x, axis), csm.softmax(out, axis, out=out)):
        assert got.dtype == dtype
        assert np.all(got == np.asarray(1 / n, dtype))
        assert np.all(got > 0)
    assert np.all(csm.log_softmax(x, axis) == np.asarray(-np.log(n), dtype))
    assert np.all(csm.logsumexp(x, axis) == np.asarray(np.log(n), dtype))
    if isinstance(axis, int):
        samples = csm.logsumexp(x, axis).shape
        loss, gradient = csm.cross_entropy_with_grad(
            x, np.zeros(samples, int), axis=axis, reduction="none"
        )
        assert np.all(loss == np.asarray(np.log(n), dtype))
        classes = np.moveaxis(gradient, axis, -1)
        assert np.all(classes[..., 1:] == np.asarray(1 / n, dtype))
        assert np.all(classes[..., 0] == -1)


@pytest.mark.parametrize("layout", ["contiguous", *LAYOUTS])
@pytest.mark.parametrize("axis", [-1, 1, (0, 2), None])
def test_bfloat16_of_any_layout(csm, axis, layout):
    """As operand, as out and in place."""
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=(2, 4, 6, 9)).astype("bfloat16")
    lay = LAYOUTS.get(layout, np.copy)

    def same(got, want):
        got, want = np.float32(got), np.float32(want)
        # the twin's float32 sums depend on the layout
        rtol = 2.0**-8 if is_twin(csm) else 0
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol / 8)

    for function in FORWARD:
        call = getattr(csm, function)
        want = call(x, axis)
        assert want.dtype == "bfloat16"
        same(call(lay(x), axis), want)
        out = np.zeros_like(want)
        if function != "logsumexp":
            out = lay(out)
            in_place = lay(x)
            assert call(in_place, axis, out=in_place) is in_place
            same(in_place, want)
        assert call(lay(x), axis, out=out) is out
        same(out, want)
    for function in PRODUCTS:
        call = getattr(csm, function)
        want, out = call(x, grad, axis), lay(np.zeros_like(x))
        assert call(lay(x), lay(grad), axis, out=out) is out
        same(out, want)
    if isinstance(axis, int):
        target = np.abs(grad)
        loss, want = csm.cross_entropy_with_grad(x, target, axis=axis)
        logits = lay(x)
        again, got = csm.cross_entropy_with_grad(logits, lay(target), axis=axis, out=logits)
        assert loss.dtype == want.dtype == "bfloat16"
        assert got is logits
        same(again, loss)
        same(got, want)


def test_bfloat16_as_dtype_argument_and_beside_others(csm):
    x = np.array([[0.1, 2.0, -1.0]], "float32")
    for function in FORWARD:
        call = getattr(csm, function)
        got = call(x, dtype="bfloat16")
        assert got.dtype == "bfloat16"
        np.testing.assert_array_equal(got, call(x.astype("bfloat16")))
        assert call(x.astype("bfloat16"), dtype="float64").dtype == np.float64
    y = x.astype("bfloat16")
    for function in (*PRODUCTS, "cce_gradient"):
        call = getattr(csm, function)
        for other, result in (("float16", "float32"), ("int8", "float64"), ("float64",) * 2):
            for got in (call(y, x.astype(other)), call(x.astype(other), y)):
                assert got.dtype == result
    one_hot = csm.one_hot([1, 0], 2, dtype="bfloat16")
    assert one_hot.dtype == "bfloat16"
    np.testing.assert_array_equal(np.float32(one_hot), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(
        csm.to_categorical(np.array([1, 0], "bfloat16")), [[0, 1], [1, 0]]
    )
    masked = csm.softmax(y, where=[True, False, True])
    want = csm.softmax(y.astype("float32"), where=[True, False, True])
    rounded_once(masked, want, "bfloat16")


def test_signalling_nan_in_a_pair_of_dtypes(csm):
    y = np.array([0x7F800001, 0], np.uint32).view(np.float32)
    with np.errstate(all="raise"):
        for function in (*PRODUCTS, "cce_gradient"):
            assert np.isnan(getattr(csm, function)(y, np.ones(2))[0])


def test_layers_take_bfloat16(compiled):
    x = np.array([[0.5, 1.0], [2.0, -1.0]], "bfloat16")
    softmax = compiled.Softmax()
    assert softmax.forward(x).dtype == "bfloat16"
    assert softmax.backward(x, 0.1).dtype == "bfloat16"
    loss = compiled.SoftmaxCrossEntropy()
    assert loss.forward(x, [0, 1]).dtype == "bfloat16"
    assert loss.backward().dtype == "bfloat16"
    dense = compiled.Dense(2, 2, rng=0)
    np.testing.assert_array_equal(dense.forward(x), dense.forward(x.astype("float64")))
    np.testing.assert_array_equal(dense.backward(x, 0.0), dense.backward(x.astype("float64"), 0.0))


def test_csoftmax_does_not_import_ml_dtypes():
    code = "import sys, csoftmax, csoftmax.reference; sys.exit('ml_dtypes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    "dtype", ["float8_e5m2", "float8_e4m3fn", "float6_e2m3fn", "int4", "uint4"]
)
def test_other_dtypes_of_ml_dtypes_are_refused_by_name(csm, dtype):
    bad, x = np.zeros((2, 3), getattr(ml_dtypes, dtype)), np.zeros((2, 3))
    labels = np.zeros(2, int)

    def refused(function, *args, **options):
        with pytest.raises(TypeError, match=dtype):
            getattr(csm, function)(*args, **options)

    for function in (*FORWARD, "softmax_jacobian"):
        refused(function, bad)
    for function in (*PRODUCTS, "cce", "cce_gradient"):
        refused(function, bad, x)
        refused(function, x, bad)
    for function in ("cross_entropy", "cross_entropy_with_grad"):
        refused(function, bad, labels)
        refused(function, x, bad)
        refused(function, x, bad[:, 0])
        refused(function, x, labels, class_weight=bad[0])
        refused(function, x, labels, sample_weight=bad[:, 0])
    for function in FORWARD:
        refused(function, x, dtype=bad.dtype)
        refused(function, x, where=bad)
        refused(function, x, out=bad if function != "logsumexp" else bad[:, 0])
    refused("cross_entropy_with_grad", x, labels, out=bad)
    refused("one_hot", bad)
    refused("one_hot", labels, 3, dtype=bad.dtype)
    refused("to_categorical", bad)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None])
def test_integers_are_float64(csm, axis, swapped, dtype):
    """Up to the ends of their ranges, where the wrong sign or width would show."""
    limits = np.iinfo(dtype) if dtype != "bool" else np.iinfo("uint8")
    ends = [limits.min, limits.max, limits.max - 1, limits.max // 2]
    x = np.array([[0, 1, 2, 1], ends, [3, 1, 0, 0], ends[::-1], [5, 5, 4, 3]], dtype)
    given = x.astype(x.dtype.newbyteorder()) if swapped else x
    wide = x.astype(np.float64)
    for function in FORWARD:
        call = getattr(csm, function)
        np.testing.assert_array_equal(call(given, axis), call(wide, axis), strict=True)
        np.testing.assert_array_equal(
            call(given, axis, dtype="float32"), call(wide, axis, dtype="float32"), strict=True
        )
    with np.errstate(all="ignore"):
        for function in (*PRODUCTS, "cce"):
            call = getattr(csm, function)
            np.testing.assert_array_equal(call(given, given, axis), call(wide, wide, axis))
        np.testing.assert_array_equal(csm.cce_gradient(given, given), csm.cce_gradient(wide, wide))
    if isinstance(axis, int):
        labels = np.arange(x.size // x.shape[axis]) % x.shape[axis]
        for got, want in zip(
            csm.cross_entropy_with_grad(given, labels, axis=axis),
            csm.cross_entropy_with_grad(wide, labels, axis=axis),
            strict=True,
        ):
            np.testing.assert_array_equal(got, want, strict=True)
