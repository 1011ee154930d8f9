"""Rows of more classes than a chunk: sums that start before the maximum of the row is known."""

import numpy as np
import pytest

import csoftmax.reference

CHUNK = 4096
CLASSES = 3 * CHUNK + 5


def shift_of_chunk(profile, dtype):
    """What is added to all logits of each of the four chunks."""
    beyond = 1024 if dtype == "float32" else 8192  # where x - max is reduced, not x
    return {
        "level": [0, 0, 0, 0],
        "ties": [-1, 0, 0, 1],
        "rising": [-0.5, -0.2, 0.1, 0.4],
        "rising by powers of two": [-9, -6, -3, 0],
        "rising by a few more": [-13, -11.2, -10.8, 0],
        "falling": [0.4, 0.1, -0.2, -0.5],
        "the first ones vanish": [-1200, -100, -90, 0],
        "the last ones vanish": [0, -90, -100, -1200],
        "far below 0": [-beyond - 9, -beyond - 8, -beyond - 7.5, -beyond - 7],
        "far above 0": [beyond + 9, beyond + 9.5, beyond + 10, beyond + 10.2],
        "up from far below": [-beyond - 8, 3 - beyond, beyond - 5, beyond + 5],
        "masked at first": [-np.inf, -np.inf, 0, 1],
        "masked, then up to 0": [-np.inf, -20, -3, -30],
        "masked at last": [1, 0, -np.inf, -np.inf],
    }[profile]


PROFILES = [
    "level",
    "ties",
    "rising",
    "rising by powers of two",
    "rising by a few more",
    "falling",
    "the first ones vanish",
    "the last ones vanish",
    "far below 0",
    "far above 0",
    "up from far below",
    "masked at first",
    "masked, then up to 0",
    "masked at last",
]


def logits(profile, dtype, rows=3):
    x = np.random.default_rng(0).normal(size=(rows, CLASSES))
    if profile == "ties":
        x = np.round(np.clip(x, -3, 3))
    if profile == "masked, then up to 0":  # nothing but -inf has an anchor of 0
        x = np.minimum(x, 3)
    return (x + np.repeat(shift_of_chunk(profile, dtype), CHUNK)[:CLASSES]).astype(dtype)


