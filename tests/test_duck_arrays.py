"""Inputs that are no plain arrays: Dask arrays, pandas objects, subclasses, lists, memory maps."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from checks import assert_same_bits

FORWARD = ["softmax", "log_softmax", "logsumexp"]
PRODUCTS = ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"]
X = np.random.default_rng(0).standard_normal((6, 8))
GRAD = np.random.default_rng(1).standard_normal((6, 8))


# ------------------------------------------------------------------------------------------- Dask


def chunks(axis):
    """Two chunks or more, the class axis in one."""
    return (-1, 3) if axis == 0 else (4, -1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("function", FORWARD)
def test_dask_stays_lazy(compiled, function, axis, dtype):
    call, x = getattr(compiled, function), (4 * X).astype(dtype)
    runs = []

    def block(b):
        runs.append(b.shape)
        return b

    lazy = da.from_array(x, chunks=chunks(axis)).map_blocks(block, dtype=dtype, meta=x[:0, :0])
    got, want = call(lazy, axis=axis), call(x, axis=axis)
    assert isinstance(got, da.Array)
    assert runs == []
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert_same_bits(compiled, got.compute(scheduler="synchronous"), want)
    assert len(runs) == lazy.npartitions > 1


@pytest.mark.parametrize("axis", [-1, 0])
def test_dask_threads(compiled, axis):
    """Dask's own threads call the kernels at the same time."""
    x = np.random.default_rng(2).standard_normal((400, 400))
    lazy = da.from_array(x, chunks=(-1, 50) if axis == 0 else (50, -1))
    got = compiled.softmax(lazy, axis=axis).compute(scheduler="threads", num_workers=4)
    assert_same_bits(compiled, got, compiled.softmax(x, axis=axis))


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("function", PRODUCTS)
def test_dask_products(compiled, function, axis):
    call = getattr(compiled, function)
    y, grad = (da.from_array(a, chunks=chunks(axis)) for a in (X, GRAD))
    got = call(y, grad, axis=axis)
    assert isinstance(got, da.Array)
    assert_same_bits(compiled, got.compute(), call(X, GRAD, axis=axis))


def test_dask_keepdims(compiled):
    got = compiled.logsumexp(da.from_array(X, chunks=chunks(-1)), keepdims=True)
    assert got.shape == (6, 1)
    assert_same_bits(compiled, got.compute(), compiled.logsumexp(X, keepdims=True))


@pytest.mark.parametrize("function", FORWARD)
def test_dask_class_axis_in_chunks_is_refused(compiled, function):
    with pytest.raises(ValueError, match="multiple chunks"):
        getattr(compiled, function)(da.from_array(X, chunks=chunks(0)), axis=-1)


# Options that a gufunc of a foreign array has no way to pass on.
@pytest.mark.parametrize(
    "options",
    [
        {"axis": None},
        {"axis": (0, 1)},
        {"where": X > 0},
        {"dtype": "float32"},
        {"out": np.full((6, 8), 7.0)},
    ],
    ids=lambda options: next(iter(options)) + "=" + type(next(iter(options.values()))).__name__,
)
@pytest.mark.parametrize("kind", ["dask", "pandas"])
def test_no_option_is_ignored(compiled, kind, options):
    x = da.from_array(X, chunks=(3, -1)) if kind == "dask" else pd.DataFrame(X)
    before = np.array(options["out"]) if "out" in options else None
    with pytest.raises(TypeError, match=next(iter(options))):
        compiled.softmax(x, **options)
    if before is not None:
        np.testing.assert_array_equal(options["out"], before)


def test_losses_take_dask_arrays(compiled):
    """They are computed at once: a mean needs every chunk."""
    labels = np.arange(6)
    got = compiled.cross_entropy_with_grad(da.from_array(X, chunks=3), da.from_array(labels))
    for g, want in zip(got, compiled.cross_entropy_with_grad(X, labels), strict=True):
        assert_same_bits(compiled, g, want)


# ----------------------------------------------------------------------------------------- pandas


@pytest.fixture
def frame():
    """One block of float64."""
    return pd.DataFrame(X[:3, :4], index=["a", "b", "c"], columns=list("wxyz"))


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "one column of int64"])
def test_data_frame(compiled, frame, function, axis, dtype):
    frame = frame.assign(x=[1, 2, 3]) if dtype.startswith("one") else frame.astype(dtype)
    call, before = getattr(compiled, function), frame.copy()
    got = call(frame, axis=axis)
    assert type(got) is pd.DataFrame
    assert got.index.equals(frame.index)
    assert got.columns.equals(frame.columns)
    assert_same_bits(compiled, got.to_numpy(), call(frame.to_numpy(), axis=axis))
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_data_frame_reduced(compiled, frame, axis):
    got = np.asarray(compiled.logsumexp(frame, axis=axis))
    assert_same_bits(compiled, got, compiled.logsumexp(frame.to_numpy(), axis=axis))


