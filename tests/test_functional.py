"""softmax, log_softmax, logsumexp and their products: values, dtypes, axes, out, where, dtype."""

import numpy as np
import pytest
from checks import assert_like_twin, bound, truth, ulps

FORWARD = ["softmax", "log_softmax", "logsumexp"]
PRODUCTS = ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"]
LENGTHS = [*range(1, 71), 100, 511, 512, 513, 1000, 5000, 8191, 8192, 8193, 20000, 100000]
DTYPES = {
    **{t: t for t in ("float16", "float32", "float64", "longdouble")},
    **{t: "float64" for t in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32")},
    **{t: "float64" for t in ("int64", "uint64")},
}
SHAPES_AND_AXES = [
    ((), None),
    ((), ()),
    ((5,), 0),
    ((5,), None),
    ((4, 5), -1),
    ((4, 5), 0),
    ((4, 5), (0, 1)),
    ((4, 5), ()),
    ((3, 4, 5), 1),
    ((3, 4, 5), (0, 2)),
    ((3, 4, 5), (2, 0)),
    ((3, 4, 5), (-1, 1)),
    ((3, 4, 5), None),
    ((2, 3, 4, 5), -2),
    ((2, 3, 4, 5), (1, 2)),
    ((2, 1, 3, 1, 2, 2), (0, 3, 5)),
    ((1,) * 9 + (3,), -1),
]


def rows(count, length, dtype, seed=0):
    generator = np.random.default_rng([seed, count, length])
    return (3 * generator.standard_normal((count, length))).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FORWARD)
@pytest.mark.parametrize("axis", [-1, 0])
def test_every_row_length(csm, function, dtype, axis):
    for length in LENGTHS:
        x = rows(3 if length < 2000 else 1, length, dtype)
        if axis == 0:
            x = np.ascontiguousarray(x.T)
        want = truth(function, x, axis=axis)
        got = getattr(csm, function)(x, axis=axis)
        if function == "logsumexp":  # near a zero result the terms' own size is the measure
            want, got = want + x.max(axis), got + x.max(axis)
        spread = 0 if function == "log_softmax" else float(np.ptp(x))
        assert ulps(got, want) <= bound(csm, dtype, spread, length), length


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 3, 7, 8, 63, 64, 65, 130])
def test_leading_axis_of_any_width(csm, dtype, columns):
    x = rows(17, columns, dtype)
    for function in FORWARD:
        got = getattr(csm, function)(x, axis=0)
        np.testing.assert_allclose(
            got, truth(function, x, axis=0), rtol=30 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", [20, 40, 80])
def test_log_softmax_keeps_the_tiny_loss_of_a_confident_row(csm, dtype, gap):
    x = np.array([[gap, 0, 0], [0, gap, 1], [-5, -6, gap - 5.5]], dtype)
    want = truth("log_softmax", x)
    assert want.max() < 0
    assert ulps(csm.log_softmax(x), want) <= bound(csm, dtype)


def test_float16_is_rounded_once(csm):
    x = rows(20, 40, "float16")
    for function in FORWARD:
        got = getattr(csm, function)(x)
        assert got.dtype == np.float16
        assert ulps(got, truth(function, x)) <= 0.51


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(csm, dtype):
    x = np.array([[0, 1, 1], [1, 1, 0]]).astype(dtype)
    for function in FORWARD:
        got = assert_like_twin(csm, function, x)
        assert got.dtype == DTYPES[dtype]
        eps = np.finfo(got.dtype).eps
        wide = truth(function, x.astype("float64"))
        np.testing.assert_allclose(got, wide, rtol=4 * max(float(eps), 1e-16))
    for function in PRODUCTS:
        assert assert_like_twin(csm, function, x, x).dtype == DTYPES[dtype]
    assert assert_like_twin(csm, "softmax_jacobian", x).dtype == DTYPES[dtype]


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        ("float32", "float64", "float64"),
        ("float16", "float32", "float32"),
        ("int8", "float32", "float64"),
        ("float32", "bool", "float64"),
        ("float64", "longdouble", "longdouble"),
    ],
)
@pytest.mark.parametrize("function", PRODUCTS)
def test_mixed_dtypes_of_a_product(csm, function, first, second, result):
    y, grad = rows(3, 4, first), rows(3, 4, second, seed=1)
    assert assert_like_twin(csm, function, y, grad).dtype == result


