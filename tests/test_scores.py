"""log_softmax_gather, softmax_entropy, log_softmax_topk, and the temperature of all functions.

Samples have a file of their own, test_sampling.py; accuracy is test_accuracy.py's.
"""

import dask.array as da
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from checks import assert_like_twin, assert_same_bits
from implementations import is_twin

import csoftmax.reference as twin

FLOATS = ["float16", "float32", "float64", "longdouble"]
DTYPES = [*FLOATS, "int32", "bool", ">f4", ml_dtypes.bfloat16]
NAN, INF = np.nan, np.inf
SHAPES = [  # a class axis, in short, middle and long rows and columns
    ((3,), 0),
    ((5, 3), -1),
    ((70, 10), -1),
    ((9, 100), 1),
    ((3, 257), -1),
    ((2, 9000), -1),
    ((10, 70), 0),
    ((300, 20), 0),
    ((5000, 3), 0),
    ((2, 7, 4), 1),
    ((2, 3, 2, 8), -2),
]
TEMPERATURES = [1.0, 0.7, 3]

shapes = pytest.mark.parametrize(("shape", "axis"), SHAPES)
temperatures = pytest.mark.parametrize("temperature", TEMPERATURES)


def normal(shape, dtype="float64", seed=0, spread=3.0):
    x = spread * np.random.default_rng(seed).standard_normal(shape)
    return x > 0 if dtype == "bool" else x.astype(dtype)


def same(csm, got, want):
    """The bits of compiled results; the twin's roundings depend on strides."""
    if not is_twin(csm):
        assert_same_bits(csm, got, want)
        return
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    eps = ml_dtypes.finfo(got.dtype).eps if got.dtype.kind == "V" else np.finfo(got.dtype).eps
    np.testing.assert_allclose(got, want, rtol=50 * float(eps), atol=50 * float(eps))


def labels_of(x, axis, seed=1):
    samples = tuple(np.delete(x.shape, axis))
    return np.random.default_rng(seed).integers(x.shape[axis], size=samples)


def at(log_p, labels, axis):
    """log_p at the labels."""
    return np.take_along_axis(log_p, np.expand_dims(labels, axis), axis).squeeze(axis)


def spaced(a):
    """Every other entry of a larger array, backwards."""
    whole = np.zeros([2 * n for n in a.shape], a.dtype)
    view = whole[(slice(None, None, -2),) * a.ndim]
    view[...] = a
    return view


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "spaced": spaced,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "list": np.ndarray.tolist,
}
laid_out = pytest.mark.parametrize("layout", LAYOUTS)


# -------------------------------------------------------------------------------------- temperature


@shapes
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
@pytest.mark.parametrize("temperature", [0.7, 3, 1e-3, 1e9, np.float32(0.3), np.int8(2)])
def test_temperature_is_a_quotient_rounded_once(csm, temperature, dtype, shape, axis):
    x = normal(shape, dtype)
    quotient = x / x.dtype.type(float(temperature))
    for function in ("softmax", "log_softmax", "softmax_entropy"):
        call = getattr(csm, function)
        got = call(x, axis, temperature=temperature)
        same(csm, got, call(quotient, axis))
    values, indices = csm.log_softmax_topk(x, 2, axis, temperature=temperature)
    wanted = csm.log_softmax_topk(quotient, 2, axis)
    same(csm, values, wanted[0])
    np.testing.assert_array_equal(indices, wanted[1])
    labels = labels_of(x, axis)
    got = csm.log_softmax_gather(x, labels, axis, temperature=temperature)
    same(csm, got, csm.log_softmax_gather(quotient, labels, axis))
    got = csm.sample_categorical(x, 5, axis=axis, temperature=temperature)
    np.testing.assert_array_equal(got, csm.sample_categorical(quotient, 5, axis=axis))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None])
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_temperature_with_every_option(csm, function, axis, dtype):
    x = normal((4, 5, 6), dtype)
    mask = normal(x.shape, seed=1) > -1
    options = {"axis": axis, "temperature": 0.5}
    for where in (None, mask, mask[0], mask[:, :1]):
        want = assert_like_twin(csm, function, x, where=where, **options)
        out = np.full(x.shape, 7, want.dtype)
        assert getattr(csm, function)(x, where=where, out=out, **options) is out
        same(csm, out, want)
        if x.dtype == want.dtype:
            x_too = x.copy()
            getattr(csm, function)(x_too, where=where, out=x_too, **options)
            same(csm, x_too, want)
    assert_like_twin(csm, function, x, dtype="float32", **options)