@pytest.mark.parametrize("function", PRODUCTS)
def test_data_frame_products(compiled, frame, function):
    call = getattr(compiled, function)
    got = call(frame, frame + 1)
    assert type(got) is pd.DataFrame
    assert got.columns.equals(frame.columns)
    assert_same_bits(compiled, got.to_numpy(), call(frame.to_numpy(), frame.to_numpy() + 1))


def test_data_frame_of_text_is_refused(compiled, frame):
    with pytest.raises(TypeError):
        compiled.softmax(frame.assign(x=list("abc")))


def test_series(compiled, frame):
    got = compiled.softmax(frame["x"])
    assert type(got) is pd.Series
    assert got.name == "x"
    assert got.index.equals(frame.index)
    assert_same_bits(compiled, got.to_numpy(), compiled.softmax(frame["x"].to_numpy()))
    total = compiled.logsumexp(frame["x"])
    assert_same_bits(compiled, total, compiled.logsumexp(frame["x"].to_numpy()))


def test_losses_take_data_frames(compiled, frame):
    labels = pd.Series([0, 3, 1])
    got = compiled.cross_entropy_with_grad(frame, labels)
    want = compiled.cross_entropy_with_grad(frame.to_numpy(), labels.to_numpy())
    for g, w in zip(got, want, strict=True):
        assert_same_bits(compiled, g, w)


# -------------------------------------------------------------- whatever np.asarray makes an array


class Converts:
    """Only ``__array__``."""

    def __array__(self, dtype=None, copy=None):
        return np.array(X, dtype=dtype)


class OptsOut(Converts):
    """``__array_ufunc__ = None``: takes no part in ufuncs, but is an array if asked."""

    __array_ufunc__ = None


class Subclass(np.ndarray):
    pass


class Unwilling(np.ndarray):
    """A subclass whose ufuncs do something else."""

    def __array_ufunc__(self, *args, **kwargs):
        raise AssertionError("a subclass is taken as a plain array")


def memory_map(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r")


MAKE = {
    "__array__": lambda _: Converts(),
    "__array_ufunc__ = None": lambda _: OptsOut(),
    "list": lambda _: X.tolist(),
    "tuple": lambda _: tuple(map(tuple, X.tolist())),
    "list of arrays": lambda _: list(X),
    "memoryview": lambda _: memoryview(X),
    "subclass": lambda _: X.view(Subclass),
    "subclass with ufuncs": lambda _: X.view(Unwilling),
    "np.memmap": memory_map,
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_array_like(csm, kind, axis, tmp_path):
    """The result is that of the plain array: an ndarray of no subclass, or a NumPy scalar."""
    x = MAKE[kind](tmp_path)
    for function in FORWARD:
        got, want = getattr(csm, function)(x, axis=axis), getattr(csm, function)(X, axis=axis)
        assert type(got) is type(want)
        assert_same_bits(csm, got, want)
    for function in PRODUCTS:
        for y, grad in ((x, GRAD), (X, x)):
            want = getattr(csm, function)(X, GRAD if y is x else X, axis=axis)
            got = getattr(csm, function)(y, grad, axis=axis)
            assert type(got) is np.ndarray
            assert_same_bits(csm, got, want)


@pytest.mark.parametrize("kind", MAKE)
def test_array_like_losses(csm, kind, tmp_path):
    x, labels = MAKE[kind](tmp_path), [0, 1, 2, 3, 4, 5]
    for target in (labels, tuple(labels), np.array(labels).view(Subclass), np.abs(X)):
        got = csm.cross_entropy_with_grad(x, target)
        want = csm.cross_entropy_with_grad(X, np.asarray(target))
        assert type(got[1]) is np.ndarray
        for g, w in zip(got, want, strict=True):
            assert_same_bits(csm, g, w)


@pytest.mark.parametrize("axis", [-1, 0, None])
def test_memory_map_as_out(csm, tmp_path, axis):
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", shape=X.shape)
    assert csm.softmax(X, axis, out=out) is out
    out.flush()
    assert_same_bits(csm, np.load(tmp_path / "out.npy"), csm.softmax(X, axis))


@pytest.mark.parametrize("scalar", [2.0, 2, True, np.float32(2), np.array(2.0)])
def test_scalars(csm, scalar):
    """A scalar is one class if the axis is None."""
    dtype = np.float32 if isinstance(scalar, np.float32) else np.float64
    got = csm.softmax(scalar, axis=None)
    assert got == 1
    assert got.dtype == dtype
    total = csm.logsumexp(scalar, axis=None)
    assert total == scalar
    assert total.dtype == dtype