@pytest.mark.parametrize("function", FORWARD)
def test_plain_python_input(csm, function):
    assert_like_twin(csm, function, [1, 2, 3])
    assert_like_twin(csm, function, [[1.5, 2], [3, 4]], axis=0)
    assert_like_twin(csm, function, 3.0, axis=None)


@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_any_dimensions_and_axes(csm, shape, axis):
    x = np.random.default_rng(1).normal(size=shape)
    for function in ["softmax", "log_softmax"]:
        assert assert_like_twin(csm, function, x, axis).shape == shape
    for keepdims in (False, True):
        got = assert_like_twin(csm, "logsumexp", x, axis, keepdims=keepdims)
        assert got.shape == np.sum(x, axis=axis, keepdims=keepdims).shape
    np.testing.assert_allclose(np.sum(csm.softmax(x, axis), axis=axis), 1, rtol=1e-14)
    grad = np.random.default_rng(2).normal(size=shape)
    for function in PRODUCTS:
        assert assert_like_twin(csm, function, x, grad, axis).shape == shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_products_against_a_wider_dtype(csm, dtype, axis):
    for length in (1, 2, 3, 10, 33, 513, 5000):
        y, grad = csm.softmax(rows(4, length, dtype)), rows(4, length, dtype, seed=1)
        if axis == 0:
            y, grad = y.T.copy(), grad.T.copy()
        wide_y, wide_g = y.astype(np.longdouble), grad.astype(np.longdouble)
        eps = (20 + np.sqrt(length)) * np.finfo(dtype).eps
        size = np.sum(np.abs(wide_y * wide_g), axis=axis, keepdims=True)
        want = wide_y * (wide_g - np.sum(wide_y * wide_g, axis=axis, keepdims=True))
        for function in ("softmax_vjp", "softmax_jvp"):
            error = np.abs(getattr(csm, function)(y, grad, axis) - want)
            assert np.all(error <= eps * wide_y * (np.abs(wide_g) + size))
        log_y = np.log(y)
        p = np.exp(log_y.astype(np.longdouble))
        want = wide_g - p * np.sum(wide_g, axis=axis, keepdims=True)
        size = p * np.sum(np.abs(wide_g), axis=axis, keepdims=True)
        error = np.abs(csm.log_softmax_vjp(log_y, grad, axis) - want)
        assert np.all(error <= eps * (np.abs(wide_g) + size))


