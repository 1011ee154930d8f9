"""csoftmax.compat.scipy: SciPy's own tests, scipy.special side by side, each known difference.

Tests of weights alone run once: these are summed by NumPy, under every instruction set alike.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
import scipy.special

from csoftmax.compat import scipy as compat

pytest.register_assert_rewrite("scipy.special.tests.test_logsumexp")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", pytest.PytestUnknownMarkWarning)  # of SciPy's conftest.py
    import scipy.special.tests.test_logsumexp as theirs

# SciPy's classes are collected here; test_wrap_radians, which tests a private helper, is not.
CLASSES = {name: value for name, value in vars(theirs).items() if name.startswith("Test")}
globals().update(CLASSES)


def with_lists(mark):
    """The mark with lists for the iterators among its arguments, which pytest 10 refuses."""
    values = [list(v) if isinstance(v, Iterator) else v for v in mark.args]
    return getattr(pytest.mark, mark.name).with_args(*values, **mark.kwargs).mark


for test in itertools.chain.from_iterable(vars(c).values() for c in CLASSES.values()):
    for index, mark in enumerate(getattr(test, "pytestmark", [])):
        if mark.name == "parametrize":
            test.pytestmark[index] = with_lists(mark)
for test_class in CLASSES.values():
    pytest.mark.usefixtures("special")(test_class)

NAN, INF = np.nan, np.inf


@pytest.fixture(scope="module")
def special(compiled):
    """The functions under test on one instruction set, put in SciPy's tests in place of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compat, "csoftmax", compiled)
        for name in compat.__all__:
            patch.setattr(theirs, name, getattr(compat, name))
        yield compat


@pytest.fixture
def xp():
    """The array namespace of SciPy's tests."""
    return np


@pytest.fixture
def devices():
    return [None, "cpu"]


# ------------------------------------------------------------------ side by side with scipy.special


def outcome(module, name, args, options):
    """The results as a tuple, or the exception."""
    try:
        got = getattr(module, name)(*args, **options)
    except (IndexError, TypeError, ValueError) as error:
        return error
    return got if isinstance(got, tuple) else (got,)


def same(got, want):
    if isinstance(got, Exception) or isinstance(want, Exception):
        return type(got) is type(want)
    return len(got) == len(want) and all(map(same_result, got, want))


def same_result(g, w):
    # SciPy's complex longdouble goes through complex128.
    eps = np.finfo("float64" if w.dtype == np.clongdouble else w.dtype).eps
    alike = type(g) is type(w) and g.dtype == w.dtype and g.shape == w.shape
    return alike and np.allclose(g, w, rtol=40 * eps, atol=40 * eps, equal_nan=True)


def assert_same(special, name, *args, **options):
    """Values to rounding, dtype, shape and kind (array or scalar), or the exception, of SciPy's."""
    with np.errstate(all="ignore"):
        want = outcome(scipy.special, name, args, options)
    with np.errstate(all="raise"):
        got = outcome(special, name, args, options)
    with np.errstate(all="ignore"):
        if not same(got, want):
            pytest.fail(f"{name}, {args}, {options}: {got!r}, SciPy {want!r}")


INTEGERS = ["int8", "int16", "int32", "int64"]
UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64", "longdouble"]
COMPLEX = ["complex64", "complex128", "clongdouble"]
SHAPES = [(), (1,), (5,), (2, 3), (2, 3, 4), (3, 1, 2)]
AXES = [None, 0, -1, 1, -2, (), (0,), (0, 1), (-1, 0), (0, 0), (0, -2), np.int64(0), 1.0, [0]]
FLAGS = [{"keepdims": k, "return_sign": s} for k in (False, True) for s in (False, True)]


def numbers(rng, shape, dtype):
    x = rng.normal(size=shape) * 3
    if dtype in COMPLEX:
        return (x + 1j * rng.normal(size=shape)).astype(dtype)
    return np.abs(x).astype(dtype) if dtype in UNSIGNED else np.asarray(x).astype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_normalizers_by_shape_and_axis(special, name, dtype):
    rng = np.random.default_rng(0)
    for shape, axis in itertools.product([*SHAPES, (0, 3)], AXES):
        if shape != (0, 3) or axis in (1, -1):  # see DIFFERENCES
            assert_same(special, name, numbers(rng, shape, dtype), axis)


