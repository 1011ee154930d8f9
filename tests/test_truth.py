"""The oracles' own oracle: truth.py, and the twin in a wider dtype, against 50 digits."""

import mpmath
import numpy as np
import pytest
import truth
from measure import Inputs, Regime, regimes
from truth import MP, Digits, digits_ulps, mpf, ulps

import csoftmax.reference as twin

MARGIN = 0.01  # ULP
DTYPES = [
    np.float32,
    pytest.param(
        np.float64, marks=pytest.mark.skipif(not truth.WIDE_ENOUGH, reason=truth.NOT_WIDE_ENOUGH)
    ),
]


def assert_true(dtype, got, want, size=None):
    """Each number of ``got`` within the margin, in ULP of the dtype that it is the truth of."""
    sizes = [None] * len(want) if size is None else size
    for g, w, s in zip(got, want, sizes, strict=True):
        assert digits_ulps(g, w, dtype, s) <= MARGIN


def each_row(dtype, seed):
    for regime in regimes(dtype):
        for n in (2, 3, 60):
            given = Inputs(regime, (2, n), dtype, [seed, n])
            for i in range(2):
                yield given, i, Digits(given.x[i])
    yield (given := Inputs(Regime("uniform", 10), (1, 5000), dtype, seed)), 0, Digits(given.x[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_and_its_logarithms(dtype):
    for given, i, exact in each_row(dtype, 0):
        rows = given.rows
        assert_true(dtype, rows.softmax[i], exact.softmax)
        assert_true(dtype, rows.others[i], exact.others)
        assert_true(dtype, rows.log_softmax[i], exact.log_softmax)
        assert_true(dtype, rows.logsumexp[i : i + 1], [exact.logsumexp])
        assert_true(dtype, rows.entropy[i : i + 1], [exact.entropy])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["label", "q"])
def test_loss_and_gradient(target, dtype):
    for given, i, exact in each_row(dtype, 1):
        n = given.x.shape[-1]
        weights = truth.target_weights(getattr(given, target), given.x)
        gradient, size = given.rows.gradient(weights)
        t = [mpf(v) for v in given.q[i]] if target == "q" else [MP.mpf(0)] * n
        if target == "label":
            t[given.label[i]] = MP.mpf(1)
        loss = -MP.fsum(v * log_p for v, log_p in zip(t, exact.log_softmax, strict=True))
        assert_true(dtype, given.rows.cross_entropy(weights)[i : i + 1], [loss])
        total = MP.fsum(t)
        parts = list(zip(exact.softmax, exact.others, t, strict=True))
        sizes = [p * (total - v) + v * q if v == total else p * total + v for p, q, v in parts]
        assert_true(dtype, gradient[i], [p * (total - v) - v * q for p, q, v in parts], sizes)
        np.testing.assert_allclose(size[i].astype(float), [float(s) for s in sizes], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products(dtype):
    for given, i, _ in each_row(dtype, 2):
        grad = [mpf(v) for v in given.grad[i]]
        y = [mpf(v) for v in given.y[i]]
        got, size = truth.softmax_vjp(given.y, given.grad)
        products = [a * b for a, b in zip(y, grad, strict=True)]
        dot, dot_size = MP.fsum(products), MP.fsum(products, absolute=True)
        sizes = [abs(a) * (abs(g) + dot_size) for a, g in zip(y, grad, strict=True)]
        assert_true(dtype, got[i], [a * (g - dot) for a, g in zip(y, grad, strict=True)], sizes)
        np.testing.assert_allclose(size[i].astype(float), [float(s) for s in sizes], rtol=1e-6)

        y = [MP.exp(mpf(v)) for v in given.log_y[i]]
        got, size = truth.log_softmax_vjp(given.log_y, given.grad)
        total, total_size = MP.fsum(grad), MP.fsum(grad, absolute=True)
        sizes = [abs(g) + a * total_size for a, g in zip(y, grad, strict=True)]
        assert_true(dtype, got[i], [g - a * total for a, g in zip(y, grad, strict=True)], sizes)
        np.testing.assert_allclose(size[i].astype(float), [float(s) for s in sizes], rtol=1e-6)


def test_target_weights():
    """(1 - smoothing) of the target and the rest spread evenly, times the class weights."""
    x, q = np.zeros((1, 4), np.float32), np.array([[0.5, 0.25, 0.25, 0]], np.float32)
    options = {"class_weight": np.array([1, 2, 3, 4], np.float32), "label_smoothing": 0.5}
    labels = truth.target_weights(np.array([1]), x, **options)
    np.testing.assert_array_equal(labels, [[0.125, 1.25, 0.375, 0.5]])
    probabilities = truth.target_weights(q, x, **options)
    np.testing.assert_array_equal(probabilities, [[0.375, 0.5, 0.75, 0.5]])


@pytest.mark.parametrize(
    ("got", "want", "error"),
    [
        (1.0, 1 - 2**-26, 0.25),  # below a power of two the unit is that of the lower binade
        (1.0, 1 + 2**-26, 0.125),
        (1 + 2**-23, 1.0, 1.0),
        (0.0, 2.0**-149, 1.0),  # subnormal numbers share one unit
        (2.0**-130, 2.0**-130 + 2.0**-150, 0.5),
        (0.0, 0.0, 0.0),
        (2.0**-149, 0.0, 1.0),
        (0.0, 1.0, 2.0**23),
        (np.inf, 1.0, np.inf),
        (np.nan, 1.0, np.inf),
    ],
)
def test_ulps(got, want, error):
    got, want = np.float32(got), np.float64(want)
    assert ulps(got, want) == error
    if np.isfinite(got):
        assert digits_ulps(got, mpf(want), np.float32) == error


def relative_error(got, want):
    return float(abs((mpf(got) - want) / want)) if want else float(abs(mpf(got)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize(
    "row",
    [
        [0.0],
        [1.0, 2.0, 3.0],
        [40.0, 0.0, 0.0],
        [-700.0, 0.0, 3.0, 3.0],
        [0.1 * i * (-1) ** i for i in range(40)],
    ],
    ids=lambda row: f"n{len(row)}",
)
def test_twin_against_mpmath(row, dtype):
    x = np.array(row, dtype)
    exact, eps = Digits(x), float(np.finfo(dtype).eps)
    spread = float(x.max() - x.min())
    for got, want in zip(twin.log_softmax(x), exact.log_softmax, strict=True):
        assert relative_error(got, want) <= 4 * eps
    for got, want in zip(twin.softmax(x), exact.softmax, strict=True):
        if float(want) > float(np.finfo(dtype).tiny):
            assert relative_error(got, want) <= (4 + spread) * eps
    assert relative_error(twin.logsumexp(x), exact.logsumexp) <= 2 * eps


def test_confident_row_keeps_its_tiny_loss():
    loss, gradient = twin.cross_entropy_with_grad(np.array([40.0, 0.0, 0.0]), np.array(0))
    others = 2 * mpmath.exp(-40)
    assert relative_error(loss, mpmath.log1p(others)) < 1e-15
    assert relative_error(gradient[0], -others / (1 + others)) < 1e-15