@pytest.mark.parametrize(
    ("shape", "axis"), [((4,), -1), ((3, 4), -1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 0), -1)]
)
def test_jacobian(csm, shape, axis):
    y = csm.softmax(np.random.default_rng(3).normal(size=shape), axis)
    jacobian = assert_like_twin(csm, "softmax_jacobian", y, axis)
    last = np.moveaxis(y, axis, -1)
    assert jacobian.shape == (*last.shape, last.shape[-1])
    identity = np.eye(last.shape[-1])
    for column in range(last.shape[-1]):
        unit = np.broadcast_to(identity[column], last.shape)
        np.testing.assert_allclose(
            csm.softmax_vjp(last, unit), jacobian[..., column], rtol=1e-13, atol=1e-17
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", float])
def test_dtype_argument_is_the_dtype_of_the_result(csm, dtype):
    for x in (rows(3, 5, "float64"), rows(3, 5, "float32"), np.arange(6).reshape(2, 3)):
        for function in FORWARD:
            got = assert_like_twin(csm, function, x, dtype=dtype)
            assert got.dtype == np.dtype(dtype).newbyteorder("=")
            np.testing.assert_array_equal(got, getattr(csm, function)(x.astype(dtype)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None])
def test_out_is_filled_and_returned(csm, dtype, axis):
    x = rows(6, 7, dtype)
    grad = rows(6, 7, dtype, seed=1)
    calls = [(f, (x,)) for f in FORWARD] + [(f, (x, grad)) for f in PRODUCTS]
    for function, args in calls:
        call = getattr(csm, function)
        want = call(*args, axis=axis)
        out = np.full(np.shape(want), 7, dtype)
        assert call(*args, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_out_may_be_an_input(csm, dtype, axis):
    x, grad = rows(6, 37, dtype), rows(6, 37, dtype, seed=1)
    for function in ("softmax", "log_softmax"):
        a = x.copy()
        assert getattr(csm, function)(a, axis, out=a) is a
        np.testing.assert_array_equal(a, getattr(csm, function)(x, axis))
    for function in PRODUCTS:
        want = getattr(csm, function)(x, grad, axis)
        for position in (0, 1):
            args = [x.copy(), grad.copy()]
            assert getattr(csm, function)(*args, axis, out=args[position]) is args[position]
            np.testing.assert_array_equal(args[position], want)


def test_out_may_be_strided_or_overlap(csm):
    x = rows(6, 8, "float64")
    want = csm.softmax(x)
    backing = np.full((12, 24), 7.0)
    csm.softmax(x, out=backing[::2, ::-3])
    np.testing.assert_array_equal(backing[::2, ::-3], want)
    assert np.all(backing[1::2] == 7)
    shifted = np.zeros((6, 9))
    shifted[:, :8] = x
    csm.softmax(shifted[:, :8], out=shifted[:, 1:])
    np.testing.assert_array_equal(shifted[:, 1:], want)
    order = np.asfortranarray(np.zeros((6, 8)))
    np.testing.assert_array_equal(csm.softmax(x, out=order), want)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize(
    "mask",
    [
        np.array([[True, False, True], [False, False, False], [True, True, True]]),
        np.array([True, False, True]),
        np.array([[True], [False], [True]]),
        np.array(True),
        False,
    ],
    ids=["full", "row", "column", "scalar", "nothing"],
)
def test_where_leaves_entries_out(csm, dtype, mask):
    x = np.array([[1, np.nan, 3], [np.inf, 2, np.nan], [0, 1, -np.inf]]).astype(dtype)
    kept = np.broadcast_to(mask, x.shape)
    for axis in (-1, 0, None):
        p = assert_like_twin(csm, "softmax", x, axis, where=mask)
        assert np.all(p[~kept] == 0)
        log_p = assert_like_twin(csm, "log_softmax", x, axis, where=mask)
        assert np.all(log_p[~kept] == -np.inf)
        assert_like_twin(csm, "logsumexp", x, axis, where=mask)
        out = np.full(x.shape, 7, dtype)
        np.testing.assert_array_equal(csm.softmax(x, axis, where=mask, out=out), p)
    clean = np.where(kept, x, 0)
    np.testing.assert_array_equal(
        csm.softmax(x, where=mask), csm.softmax(clean, where=mask), strict=True
    )


def test_where_equals_leaving_the_entries_away(csm):
    x = rows(1, 9, "float64")[0]
    mask = np.arange(9) % 3 > 0
    np.testing.assert_allclose(csm.softmax(x, where=mask)[mask], csm.softmax(x[mask]), rtol=1e-15)
    np.testing.assert_allclose(csm.logsumexp(x, where=mask), csm.logsumexp(x[mask]), rtol=1e-15)


@pytest.mark.parametrize(
    ("shape", "axis"), [((0,), -1), ((3, 0), -1), ((0, 3), -1), ((3, 0), 0), ((0, 0), None)]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "int64"])
def test_empty_arrays(csm, shape, axis, dtype):
    x = np.empty(shape, dtype)
    for function in ("softmax", "log_softmax"):
        assert assert_like_twin(csm, function, x, axis).shape == shape
    total = assert_like_twin(csm, "logsumexp", x, axis)
    assert np.all(total == -np.inf)
    for function in PRODUCTS:
        assert assert_like_twin(csm, function, x, x, axis).shape == shape


@pytest.mark.parametrize("threads", [1, 2])
def test_more_ties_than_float32_counts(compiled, threads):
    """Counted one by one, eight lanes would stop at 2^24 each."""
    n = 150_000_000
    with compiled.threads(threads):
        assert compiled.logsumexp(np.zeros(n, np.float32)) == np.float32(np.log(n))