def results(csm, x, axis=-1, place=np.empty_like):
    """By name, (rows, classes) or (rows,); `place` makes what a result is written into."""
    rows = x.shape[1 - axis % 2]
    labels = np.arange(rows) * 5000
    target = np.random.default_rng(1).dirichlet(np.ones(8), (rows, CLASSES // 8 + 1))
    target = target.reshape(rows, -1)[:, :CLASSES].astype(x.dtype) / CLASSES * 8
    target = np.ascontiguousarray(target if axis == -1 else target.T)

    def into(function, *operands, **options):
        operand = x.copy(order="K")
        out = operand if place is None else place(operand)
        return function(operand, *operands, axis=axis, out=out, **options)

    def by_class(loss_and_gradient):
        return loss_and_gradient[0], loss_and_gradient[1] if axis == -1 else loss_and_gradient[1].T

    loss = csm.cross_entropy_with_grad
    options = {"reduction": "none"}
    found = {"logsumexp": csm.logsumexp(x, axis)}
    for name in ("softmax", "log_softmax"):
        result = into(getattr(csm, name))
        found[name] = result if axis == -1 else result.T
    for name, operand, more in [
        ("labels", labels, {}),
        ("labels smoothed", labels, {"label_smoothing": 0.1}),
        ("probabilities", target, {}),
    ]:
        found[name], found[name + ", gradient"] = by_class(into(loss, operand, **options, **more))
    return found


def assert_same(found, want):
    for name, result in want.items():
        np.testing.assert_array_equal(found[name], result, err_msg=name)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_same_bits_wherever_they_lie(compiled, dtype, profile):
    x = logits(profile, dtype)
    with np.errstate(all="ignore"), compiled.threads(1):
        want = results(compiled, x)
        assert_same(results(compiled, x, place=None), want)
        assert_same(results(compiled, np.ascontiguousarray(x.T), axis=0), want)
        assert_same(results(compiled, np.repeat(x, 2, axis=-1)[:, ::2]), want)
        wide = np.repeat(np.ascontiguousarray(x.T), 40, axis=1)  # whole groups of columns
        got = compiled.softmax(wide, 0)[:, ::40]
        np.testing.assert_array_equal(got.T, want["softmax"])
        with compiled.threads(2):
            one = results(compiled, x[:1])
            assert_same(results(compiled, x[:1], place=None), one)
        assert_same(one, {name: result[:1] for name, result in want.items()})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_beyond_the_cache(compiled, dtype, profile):
    assert_same_rows(compiled, logits(profile, dtype, rows=1))


@pytest.mark.parametrize("classes", [4097, 8191])
def test_same_bits_of_rows_of_two_chunks(compiled, classes):
    x = np.random.default_rng(0).normal(size=(1, classes)).astype(np.float32) * 3
    assert_same_rows(compiled, x)


@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits_of_rows_of_a_megabyte(compiled, threads):
    """Whose terms have no room, but for those of the last classes."""
    n = 150_000
    x = np.random.default_rng(0).normal(size=(1, n)) * 3 + np.linspace(-8, 8, n)
    with compiled.threads(threads):
        assert_same_rows(compiled, x)


def assert_same_rows(compiled, x):
    """A result of 16 MB and more, which is not kept in a cache, has the bits of a single row's."""
    many = np.repeat(x, 16_000_000 // x.nbytes + 1, axis=0)
    labels = np.full(len(many), 7)
    with np.errstate(all="ignore"):
        for in_place in (False, True):
            operand = many.copy()
            out = operand if in_place else np.empty_like(many)
            assert np.all(compiled.softmax(operand, out=out) == compiled.softmax(x))
            for smoothing in (0, 0.1):
                operand = many.copy()
                out = operand if in_place else np.empty_like(many)
                options = {"label_smoothing": smoothing, "reduction": "none"}
                got = compiled.cross_entropy_with_grad(operand, labels, out=out, **options)
                want = compiled.cross_entropy_with_grad(x, labels[:1], **options)
                for result, expected in zip(got, want, strict=True):
                    assert np.all(result == expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_in_several_waves(compiled, dtype):
    """Rows of more than the 256 chunks that are remembered, or shared by threads, at once."""
    n = 260 * CHUNK + 5
    x = np.random.default_rng(0).normal(size=(1, n)) * 3 + np.linspace(-4, 4, n)
    assert_same_wherever(compiled, x.astype(dtype))


@pytest.mark.parametrize(
    "profile", ["level", "rising by powers of two", "rising by a few more", "masked at first"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_of_rows_beyond_the_caches(compiled, dtype, profile):
    """Whose maximum is not found before their terms, unless these take the place of the logits."""
    n = 16_000_000 // np.dtype(dtype).itemsize + 3
    x = np.random.default_rng(0).standard_normal((1, n), dtype=dtype)
    for part, shift in zip(np.array_split(x[0], 4), shift_of_chunk(profile, dtype), strict=True):
        part += shift
    assert_same_wherever(compiled, x)


def assert_same_wherever(compiled, x):
    """One long row, with the result elsewhere and in place: the bits are those of a strided one."""
    operands = {"softmax": (), "cross_entropy_with_grad": ([x.size - 1],)}
    with compiled.threads(1):
        apart = np.repeat(x, 2, axis=-1)[:, ::2]
        want = {name: getattr(compiled, name)(apart, *more) for name, more in operands.items()}
    for threads in (1, 2):
        with compiled.threads(threads):
            for name, more in operands.items():
                function, operand = getattr(compiled, name), x.copy()
                np.testing.assert_equal(function(operand, *more, out=np.empty_like(x)), want[name])
                np.testing.assert_equal(function(operand, *more, out=operand), want[name])


@pytest.mark.parametrize("temperature", [0.5, 3.0])
@pytest.mark.parametrize("profile", PROFILES)
def test_temperature(compiled, profile, temperature):
    x = logits(profile, "float32")
    quotient = x / np.float32(temperature)
    with np.errstate(all="ignore"):
        for name in ("softmax", "log_softmax"):
            function = getattr(compiled, name)
            np.testing.assert_array_equal(function(x, temperature=temperature), function(quotient))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_to_the_last_digits(compiled, dtype, profile):
    x = logits(profile, dtype)
    limits = np.finfo(dtype)
    with np.errstate(all="ignore"):
        found = results(compiled, x)
        want = results(csoftmax.reference, x.astype("longdouble"))
        for name, result in found.items():
            assert result.dtype == dtype
            exact = want[name]
            size = np.abs(exact)
            if name.endswith("gradient"):  # of p - w
                size = np.maximum(want["softmax"], np.abs(want["softmax"] - exact))
            bound = 4 * size * float(limits.eps) + float(limits.smallest_subnormal)
            same = (exact == result) | (np.isnan(exact) & np.isnan(result))
            assert np.all(same | (np.abs(exact - result) <= bound)), name
