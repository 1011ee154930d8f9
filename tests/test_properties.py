"""What must hold for any input: shift, permutation, symmetry, sums, batch splits and threads."""

import numpy as np
import pytest
from checks import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = [np.float32, np.float64]


def finite(dtype, magnitude=30):
    return st.floats(-magnitude, magnitude, width=np.dtype(dtype).itemsize * 8)


def matrices(magnitude=30):
    """A float32 or float64 matrix of up to 6 rows of up to 40 elements."""
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40).map(
        lambda s: (s[0] % 6 + 1, s[1])
    )
    return st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=finite(dtype, magnitude))
    )


def like(x, magnitude=30):
    return hnp.arrays(x.dtype, x.shape, elements=finite(x.dtype, magnitude))


def close(got, want, scale=1.0):
    eps = 100 * np.finfo(np.asarray(got).dtype).eps
    np.testing.assert_allclose(got, want, rtol=eps, atol=eps * scale)


@given(x=matrices(), shift=st.integers(-1000, 1000))
def test_softmax_ignores_a_shift(csm, x, shift):
    x = np.round(x * 8) / 8  # so that the shift itself is exact
    close(csm.softmax(x + x.dtype.type(shift)), csm.softmax(x))
    close(csm.log_softmax(x + x.dtype.type(shift)), csm.log_softmax(x), 30)
    close(csm.logsumexp(x + x.dtype.type(shift)), csm.logsumexp(x) + shift, 1000)


@given(x=matrices(), data=st.data())
def test_permuted_entries_give_permuted_results(csm, x, data):
    order = data.draw(st.permutations(range(x.shape[1])))
    close(csm.softmax(x[:, order]), csm.softmax(x)[:, order])
    close(csm.log_softmax(x[:, order]), csm.log_softmax(x)[:, order])
    close(csm.logsumexp(x[:, order]), csm.logsumexp(x))


@given(x=matrices())
def test_softmax_is_a_distribution_and_exp_of_log_softmax(csm, x):
    p = csm.softmax(x)
    assert np.all(p >= 0)
    assert np.all(p <= 1)
    close(p.sum(-1), 1)
    close(np.exp(csm.log_softmax(x)), p)
    close(x - csm.logsumexp(x, keepdims=True), csm.log_softmax(x), 30)


@given(x=matrices(), data=st.data())
def test_product_is_symmetric_and_ends_constants(csm, x, data):
    """u . (J v) = v . (J u), and J 1 = 0."""
    p = csm.softmax(x)
    u, v = data.draw(like(x)), data.draw(like(x))
    close(np.sum(u * csm.softmax_vjp(p, v), -1), np.sum(v * csm.softmax_vjp(p, u), -1), 900)
    close(csm.softmax_jvp(p, np.ones_like(x)), 0)
    close(csm.softmax_vjp(p, u).sum(-1), 0, 30)
    jacobian = csm.softmax_jacobian(p)
    close((jacobian @ u[..., None])[..., 0], csm.softmax_jvp(p, u), 30)
    np.testing.assert_array_equal(jacobian, np.swapaxes(jacobian, -1, -2))


@given(x=matrices(), data=st.data())
def test_log_softmax_vjp_is_the_transposed_jacobian(csm, x, data):
    """u . ((I - 1 pᵀ)ᵀ v): the two orders of the product agree."""
    u, v = data.draw(like(x)), data.draw(like(x))
    log_p = csm.log_softmax(x)
    forward = u - np.sum(np.exp(log_p) * u, -1, keepdims=True)
    close(np.sum(u * csm.log_softmax_vjp(log_p, v), -1), np.sum(v * forward, -1), 900 * x.shape[-1])


@given(x=matrices(), data=st.data(), smoothing=st.sampled_from([0, 0.1, 1]))
def test_gradient_of_cross_entropy_sums_to_zero(csm, x, data, smoothing):
    labels = data.draw(hnp.arrays(np.int64, x.shape[0], elements=st.integers(0, x.shape[1] - 1)))
    for target in (labels, csm.softmax(-x)):
        loss, gradient = csm.cross_entropy_with_grad(
            x, target, label_smoothing=smoothing, reduction="none"
        )
        assert np.all(loss >= 0)
        close(gradient.sum(-1), 0)
        assert np.all(np.abs(gradient) <= 1 + 1e-6)


@given(x=matrices(), data=st.data())
def test_bits_do_not_depend_on_the_batch(csm, x, data):
    """Any split of the rows, or of the columns when classes are axis 0, gives the same bits."""
    cut = data.draw(st.integers(0, x.shape[0]))
    labels = data.draw(hnp.arrays(np.int64, x.shape[0], elements=st.integers(0, x.shape[1] - 1)))
    columns = np.ascontiguousarray(x.T)
    for a, axis in ((x, -1), (columns, 0)):
        parts = [a[:cut], a[cut:]] if axis == -1 else [a[:, :cut], a[:, cut:]]
        for function in ("softmax", "log_softmax"):
            call = getattr(csm, function)
            joined = np.concatenate([call(part, axis) for part in parts], axis=1 + axis)
            assert_same_bits(csm, joined, call(a, axis))
        joined = np.concatenate([csm.logsumexp(part, axis) for part in parts])
        assert_same_bits(csm, joined, csm.logsumexp(a, axis))
        whole = csm.cross_entropy_with_grad(a, labels, axis=axis, reduction="none")
        split = [
            csm.cross_entropy_with_grad(part, some, axis=axis, reduction="none")
            for part, some in zip(parts, (labels[:cut], labels[cut:]), strict=True)
        ]
        assert_same_bits(csm, np.concatenate([loss for loss, _ in split]), whole[0])
        assert_same_bits(csm, np.concatenate([g for _, g in split], axis=1 + axis), whole[1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("length", [5, 64, 1000])
def test_bits_of_wide_batches_do_not_depend_on_the_split(csm, dtype, length):
    x = np.random.default_rng(length).normal(size=(length, 301)).astype(dtype)
    p = csm.softmax(x, 0)
    for width in (1, 7, 64, 300):
        blocks = [csm.softmax(x[:, i : i + width], 0) for i in range(0, 301, width)]
        assert_same_bits(csm, np.concatenate(blocks, axis=1), p)
    assert_same_bits(csm, csm.softmax(np.ascontiguousarray(x.T)).T, p)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(30000, 10), (700, 333), (3, 200000), (1, 1000000)])
def test_threads_do_not_change_bits(compiled, dtype, shape):
    """Every array is above the 64k elements where threads begin."""
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    columns = np.ascontiguousarray(x.T)
    labels = np.arange(shape[0]) % shape[1]

    def results(threads):
        with compiled.threads(threads):
            return [
                compiled.softmax(x),
                compiled.softmax(columns, 0),
                compiled.softmax(x, None),
                compiled.log_softmax(x),
                compiled.logsumexp(x),
                compiled.logsumexp(columns, 0),
                compiled.softmax_vjp(x, x),
                *compiled.cross_entropy_with_grad(x, labels),
                *compiled.cross_entropy_with_grad(columns, labels, axis=0),
            ]

    for one, two in zip(results(1), results(2), strict=True):
        np.testing.assert_array_equal(one, two)