@pytest.mark.parametrize("dtype", ["bool", *UNSIGNED, *INTEGERS, *FLOATS, *COMPLEX])
def test_logsumexp_by_shape_and_axis(special, dtype):
    rng = np.random.default_rng(1)
    for shape, axis, flags in itertools.product(SHAPES, AXES, FLAGS):
        x = numbers(rng, shape, dtype)
        assert_same(special, "logsumexp", x, axis, **flags)
        assert_same(special, "logsumexp", x, axis, rng.normal(size=shape), **flags)
    for axis, keepdims in itertools.product([0, 1, -1], [False, True]):
        x = numbers(rng, (0, 3), dtype)
        assert_same(special, "logsumexp", x, axis, keepdims=keepdims)
        assert_same(special, "logsumexp", x, axis, np.float32(2), keepdims=keepdims)


@pytest.mark.parametrize("dtype", ["bool", "uint8", *INTEGERS, *FLOATS, *COMPLEX])
@pytest.mark.parametrize("b_dtype", ["bool", "uint8", *INTEGERS, *FLOATS, *COMPLEX])
def test_weights_by_dtype_and_shape(dtype, b_dtype):
    rng = np.random.default_rng(2)
    shapes = [((4,), (4,)), ((4, 1, 2, 1), (3, 1, 5)), ((), (3,)), ((3,), ()), ((2,), (3,))]
    for (shape, b_shape), flags in itertools.product(shapes, FLAGS):
        a, b = numbers(rng, shape, dtype), numbers(rng, b_shape, b_dtype)
        assert_same(compat, "logsumexp", a, 0, b, **flags)


SCALARS = [1, -2.5, 2 + 1j, [1, 2], [[1.0], [2.0]], (1j, 2), np.float32(1.5)]


