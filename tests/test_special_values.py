"""NaN, infinities, huge and subnormal values: the right result and never a warning."""

import numpy as np
import pytest
from checks import assert_like_twin

NAN, INF = np.nan, np.inf
# row, softmax, log_softmax, logsumexp
ROWS = {
    "nan": ([1, NAN, 2], [NAN] * 3, [NAN] * 3, NAN),
    "all nan": ([NAN] * 3, [NAN] * 3, [NAN] * 3, NAN),
    "+inf": ([1, INF, 2], [NAN] * 3, [NAN] * 3, INF),
    "two +inf": ([INF, INF, 2], [NAN] * 3, [NAN] * 3, INF),
    "+inf and -inf": ([INF, -INF, 2], [NAN] * 3, [NAN] * 3, INF),
    "+inf and nan": ([INF, NAN, 2], [NAN] * 3, [NAN] * 3, NAN),
    "nan and -inf": ([-INF, NAN, -INF], [NAN] * 3, [NAN] * 3, NAN),
    "all -inf": ([-INF] * 3, [NAN] * 3, [NAN] * 3, -INF),
    "some -inf": ([0, -INF, 0], [0.5, 0, 0.5], [-np.log(2), -INF, -np.log(2)], np.log(2)),
    "one finite": ([-INF, 3, -INF], [0, 1, 0], [-INF, 0, -INF], 3),
    "minus zero": ([-0.0, 0.0, 0.0], [1 / 3] * 3, [-np.log(3)] * 3, np.log(3)),
}
DTYPES = ["float16", "float32", "float64", "longdouble"]
LENGTHS = [3, 4, 7, 16, 33, 70, 600, 9000]


def padded(values, length, fill):
    return np.concatenate([np.full(length - len(values), fill), values])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ROWS)