def test_float16_quotient_is_not_rounded_to_float16(csm):
    x = normal((50, 40), "float16")
    wide = csm.softmax(x.astype(np.float32), temperature=0.7)
    same(csm, csm.softmax(x, temperature=0.7), wide.astype(np.float16))


def test_overlapping_output(csm):
    buffer = normal(101, "float32")
    x = buffer[1:].reshape(10, 10)
    want = csm.softmax(x.copy(), temperature=2.0)
    out = buffer[:-1].reshape(10, 10)
    same(csm, csm.softmax(x, temperature=2.0, out=out), want)


def test_no_temperature_at_all_costs_no_bit(csm):
    x = normal((30, 40), "float32")
    for one in (1, 1.0, np.float64(1), np.int8(1)):
        same(csm, csm.softmax(x, temperature=one), csm.softmax(x))


def test_quotients_may_overflow_or_vanish(csm):
    """What x / temperature gives by itself."""
    x = np.array([[1e30, -1e30, 0], [1e30, 1, 2]], np.float32)
    np.testing.assert_array_equal(csm.softmax(x, temperature=1e-20), np.full((2, 3), NAN))
    np.testing.assert_array_equal(csm.softmax(-x[1], temperature=1e-20), [0, 1, 0])
    even = csm.softmax(np.array([1e-30, -1e-30], np.float32), temperature=1e30)
    np.testing.assert_array_equal(even, [0.5, 0.5])