@pytest.mark.parametrize("x", SCALARS, ids=repr)
def test_scalars_and_sequences(special, x):
    """A Python scalar leaves the dtype to the other argument, anything else takes part."""
    assert_same(special, "softmax", x)
    assert_same(special, "log_softmax", x)
    assert_same(special, "logsumexp", x)
    for b in (2, 0.5, True, [1.5], 2j, np.ones(1, "f4"), np.float64(3)):
        assert_same(special, "logsumexp", x, b=b)
        assert_same(special, "logsumexp", b, b=x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values(special, dtype):
    """NaN and infinities anywhere, weighted or not."""
    values = np.array([NAN, INF, -INF, 0, -0.0, 1, -1, 5], dtype)
    rows = np.array(list(itertools.product(values, repeat=2)))
    assert_same(special, "softmax", rows, -1)
    assert_same(special, "log_softmax", rows[~(rows == INF).any(axis=1)], -1)  # see DIFFERENCES
    pairs = np.array(list(itertools.product(values, repeat=4))).reshape(-1, 2, 2)
    a, b = np.moveaxis(pairs, 1, 0)
    known = ((b == 0) & ~np.isfinite(a)).any(axis=1)  # see DIFFERENCES
    for sign in (False, True):
        assert_same(special, "logsumexp", rows, -1, return_sign=sign)
        assert_same(special, "logsumexp", a[~known], -1, b[~known], return_sign=sign)


def test_complex_infinities(special):
    values = [complex(x, y) for x in (NAN, INF, -INF, 0, 1) for y in (0.0, -0.0, 1, 4)]
    rows = np.array(list(itertools.product(values, repeat=2)))
    assert_same(special, "softmax", rows, -1)
    assert_same(special, "log_softmax", rows, -1)
    assert_same(special, "logsumexp", rows, -1)
    assert_same(special, "logsumexp", rows, -1, [-1, 2])


@pytest.mark.parametrize(
    ("name", "args", "error", "message"),
    [
        ("softmax", ["text"], TypeError, "x has dtype <U4: expected real numbers"),
        ("log_softmax", [[None]], TypeError, "x has dtype object"),
        ("logsumexp", [[None]], TypeError, "a has dtype object"),
        ("logsumexp", [[1.0], None, ["text"]], TypeError, "b has dtype <U4"),
        ("logsumexp", [[1, 2], 1], np.exceptions.AxisError, "axis 1 is out of bounds"),
        ("logsumexp", [[1, 2], (0, 0), [1, 2]], ValueError, "axis is .0, 0.: expected each"),
        (
            *("logsumexp", [[1, 2], None, [1, 2, 3]], ValueError),
            r"b has shape \(3,\): expected one that broadcasts with \(2,\), the shape of a",
        ),
    ],
)
def test_errors(special, name, args, error, message):
    with pytest.raises(error, match=message):
        getattr(special, name)(*args)


def test_scipy_is_not_imported():
    code = "import sys, csoftmax.compat.scipy; sys.exit('scipy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------- known differences

EMPTY = np.zeros((0, 3))
# Function, arguments, options, results here, results or error of SciPy 1.17.
DIFFERENCES = {
    "+inf": ("log_softmax", [[INF, 1]], {}, [[NAN, NAN]], [[NAN, -INF]]),
    "unsigned": ("softmax", [np.uint8([0, 0, 1])], {}, [[0.2119, 0.2119, 0.576]], [[NAN, NAN, 0]]),
    "bool": ("softmax", [[True, True]], {}, [[0.5, 0.5]], TypeError),
    "int64": ("softmax", [[2**53, 2**53 + 1]], {}, [[0.5, 0.5]], [[0.26894142, 0.73105858]]),
    "no classes": ("softmax", [EMPTY], {}, [EMPTY], ValueError),
    "no classes, complex": ("log_softmax", [EMPTY * 1j], {}, [EMPTY], ValueError),
    "no classes, two axes": ("logsumexp", [EMPTY], {}, [-INF], IndexError),
    "no entries, no axis": ("logsumexp", [EMPTY], {"axis": ()}, [EMPTY], [[[-INF]]]),
    "sign of nothing": ("logsumexp", [[]], {"return_sign": True}, [-INF, 0], [-INF, -1]),
    "0 * exp(inf)": ("logsumexp", [[INF, 1]], {"b": [0, 0]}, [-INF], [NAN]),
    "0 * overflow": ("logsumexp", [[800, INF]], {"b": [0, 1]}, [INF], [NAN]),
    "overflows cancel": ("logsumexp", [[800, 800]], {"b": [1, -1]}, [-INF], [NAN]),
    "negative underflow": ("logsumexp", [[-800]], {"b": [-1]}, [NAN], [-INF]),
    "large weights": ("logsumexp", [[0, 0]], {"b": [1e308, 1e308]}, [709.8893558], [INF]),
    "float16": (
        *("logsumexp", [np.zeros(70_000, "f2")], {"b": np.ones(70_000, "f2")}),
        *([np.float16(np.log(70_000))], [INF]),
    ),
    "weight range": (
        *("logsumexp", [[0, -800]], {"b": [1e-200, 1e300]}),
        # log(1e300) - 800, and log(1e-200), which has lost the other term
        *([-109.2244721], [-460.5170186]),
    ),
    "complex inf": (
        *("logsumexp", [[complex(INF, 0)]], {"return_sign": True}),
        *([INF, 1], [INF, complex(NAN, NAN)]),
    ),
    "infinite phase": (
        *("logsumexp", [[complex(0, INF)]], {"return_sign": True}),
        *([NAN, complex(NAN, NAN)], [0, complex(NAN, NAN)]),
    ),
}


@pytest.mark.parametrize(
    ("name", "args", "options", "here", "there"), DIFFERENCES.values(), ids=DIFFERENCES
)
def test_each_difference(special, name, args, options, here, there):
    """Both sides, so that the list in the module's docstring stays true and complete."""
    with np.errstate(all="raise"):
        got = outcome(special, name, args, options)
    with np.errstate(all="ignore"):
        want = outcome(scipy.special, name, args, options)
    if isinstance(there, type):
        assert isinstance(want, there)
        want, there = [], []
    for results, expected in ((got, here), (want, there)):
        assert len(results) == len(expected)
        for result, value in zip(results, expected, strict=True):
            assert np.shape(result) == np.shape(value)
            np.testing.assert_allclose(result, value, rtol=1e-3 if name == "softmax" else 1e-9)


# ---------------------------------------------------------------------------------------- accuracy


@mpmath.workdps(400)  # enough to add exp(-800) to 1
def exact(a, b):
    """log|S|, the sign of S and sum(|terms|) / |S|, for S = sum(b * exp(a))."""
    terms = [mpmath.mpf(float(w)) * mpmath.exp(float(x)) for x, w in zip(a, b, strict=True)]
    total = mpmath.fsum(terms)
    return mpmath.log(abs(total)), mpmath.sign(total), mpmath.fsum(map(abs, terms)) / abs(total)


@mpmath.workdps(400)
def error(result, truth, unit):
    return float(abs(mpmath.mpf(float(result)) - truth) / unit)


def cancelling(rng, n):
    a, b = rng.normal(size=n) * 3, rng.normal(size=n)
    return np.r_[a, a + rng.normal(size=n) * 1e-9], np.r_[b, -b]


def tied(rng, n):
    b = rng.normal(size=n)
    return np.full(n, rng.normal()), b - b.mean() + 1e-9


# Regime: a and b from a generator of random numbers and a length
REGIMES = {
    "positive": lambda rng, n: (rng.normal(size=n) * 3, rng.uniform(0.1, 3, n)),
    "both signs": lambda rng, n: (rng.normal(size=n) * 3, rng.normal(size=n)),
    "zeros": lambda rng, n: (rng.normal(size=n) * 3, np.r_[rng.integers(-1, 2, n - 1), 0.1]),
    "offset": lambda rng, n: (rng.normal(size=n) * 3 + 1e3, rng.normal(size=n)),
    "wide weights": lambda rng, n: (rng.normal(size=n) * 9, np.exp(rng.normal(size=n) * 50)),
    "cancelling": cancelling,
    "tied": tied,
}


@pytest.mark.parametrize("regime", REGIMES)
def test_weighted_sums_against_mpmath(regime):
    """Errors in units of what rounding the terms once costs; on average no larger than SciPy's."""
    rng = np.random.default_rng(5)
    here, there = [], []
    for n in [2, 10, 60] * 30:
        a, b = REGIMES[regime](rng, n)
        truth, sign, condition = exact(a, b)
        unit = (condition + abs(truth)) * 2.0**-53
        for module, errors in ((compat, here), (scipy.special, there)):
            result, got_sign = module.logsumexp(a, b=b, return_sign=True)
            assert got_sign == sign
            errors.append(error(result, truth, unit))
    assert max(here) < 4
    assert np.mean(here) <= 1.1 * np.mean(there)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0, -40], [1, 1]),
        ([0, -40], [1, -1]),
        ([0, -700, -701], [1, 2, -3]),
        ([1e-10, 0], [1, -1]),
        ([1000 + 1e-10, 1000], [1, -1]),
        ([2.5, 2.5, -30], [0.75, -0.75, 1e-5]),
        ([0, -800], [1e-200, 1e300]),
        ([350, -800], [1e-200, 1e300]),
        ([500, 0, 1], [1e-250, 1, -1e-3]),
        ([-1, -1], [1e308, 1e308]),
    ],
)
def test_small_sums_keep_their_digits(a, b):
    """Within 4 units of the last place of the result, be it near 0 or log of a tiny difference."""
    truth, sign, _ = exact(a, b)
    result, got_sign = compat.logsumexp(a, b=b, return_sign=True)
    assert got_sign == sign
    assert error(result, truth, np.spacing(abs(float(truth)))) < 4