def test_special_rows(csm, name, length, dtype):
    """At every length (padded with -inf, which changes nothing) and beside an ordinary row."""
    row, p, log_p, total = ROWS[name]
    nan_row = np.isnan(p[0])
    x = np.stack(
        [padded(row, length, -INF), np.linspace(-1, 1, length), padded(row, length, -INF)[::-1]]
    ).astype(dtype)
    want = padded(p, length, NAN if nan_row else 0)
    log_want = padded(log_p, length, NAN if nan_row else -INF)
    tolerance = 4 * float(np.finfo(dtype).eps)
    with np.errstate(all="raise"):
        for a, axis in ((x, -1), (np.ascontiguousarray(x.T), 0)):
            got = np.moveaxis(csm.softmax(a, axis), axis, -1)
            log_got = np.moveaxis(csm.log_softmax(a, axis), axis, -1)
            totals = csm.logsumexp(a, axis)
            np.testing.assert_allclose(got[0], want, rtol=max(tolerance, 1e-15))
            np.testing.assert_allclose(got[2], want[::-1], rtol=max(tolerance, 1e-15))
            np.testing.assert_allclose(log_got[0], log_want, rtol=max(tolerance, 1e-15))
            np.testing.assert_allclose(log_got[2], log_want[::-1], rtol=max(tolerance, 1e-15))
            np.testing.assert_allclose(totals[[0, 2]], [total, total], rtol=max(tolerance, 1e-15))
            assert np.all(np.isfinite(got[1]))
            assert np.isfinite(totals[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_huge_values_do_not_overflow(csm, dtype, length):
    top = np.finfo(dtype).max
    x = np.full((4, length), -top)
    x[0, -1] = top
    x[1] = top
    x[3] = np.finfo(dtype).smallest_subnormal
    with np.errstate(all="raise"):
        p, total = csm.softmax(x), csm.logsumexp(x)
    uniform = np.full(length, 1 / np.longdouble(length)).astype(dtype)
    np.testing.assert_array_equal(p[0], padded([1], length, 0))
    for row in (1, 2, 3):
        np.testing.assert_allclose(p[row], uniform, rtol=2 * float(np.finfo(dtype).eps))
    if dtype != "float16":  # there the log of the length shows beside 65504
        np.testing.assert_array_equal(total[:3], [top, top, -top])


@pytest.mark.parametrize("dtype", DTYPES)
def test_spread_from_normal_to_nothing(csm, dtype):
    """Results from 1 down through the subnormals to 0, without a warning and monotonically."""
    low = 2 * float(np.log(np.finfo(dtype).smallest_subnormal))
    x = np.linspace(low, 0, 2000).astype(dtype)
    with np.errstate(all="raise"):
        p = csm.softmax(x)
        csm.log_softmax(x)
    assert p[0] == 0
    assert np.all(np.diff(p) >= 0)
    tiny = np.finfo(dtype).tiny
    assert np.any((p > 0) & (p < tiny))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"])
def test_products_propagate_without_warning(csm, function, dtype):
    y = np.array([[0.5, 0.5, 0], [NAN, 0.5, 0.5], [1, 0, 0], [0.2, 0.3, 0.5]], dtype)
    grad = np.array([[1, 2, 3], [1, 2, 3], [INF, 1, 0], [np.finfo(dtype).max] * 3], dtype)
    if function == "log_softmax_vjp":
        with np.errstate(divide="ignore"):
            y = np.log(y)
    with np.errstate(all="raise"):
        got = getattr(csm, function)(y, grad)
    assert np.all(np.isfinite(got[0]))
    assert np.any(np.isnan(got[1]))
    assert np.any(np.isnan(got[2]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cce_at_zero(csm, dtype):
    y = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype)
    yhat = np.array([[0, 1, 0], [0, 1, 0], [NAN, 0, 1], [0, 0, 0]], dtype)
    with np.errstate(all="raise"):
        loss = csm.cce(y, yhat, axis=-1)
        gradient = csm.cce_gradient(y, yhat)
    np.testing.assert_array_equal(loss, np.array([0, INF, NAN, 0], dtype), strict=True)
    np.testing.assert_array_equal(
        gradient, [[0, -1, 0], [-INF, 0, 0], [NAN, 0, -1], [0, 0, 0]], strict=False
    )
    assert gradient.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy_of_special_rows(csm, dtype, reduction):
    logits = np.array([row for row, *_ in ROWS.values()], dtype)
    with np.errstate(all="raise"):
        for target in (0, 1, 2):
            for row in logits:
                assert_like_twin(
                    csm, "cross_entropy_with_grad", row, np.array(target), reduction=reduction
                )
        labels = np.zeros(len(logits), int)
        assert_like_twin(csm, "cross_entropy_with_grad", logits, labels, reduction=reduction)
        assert_like_twin(
            csm, "cross_entropy_with_grad", logits, labels, reduction=reduction, label_smoothing=0.1
        )
        uniform = np.full_like(logits, 1 / 3)
        assert_like_twin(csm, "cross_entropy_with_grad", logits, uniform, reduction=reduction)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_weight_on_an_impossible_class_costs_nothing(csm, dtype):
    logits = np.array([0, -INF, 0], dtype)
    with np.errstate(all="raise"):
        loss, gradient = csm.cross_entropy_with_grad(logits, np.array([0.5, 0, 0.5], dtype))
        impossible, _ = csm.cross_entropy_with_grad(logits, np.array([0, 1, 0], dtype))
    np.testing.assert_allclose(loss, np.log(2), rtol=max(float(np.finfo(dtype).eps), 1e-15))
    np.testing.assert_array_equal(gradient, np.zeros(3))
    assert impossible == INF


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ignored_samples_may_hold_anything(csm, dtype, bad):
    logits = np.array([[bad, 1, 2], [1, 2, 3], [bad, bad, bad]], dtype)
    target = np.array([-1, 2, -1])
    with np.errstate(all="raise"):
        loss, gradient = csm.cross_entropy_with_grad(logits, target, ignore_index=-1)
        single, row = csm.cross_entropy_with_grad(logits[1], np.array(2))
        each = csm.cross_entropy(logits, target, ignore_index=-1, reduction="none")
    assert loss == single
    np.testing.assert_array_equal(gradient, [[0] * 3, row, [0] * 3])
    np.testing.assert_array_equal(each, [0, single, 0])