FOREIGN = ["softmax", "log_softmax", "softmax_entropy"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("function", FOREIGN)
@temperatures
def test_dask_stays_lazy(compiled, temperature, function, axis, dtype):
    x, call = normal((6, 8), dtype), getattr(compiled, function)
    lazy = da.from_array(x, chunks=(-1, 3) if axis == 0 else (4, -1))
    got = call(lazy, axis=axis, temperature=temperature)
    want = call(x, axis=axis, temperature=temperature)
    assert isinstance(got, da.Array)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    same(compiled, got.compute(), want)


@pytest.mark.parametrize("function", FOREIGN)
@temperatures
def test_data_frame(compiled, temperature, function):
    x, call = normal((3, 4)), getattr(compiled, function)
    got = call(pd.DataFrame(x), axis=-1, temperature=temperature)
    same(compiled, np.asarray(got), call(x, temperature=temperature))
    assert function == "softmax_entropy" or type(got) is pd.DataFrame
    with pytest.raises(ValueError, match="temperature is -1"):
        call(pd.DataFrame(x), temperature=-1)


# ------------------------------------------------------------------------------------------- gather


@shapes
@temperatures
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather(csm, dtype, temperature, shape, axis):
    x = normal(shape, dtype)
    labels = labels_of(x, axis)
    got = assert_like_twin(csm, "log_softmax_gather", x, labels, axis, temperature=temperature)
    log_p = csm.log_softmax(x, axis, temperature=temperature)
    same(csm, got, at(log_p, labels, axis))
    if temperature == 1:
        loss = csm.cross_entropy(x, labels, axis=axis, reduction="none")
        same(csm, got, 0 - loss)


@laid_out
@pytest.mark.parametrize("integer", ["int8", "uint8", "int32", "uint64", ">i4"])
def test_gather_layouts(csm, integer, layout):
    x = normal((4, 6, 35), "float32")
    for axis in range(3):
        labels = labels_of(x, axis)
        want = csm.log_softmax_gather(x.astype(float) if layout == "list" else x, labels, axis)
        laid = LAYOUTS[layout](labels.astype(integer))
        got = csm.log_softmax_gather(LAYOUTS[layout](x), laid, axis)
        same(csm, got, want)


def test_gather_special_values(csm):
    x = np.array([[0, -INF, 1], [INF, 0, 0], [NAN, 0, 0], [-INF] * 3, [0, -INF, -INF]])
    got = csm.log_softmax_gather(x, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(got, [-INF, NAN, NAN, NAN, 0])
    assert not np.signbit(got[-1])
    assert csm.log_softmax_gather(np.zeros((0, 3)), np.zeros(0, int)).shape == (0,)
    assert csm.log_softmax_gather(np.zeros((0, 0)), np.zeros(0, int)).shape == (0,)
    assert type(csm.log_softmax_gather([1.0, 2.0], 1)) is np.float64


def test_gather_names_a_bad_label(csm):
    x = np.zeros((2, 3, 4), np.float32)
    labels = np.zeros((2, 4), int)
    labels[1, 2] = 3
    with pytest.raises(IndexError, match=r"target\[1, 2\] is 3: expected a label in \[0, 3\)"):
        csm.log_softmax_gather(x, labels, 1)
    with pytest.raises(TypeError, match="target has dtype float64: expected integers"):
        csm.log_softmax_gather(x, x.astype(float), 1)


# ------------------------------------------------------------------------------------------ entropy


@shapes
@temperatures
@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy(csm, dtype, temperature, shape, axis):
    x = normal(shape, dtype)
    for axes in (axis, tuple(range(len(shape))), None):
        got = csm.softmax_entropy(x, axes, temperature=temperature)
        want = twin.softmax_entropy(x, axes, temperature=temperature)
        assert (got.dtype, got.shape, type(got)) == (want.dtype, want.shape, type(want))
        eps = 2**-8 if x.dtype == ml_dtypes.bfloat16 else np.finfo(got.dtype).eps
        np.testing.assert_allclose(got, want, rtol=(60 + x.size) * eps)


@laid_out
@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), None])
def test_entropy_layouts(csm, axis, layout):
    x = normal((4, 6, 35), "float32")
    want = csm.softmax_entropy(x.astype(float) if layout == "list" else x, axis)
    same(csm, csm.softmax_entropy(LAYOUTS[layout](x), axis), want)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 2, 9, 64, 300, 5000])
