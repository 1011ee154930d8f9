"""What must hold for any input: shift, permutation, symmetry, sums, batch splits, threads, layouts.

Tolerances follow from the promised bounds: ``eps`` roundings of each result (more for the twin, see
``checks.bound``), of a product or gradient relative to the sum of the absolute terms that enter it.
Sums over results are taken in the next wider dtype, and so add nothing.
"""

import numpy as np
import pytest
from checks import assert_same_bits, bound, wider
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = ["float32", "float64"]
FORWARD = ["softmax", "log_softmax", "logsumexp"]
PRODUCTS = ["softmax_vjp", "log_softmax_vjp"]


def finite(dtype, magnitude):
    return st.floats(-magnitude, magnitude, width=np.dtype(dtype).itemsize * 8)


@st.composite
def matrices(draw):
    """A float32 or float64 matrix: small and drawn entry by entry, or of a few long random rows."""
    dtype, magnitude = draw(st.sampled_from(DTYPES)), draw(st.sampled_from([1, 30, 500]))
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 40)))
    if draw(st.integers(0, 3)):
        return draw(hnp.arrays(dtype, shape, elements=finite(dtype, magnitude)))
    n = draw(st.sampled_from([201, 4096, 4097, 9000]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return rng.uniform(-magnitude, magnitude, (shape[0], n)).astype(dtype)


def like(x, seed):
    return np.random.default_rng(seed).normal(size=x.shape).astype(x.dtype) * 10


def labels_of(x, seed):
    return np.random.default_rng(seed).integers(0, x.shape[1], x.shape[0])


def roundings(csm, x):
    """eps times the number of roundings that a result may be off by, for the rows x."""
    spread = float(np.ptp(x, axis=-1).max())
    return bound(csm, x.dtype, spread, x.shape[-1]) * float(np.finfo(x.dtype).eps)


def close(got, want, tolerance):
    """Within ``tolerance``, an array or number, and four subnormal steps."""
    error = np.abs(np.subtract(got, want, dtype=np.longdouble))
    least = np.finfo(got.dtype).smallest_subnormal
    assert np.all(error <= tolerance + 4 * np.longdouble(least)), np.max(
        error / (tolerance + least)
    )


seeds = st.integers(0, 999)


@given(x=matrices(), shift=st.integers(-1000, 1000))
def test_softmax_ignores_a_shift(csm, x, shift):
    x = np.round(x * 8) / 8  # so that the shift itself is exact
    moved, eps = x + x.dtype.type(shift), roundings(csm, x)
    for function in ("softmax", "log_softmax"):
        want = getattr(csm, function)(x)
        close(getattr(csm, function)(moved), want, 2 * eps * np.abs(want))
    total = csm.logsumexp(x)
    # the maximum and its logarithm enter, and may cancel
    size = np.abs(x.max(-1)) + np.abs(moved.max(-1)) + 2 * np.log(x.shape[1])
    close(csm.logsumexp(moved), wider(total) + shift, eps * size)


@given(x=matrices(), seed=seeds)
def test_permuted_entries_give_permuted_results(csm, x, seed):
    order = np.random.default_rng(seed).permutation(x.shape[1])
    eps = roundings(csm, x)
    for function in ("softmax", "log_softmax"):
        want = getattr(csm, function)(x)[:, order]
        close(getattr(csm, function)(x[:, order]), want, 2 * eps * np.abs(want))
    size = np.abs(x.max(-1)) + np.log(x.shape[1])
    close(csm.logsumexp(x[:, order]), csm.logsumexp(x), 2 * eps * size)


@given(x=matrices())
def test_softmax_is_a_distribution_and_exp_of_log_softmax(csm, x):
    p, log_p, eps = csm.softmax(x), csm.log_softmax(x), roundings(csm, x)
    assert np.all(p >= 0)
    assert np.all(p <= 1)
    assert np.all(log_p <= 0)
    close(p, np.exp(wider(log_p)), eps * wider(p) * (1 + np.abs(log_p)))
    close(wider(p).sum(-1).astype(p.dtype), 1, eps)
    total = csm.logsumexp(x, keepdims=True)
    size = np.abs(x) + np.abs(x.max(-1, keepdims=True)) + np.log(x.shape[1])
    close(log_p, wider(x) - total, 2 * eps * size)


def of_terms(p, v):
    """Size of what enters softmax_vjp: |p (|v| + sum |p v|)|."""
    p, v = wider(p), np.abs(wider(v))
    return p * (v + (p * v).sum(-1, keepdims=True))


@given(x=matrices(), seed=seeds)
def test_product_is_symmetric_and_ends_constants(csm, x, seed):
    """u . (J v) = v . (J u), J 1 = 0 and 1 . (J v) = 0."""
    p, eps = csm.softmax(x), roundings(csm, x)
    u, v = like(x, seed), like(x, seed + 1)
    j_u, j_v = csm.softmax_vjp(p, u), csm.softmax_jvp(p, v)
    size = (np.abs(u) * of_terms(p, v) + np.abs(v) * of_terms(p, u)).sum(-1)
    close((wider(u) * j_v).sum(-1).astype(x.dtype), (wider(v) * j_u).sum(-1), eps * size)
    # p itself sums to 1 but for eps
    close(csm.softmax_jvp(p, np.ones_like(x)), 0, 3 * eps * p)
    close(wider(j_u).sum(-1).astype(x.dtype), 0, 2 * eps * of_terms(p, u).sum(-1))
    if x.shape[1] <= 201:
        jacobian = csm.softmax_jacobian(p)
        np.testing.assert_array_equal(jacobian, np.swapaxes(jacobian, -1, -2))
        product = (wider(jacobian) @ wider(u)[..., None])[..., 0]
        lost = np.finfo(x.dtype).smallest_subnormal * np.abs(wider(u)).sum(-1, keepdims=True)
        close(j_u, product, 2 * eps * of_terms(p, u) + lost)


@given(x=matrices(), seed=seeds)
def test_log_softmax_vjp_is_the_transposed_jacobian(csm, x, seed):
    """u . ((I - 1 pᵀ)ᵀ v): the two orders of the product agree."""
    log_p, eps = csm.log_softmax(x), roundings(csm, x)
    u, v, p = like(x, seed), like(x, seed + 1), np.exp(wider(log_p))
    transposed = (wider(u) * csm.log_softmax_vjp(log_p, v)).sum(-1)
    forward = (v * (u - (p * u).sum(-1, keepdims=True))).sum(-1)
    size = np.abs(u) * (np.abs(v) + p * np.abs(wider(v)).sum(-1, keepdims=True))
    close(transposed.astype(x.dtype), forward, 2 * eps * size.sum(-1))


@given(x=matrices(), seed=seeds, smoothing=st.sampled_from([0, 0.1, 1]), weighted=st.booleans())
def test_gradient_of_cross_entropy_sums_to_zero(csm, x, seed, smoothing, weighted):
    """Also with weights: the sum over the classes is scale * sum(w) * (sum(p) - 1)."""
    rng, eps = np.random.default_rng(seed), roundings(csm, x)
    labels, q = labels_of(x, seed), csm.softmax(-x)
    c, s = np.ones(x.shape[1], x.dtype), np.ones(x.shape[0], x.dtype)
    options = {"label_smoothing": smoothing, "reduction": "none"}
    if weighted:
        c, s = rng.uniform(0, 2, c.size).astype(c.dtype), rng.uniform(0, 2, s.size).astype(s.dtype)
        options |= {"class_weight": c, "sample_weight": s}
    for target in (labels, q):
        one_hot = np.arange(x.shape[1]) == labels[:, None] if target is labels else q
        w = s[:, None] * c * ((1 - smoothing) * one_hot + smoothing / x.shape[1])
        total = w.sum(-1, keepdims=True, dtype=np.longdouble)
        loss, gradient = csm.cross_entropy_with_grad(x, target, **options)
        assert np.all(loss >= 0)
        close(wider(gradient).sum(-1).astype(x.dtype), 0, 3 * eps * total[:, 0])
        assert np.all(np.abs(gradient) <= total * (1 + eps))


def calls(csm, a, b, axis, labels):
    """Every function of the operands, each with its results, and their axis of samples."""
    here = 1 + axis
    mask = b > -0.5
    for function in FORWARD:
        call, along = getattr(csm, function), 0 if function == "logsumexp" else here
        yield [(call(a, axis), along), (call(a, axis, where=mask), along)]
    for function in PRODUCTS:
        yield [(getattr(csm, function)(a, b, axis), here)]
    yield [(csm.cce(b, np.abs(a), axis), 0), (csm.cce_gradient(b, a), here)]
    for target in (labels, np.abs(b)):
        for smoothing in (0, 0.1):
            loss, gradient = csm.cross_entropy_with_grad(
                a, target, axis=axis, reduction="none", label_smoothing=smoothing
            )
            yield [(loss, 0), (gradient, here)]


@given(x=matrices(), seed=seeds, cuts=st.lists(st.integers(0, 6), max_size=3))
def test_bits_do_not_depend_on_the_batch(compiled, x, seed, cuts):
    """Any split of the rows, or of the columns when classes are axis 0, gives the same bits.

    The twin promises none: its sums take another order, and may cancel to any digit.
    """
    x = np.clip(x, -30, 30)
    b, labels = like(x, seed) / 10, labels_of(x, seed)
    for axis in (-1, 0):
        x_, b_ = (a if axis == -1 else a.T.copy() for a in (x, b))
        whole = calls(compiled, x_, b_, axis, labels)
        parts = [
            calls(
                compiled, *(np.split(a, sorted(cuts), axis=1 + axis)[i] for a in (x_, b_)), axis, t
            )
            for i, t in enumerate(np.split(labels, sorted(cuts)))
        ]
        for want, *got in zip(whole, *parts, strict=True):
            for (result, along), *pieces in zip(want, *got, strict=True):
                joined = np.concatenate([piece for piece, _ in pieces], axis=along)
                np.testing.assert_array_equal(joined, result, strict=True)


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
@pytest.mark.parametrize("shape", [(15000, 10), (300, 333), (3, 80000), (1, 300000)])
def test_threads_do_not_change_bits(compiled, dtype, shape):
    """Every array is above the 64k elements where threads begin."""
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    y = np.random.default_rng(1).normal(size=shape).astype(dtype)
    labels = np.arange(shape[0]) % shape[1]

    def results(threads):
        with compiled.threads(threads):
            return [
                *calls(compiled, x, y, -1, labels),
                *calls(compiled, x.T.copy(), y.T.copy(), 0, labels),
                [(compiled.softmax(x, None), 0), (compiled.cce(y, np.abs(x)), 0)],
                [(result, 0) for result in compiled.cross_entropy_with_grad(x, labels)],
            ]

    one = results(1)
    for threads in (2, 5):
        for wants, gots in zip(one, results(threads), strict=True):
            for (want, _), (got, _) in zip(wants, gots, strict=True):
                np.testing.assert_array_equal(got, want)


@st.composite
def arrays_and_layouts(draw):
    """An array, and a function that lays any array of its shape out in one other way."""
    dtype = np.dtype(draw(st.sampled_from(["float16", "float32", "float64", "longdouble"])))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=7))
    if draw(st.booleans()):
        shape = (*shape[:-1], draw(st.integers(1, 300)))
    order = draw(st.permutations(range(len(shape))))
    steps = draw(st.tuples(*(st.sampled_from([-3, -2, -1, 1, 2, 3]) for _ in shape)))
    offset, swapped = draw(st.integers(0, 17)), draw(st.booleans())

    def lay(a):
        stored = a.dtype.newbyteorder() if swapped else a.dtype
        sides = [a.shape[i] * abs(steps[i]) for i in order]
        size = int(np.prod(sides)) * stored.itemsize
        memory = np.full(size + offset, 85, np.uint8)[offset:].view(stored).reshape(sides)
        view = memory.transpose(np.argsort(order))[tuple(slice(None, None, s) for s in steps)]
        view[...] = a
        return view

    rng = np.random.default_rng(draw(seeds))
    return *(rng.normal(size=(2, *shape)).astype(dtype)), lay


