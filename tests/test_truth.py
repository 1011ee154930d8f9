"""The oracle's own oracle: the twin in longdouble and float64 against mpmath."""

import mpmath
import numpy as np
import pytest

import csoftmax.reference as twin

ROWS = [
    [0.0],
    [1.0, 2.0, 3.0],
    [40.0, 0.0, 0.0],
    [-700.0, 0.0, 3.0, 3.0],
    [0.1 * i * (-1) ** i for i in range(40)],
]


def exact(row):
    """softmax, log_softmax and logsumexp with 60 digits."""
    with mpmath.workdps(60):
        total = mpmath.fsum(mpmath.exp(v) for v in row)
        lse = mpmath.log(total)
        return [mpmath.exp(v) / total for v in row], [v - lse for v in row], lse


def relative_error(got, want):
    with mpmath.workdps(60):
        # the two-part conversion keeps every bit of a longdouble
        high = float(got)
        value = mpmath.mpf(high) + mpmath.mpf(float(got - type(got)(high)))
        return float(abs((value - want) / want)) if want else float(abs(value))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"n{len(row)}")
def test_twin_against_mpmath(row, dtype):
    x = np.array(row, dtype)
    p, log_p, lse = exact([mpmath.mpf(float(v)) for v in x])
    eps = float(np.finfo(dtype).eps)
    spread = float(x.max() - x.min())
    for got, want in zip(twin.log_softmax(x), log_p, strict=True):
        assert relative_error(got, want) <= 4 * eps
    for got, want in zip(twin.softmax(x), p, strict=True):
        if float(want) > float(np.finfo(dtype).tiny):
            assert relative_error(got, want) <= (4 + spread) * eps
    assert relative_error(twin.logsumexp(x), lse) <= 2 * eps


def test_confident_row_keeps_its_tiny_loss():
    loss, gradient = twin.cross_entropy_with_grad(np.array([40.0, 0.0, 0.0]), np.array(0))
    others = 2 * mpmath.exp(-40)
    assert relative_error(loss, mpmath.log1p(others)) < 1e-15
    assert relative_error(gradient[0], -others / (1 + others)) < 1e-15