def test_entropy_special_values(csm, n, dtype):
    """Also between ordinary rows, along both axes."""
    row, limits = normal(n, dtype, spread=1), np.finfo(dtype)
    rows = np.array([row] * 12)
    rows[1] = -INF
    rows[2, n // 2] = NAN
    rows[4, n - 1] = INF
    rows[5] = -INF
    rows[5, n // 3] = 2
    rows[6] = limits.max
    rows[8] = -limits.max
    rows[8, -1] = limits.max
    rows[9, : n // 2] = -INF
    got = csm.softmax_entropy(rows)
    same(csm, csm.softmax_entropy(np.asfortranarray(rows).T.copy(), 0), got)
    even = np.log(np.longdouble(n)).astype(dtype)
    usual = csm.softmax_entropy(row)
    want = [usual, NAN, NAN, usual, NAN, 0, even, usual, 0]
    np.testing.assert_allclose(got[:9], want, rtol=8 * limits.eps)
    np.testing.assert_allclose(got[9], csm.softmax_entropy(row[n // 2 :]), rtol=8 * limits.eps)
    np.testing.assert_array_equal(got[[0, 3, 7]], usual)
    assert not np.signbit(got[[5, 8]]).any()


def test_entropy_of_confident_rows_keeps_its_digits(csm):
    x = np.array([[40.0, 0.0], [700.0, 0.0], [0.0, 0.0]])
    p = np.exp(-x[:2, 0].astype(np.longdouble))
    want = [*(p + p * x[:2, 0]), np.log(2)]
    np.testing.assert_allclose(csm.softmax_entropy(x), np.array(want, float), rtol=1e-15)


def test_entropy_of_nothing(csm):
    np.testing.assert_array_equal(csm.softmax_entropy(np.zeros((2, 0))), [NAN, NAN])
    assert csm.softmax_entropy(np.zeros((0, 3))).shape == (0,)


# -------------------------------------------------------------------------------------------- top-k


def counts(n):
    return sorted({1, 2, min(5, n), min(50, n), n - n // 3, n} - {0})


@shapes
@temperatures
@pytest.mark.parametrize("dtype", DTYPES)
def test_topk(csm, dtype, temperature, shape, axis):
    x = normal(shape, dtype)
    log_p = csm.log_softmax(x, axis, temperature=temperature)
    for k in counts(x.shape[axis]):
        if k > x.shape[axis]:
            continue
        values, indices = csm.log_softmax_topk(x, k, axis, temperature=temperature)
        want = twin.log_softmax_topk(x, k, axis, temperature=temperature)[1]
        np.testing.assert_array_equal(indices, want)
        assert indices.dtype == np.int64
        assert values.dtype == log_p.dtype
        if x.dtype == ml_dtypes.bfloat16:
            np.testing.assert_array_equal(values, np.take_along_axis(log_p, indices, axis))
            continue
        same(csm, values, np.take_along_axis(log_p, indices, axis))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 7), (20, 33), (8, 500), (2, 10_000)])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("kind", ["ties", "ascending", "descending", "even", "mostly -inf"])
def test_topk_order(csm, kind, axis, shape, dtype):
    """Of equal entries the lower index comes first, in whatever order they lie."""
    rng = np.random.default_rng(0)
    x = {
        "ties": lambda: rng.integers(-3, 4, shape),
        "ascending": lambda: np.sort(rng.standard_normal(shape), -1),
        "descending": lambda: -np.sort(rng.standard_normal(shape), -1),
        "even": lambda: np.where(rng.random(shape) < 0.5, 0.0, -0.0),
        "mostly -inf": lambda: np.where(rng.random(shape) < 0.1, 1.0, -INF),
    }[kind]()
    x = np.ascontiguousarray(np.moveaxis(x.astype(dtype), -1, axis))
    for k in counts(shape[-1]):
        values, indices = csm.log_softmax_topk(x, k, axis)
        want = np.moveaxis(np.argsort(-x, axis, kind="stable"), axis, -1)[..., :k]
        np.testing.assert_array_equal(np.moveaxis(indices, axis, -1), want)
        np.testing.assert_array_equal(-values, np.sort(-values, axis))


@laid_out
def test_topk_layouts(csm, layout):
    x = normal((4, 6, 35), "float32")
    for axis in range(3):
        values, indices = csm.log_softmax_topk(x, 3, axis)
        got = csm.log_softmax_topk(LAYOUTS[layout](x), 3, axis)
        np.testing.assert_array_equal(got[1], indices)
        if layout != "list":
            same(csm, got[0], values)


@pytest.mark.parametrize("n", [5, 40, 300, 9000])
@pytest.mark.parametrize("axis", [0, -1])
def test_topk_special_values(csm, axis, n):
    """NaN for values; the indices are those of the largest other entries."""
    x = normal((6, n), "float32")
    x[1, 3] = NAN
    x[2, 1] = INF
    x[3] = -INF
    x[4] = NAN
    x[5, ::2] = -INF
    laid = np.ascontiguousarray(np.moveaxis(x, -1, axis))
    for k in (1, 3, n):
        values, indices = (np.moveaxis(a, axis, -1) for a in csm.log_softmax_topk(laid, k, axis))
        order = np.argsort(-np.where(np.isnan(x), -INF, x), -1, kind="stable")
        np.testing.assert_array_equal(indices, order[:, :k])
        assert np.isnan(values[1:5]).all()
        assert not np.isnan(values[[0, 5]]).any()
    assert values[5, -1] == -INF


def test_topk_of_nothing(csm):
    for shape, axis in (((0, 3), -1), ((3, 0), 0), ((2, 3, 0), 1)):
        values, indices = csm.log_softmax_topk(np.zeros(shape, "f4"), np.int8(2), axis)
        want = [2 if i == axis % len(shape) else n for i, n in enumerate(shape)]
        assert list(values.shape) == list(indices.shape) == want
        assert (values.dtype, indices.dtype) == ("f4", "i8")
    with pytest.raises(ValueError, match="k is 1: expected at least 1 and at most 0"):
        csm.log_softmax_topk(np.zeros((2, 0)), 1)


# ------------------------------------------------------------------------------------------- common


@pytest.mark.parametrize("bad", [0, -1.0, NAN, INF, 10**400, np.float64(0)])
def test_temperature_out_of_range(csm, bad):
    x, labels = np.ones((2, 3)), np.zeros(2, int)
    for call in (
        lambda: csm.softmax(x, temperature=bad),
        lambda: csm.log_softmax(x, temperature=bad),
        lambda: csm.log_softmax_gather(x, labels, temperature=bad),
        lambda: csm.softmax_entropy(x, temperature=bad),
        lambda: csm.log_softmax_topk(x, 1, temperature=bad),
        lambda: csm.sample_categorical(x, temperature=bad),
    ):
        with pytest.raises(ValueError, match=r"temperature is .*: expected a positive finite"):
            call()


@pytest.mark.parametrize("bad", [1e-50, 1e50])
def test_temperature_that_float32_does_not_have(csm, bad):
    with pytest.raises(ValueError, match="positive finite number in float32"):
        csm.softmax(np.ones(3, np.float32), temperature=bad)
    assert np.isfinite(csm.softmax(np.zeros(3), temperature=bad)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "axis"), [((5, 300), -1), ((8, 64), 0), ((3, 9000), -1)])
def test_unaligned(csm, shape, axis, dtype):
    x, labels = normal(shape, dtype), labels_of(normal(shape), axis)
    laid = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape)
    laid[...] = x
    options = {"temperature": 0.3}
    same(csm, csm.softmax(laid, axis, **options), csm.softmax(x, axis, **options))
    same(csm, csm.softmax_entropy(laid, axis), csm.softmax_entropy(x, axis))
    want = csm.log_softmax_gather(x, labels, axis)
    same(csm, csm.log_softmax_gather(laid, labels, axis), want)
    for k in (1, 5, 200):
        if k <= shape[axis]:
            got, want = (csm.log_softmax_topk(a, k, axis) for a in (laid, x))
            same(csm, got[0], want[0])
            np.testing.assert_array_equal(got[1], want[1])
    drawn = csm.sample_categorical(laid, 0, 3, axis)
    np.testing.assert_array_equal(drawn, csm.sample_categorical(x, 0, 3, axis))


def test_large_arrays_agree(compiled):
    """Beyond the caches and in many chunks."""
    if is_twin(compiled):
        return
    x = normal((1, 2_000_000), "float32")
    log_p = compiled.log_softmax(x)
    values, indices = compiled.log_softmax_topk(x, 1000)
    np.testing.assert_array_equal(indices[0], np.argsort(-x[0], kind="stable")[:1000])
    np.testing.assert_array_equal(values, log_p[:, indices[0]])
    np.testing.assert_array_equal(compiled.log_softmax_gather(x, [77]), log_p[:, 77])
    entropy = -(np.exp(log_p.astype(float)) * log_p).sum()
    np.testing.assert_allclose(compiled.softmax_entropy(x), [entropy], rtol=1e-5)