@given(given=arrays_and_layouts(), seed=seeds, data=st.data())
def test_layouts_agree_with_a_contiguous_copy(compiled, given, seed, data):
    x, y, lay = given
    single = data.draw(st.integers(-x.ndim, x.ndim - 1))
    some = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True).map(tuple))
    mask = y > -0.5
    for axis in (single, some, None):
        for function in FORWARD:
            call = getattr(compiled, function)
            assert_same_bits(compiled, call(lay(x), axis), call(x, axis))
            want = call(x, axis, where=mask)
            assert_same_bits(compiled, call(lay(x), axis, where=lay(mask)), want)
        for function in PRODUCTS:
            call, want = (
                getattr(compiled, function),
                getattr(compiled, function)(-np.abs(x), y, axis),
            )
            out = lay(y)
            call(lay(-np.abs(x)), out, axis, out=out)
            assert_same_bits(compiled, out.astype(x.dtype), want)
        assert_same_bits(
            compiled, compiled.cce(lay(y), lay(np.abs(x)), axis), compiled.cce(y, np.abs(x), axis)
        )
    assert_same_bits(
        compiled, compiled.softmax_jacobian(lay(x), single), compiled.softmax_jacobian(x, single)
    )
    labels = np.random.default_rng(seed).integers(
        0, x.shape[single], np.delete(x.shape, single % x.ndim)
    )
    for target, laid in ((labels, labels), (np.abs(y), lay(np.abs(y)))):
        options = {"axis": single, "reduction": "none"}
        want, out = compiled.cross_entropy_with_grad(x, target, **options), lay(x)
        loss, _ = compiled.cross_entropy_with_grad(out, laid, **options, out=out)
        assert_same_bits(compiled, loss, want[0])
        assert_same_bits(compiled, out.astype(x.dtype), want[1])
