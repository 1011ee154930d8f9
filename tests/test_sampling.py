"""sample_categorical: the distribution, seeds, rare and impossible classes, layouts and threads."""

import math

import numpy as np
import pytest
from implementations import COMPILED, is_twin
from scipy import stats

import csoftmax.reference as twin

NAN, INF = np.nan, np.inf
SHAPES = [
    ((3,), 0),
    ((70, 5), -1),
    ((9, 33), -1),
    ((4, 700), -1),
    ((2, 9000), -1),
    ((5, 70), 0),
    ((700, 20), 0),
    ((9000, 3), 0),
    ((2, 7, 40), 1),
]


def normal(shape, dtype="float64", seed=0, spread=3.0):
    return (spread * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "longdouble", "int32", ">f8"])
@pytest.mark.parametrize("size", [None, 1, 5, (2, 3), 0, (2, 0)])
def test_same_classes_as_the_twin(csm, size, dtype, shape, axis):
    """With the same uniforms: no border of two classes is within the rounding of the sums."""
    x = normal(shape, dtype)
    got = csm.sample_categorical(x, 3, size, axis)
    want = twin.sample_categorical(x, 3, size, axis)
    sizes = size if isinstance(size, tuple) else () if size is None else (size,)
    assert np.shape(got) == (*sizes, *np.delete(shape, axis))
    assert got.dtype == np.int64
    assert isinstance(got, np.ndarray) == isinstance(want, np.ndarray)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_nearly_always_the_twins_class(csm, shape, axis, dtype):
    """float32 terms round the borders by some 1e-7."""
    x = normal(shape, dtype)
    size = max(1, 20_000 // math.prod(shape))
    got = csm.sample_categorical(x, 4, size, axis)
    assert np.mean(got != twin.sample_categorical(x, 4, size, axis)) < 1e-3


@pytest.mark.parametrize(
    ("n", "spread", "axis"), [(2, 1, -1), (10, 1, -1), (40, 2, 0), (300, 1, -1), (5000, 1, -1)]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_distribution(csm, dtype, n, spread, axis):
    """By chi-square over classes that are joined to be expected 20 times or more."""
    x, samples = normal(n, dtype, spread=spread), 40_000
    rows = np.stack([x, np.zeros_like(x), -x])
    drawn = csm.sample_categorical(np.moveaxis(rows, -1, axis), 7, samples, axis)
    p = twin.softmax(rows.astype(float), -1)
    for i in range(3):
        expected = samples * p[i]
        found = np.bincount(drawn[:, i], minlength=n)
        group = np.cumsum(expected) // 20
        found, expected = (np.bincount(group.astype(int), weights=w) for w in (found, expected))
        kept = expected > 5
        statistic = np.sum((found - expected)[kept] ** 2 / expected[kept])
        assert stats.chi2.sf(statistic, kept.sum() - 1) > 1e-5


def test_samples_of_a_row_are_independent_of_the_others(csm):
    x = np.zeros((2, 4))
    pairs = csm.sample_categorical(x, 0, 50_000)
    found = np.bincount(4 * pairs[:, 0] + pairs[:, 1], minlength=16)
    assert stats.chisquare(found).pvalue > 1e-5


def test_seed(csm):
    x = normal((5, 6))
    for make in (
        lambda: 9,
        lambda: np.int64(9),
        lambda: np.random.SeedSequence(9),
        lambda: np.random.PCG64(9),
        lambda: np.random.default_rng(9),
    ):
        got = csm.sample_categorical(x, make(), 100)
        np.testing.assert_array_equal(got, csm.sample_categorical(x, 9, 100))
    assert np.any(got != csm.sample_categorical(x, 10, 100))
    assert csm.sample_categorical(x).shape == (5,)
    rng = np.random.default_rng(9)
    first, second = (csm.sample_categorical(x, rng, 100) for _ in range(2))
    np.testing.assert_array_equal(first, got)
    assert np.any(second != got)
    # one double for each sample, in the order of the result
    rng, uniforms = np.random.default_rng(9), np.random.default_rng(9).random((100, 5))
    csm.sample_categorical(x, rng, 100)
    assert rng.random() == np.random.default_rng(9).random(501)[500]
    cumulated = np.cumsum(twin.softmax(x), -1)
    np.testing.assert_array_equal(got, (cumulated <= uniforms[..., None]).sum(-1))


class Uniforms(np.random.Generator):
    """Gives what it is told to."""

    def __init__(self, *values):
        super().__init__(np.random.PCG64(0))
        self.values = values

    def random(self, size=None, dtype=np.float64, out=None):
        out[...] = np.resize(self.values, out.shape)
        return out


ENDS = (0.0, 1 - 2.0**-53, 2.0**-53, 0.5)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 500, 4096, 4097, 20_000])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("axis", [0, -1])
def test_impossible_classes_are_never_drawn(csm, axis, dtype, n):
    """Not at the ends of the uniforms either."""
    x = np.full((n, 4), -INF, dtype)
    x[n // 2, 0] = 700 if dtype != "float16" else 7
    x[0, 1] = -5
    x[n - 1, 2] = 1
    x[1 : n - 1 : 3, 3] = normal(len(x[1 : n - 1 : 3]), dtype) if n > 2 else 0
    x[0, 3] = -INF if n > 2 else 0
    logits = x if axis == 0 else x.T.copy()
    drawn = csm.sample_categorical(logits, Uniforms(*ENDS * 4), 4, axis)
    np.testing.assert_array_equal(drawn[:, :3], [[n // 2, 0, n - 1]] * 4)
    for row in (csm.sample_categorical(logits, Uniforms(u), 2, axis) for u in ENDS):
        possible = np.flatnonzero(x[:, 3] > -INF)
        assert np.isin(row[:, 3], possible).all()
    first, last = (csm.sample_categorical(logits, Uniforms(u), None, axis)[3] for u in ENDS[:2])
    assert first == possible[0]
    # the last terms may be too small for the sum to tell
    assert last >= possible[-1] - 400


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wide_spread(csm, dtype):
    """Logits over 700: probabilities down to 1e-304."""
    x = np.linspace(-700, 0, 1000).astype(dtype)
    drawn = csm.sample_categorical(x, 0, 10_000)
    p = twin.softmax(x.astype(float))
    assert drawn.min() >= 970
    assert abs(np.mean(drawn == 999) - p[-1]) < 0.02
    np.testing.assert_array_equal(csm.sample_categorical([0.0, -700.0, 1e9], 0, 50), np.full(50, 2))


def test_where_numpy_raises(csm):
    """float32 probabilities whose first n - 1 sum to more than 1 + 1e-12 in float64."""
    p = np.full(7, 1 / 6, np.float32)
    p[-1] = 0
    with pytest.raises(ValueError, match="pvals"):
        np.random.default_rng(0).multinomial(1, p)
    with np.errstate(divide="ignore"):
        drawn = csm.sample_categorical(np.log(p), 0, 1000)
    assert set(drawn) == set(range(6))


@pytest.mark.parametrize("n", [1, 5, 40, 9000])
@pytest.mark.parametrize("bad", [NAN, INF, "nothing"])
@pytest.mark.parametrize("size", [None, 3, 0])
def test_a_row_without_distribution_is_named(csm, size, bad, n):
    x = np.zeros((3, n, 5), "float32")
    if bad == "nothing":
        x[1, :, 3] = -INF
    else:
        x[1, n // 2, 3] = bad
    for logits, axis, where in ((x, 1, "[1, 3]"), (x[1].T, -1, "[3]"), (x[1, :, 3], 0, "")):
        with pytest.raises(ValueError, match="has no distribution") as caught:
            csm.sample_categorical(logits, 0, size, axis)
        assert str(caught.value).startswith(f"logits{where} has no distribution: expected")


def test_no_classes_and_no_rows(csm):
    with pytest.raises(ValueError, match=r"logits has shape \(2, 0\): expected at least one class"):
        csm.sample_categorical(np.zeros((2, 0)))
    assert csm.sample_categorical(np.zeros((0, 3)), size=(4, 2)).shape == (4, 2, 0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("n", [5, 100, 6000])
def test_layout_and_threads_change_nothing(compiled, n, dtype):
    x = normal((200_000 // n, n), dtype)
    padded = np.zeros((2 * len(x), 3 * n), dtype)[::-2, ::-3]
    padded[...] = x
    want = compiled.sample_categorical(x, 5, 40)
    for threads in (1, 2, 3):
        with compiled.threads(threads):
            for laid in (x, padded, np.asfortranarray(x), x.astype(x.dtype.newbyteorder())):
                np.testing.assert_array_equal(compiled.sample_categorical(laid, 5, 40), want)
            got = compiled.sample_categorical(np.asfortranarray(x).T, 5, 40, 0)
            np.testing.assert_array_equal(got, want)


def test_many_samples_are_those_of_few(compiled):
    """However they are put together; the uniforms of one row do not depend on their number."""
    for n in (10, 4096, 100_000, 3_000_000):
        x = normal((1, n), "float32")
        many = compiled.sample_categorical(x, 8, 5000)
        np.testing.assert_array_equal(many[:7], compiled.sample_categorical(x, 8, 7))
        np.testing.assert_array_equal(many[:1], compiled.sample_categorical(x, 8, 1))


def test_instruction_sets_agree():
    """But for what is nearer a border than the rounding of the terms."""
    x = normal((50, 300), "float64")
    first, *others = (csm.sample_categorical(x, 1, 1000) for csm in COMPILED.values())
    for other in others:
        assert np.mean(other != first) < 1e-6


def test_borders_are_where_the_sums_are(csm):
    """Each uniform just below and at the border of two classes with exact sums."""
    x = np.zeros(8)
    below = np.nextafter(np.arange(1, 9) / 8, 0)
    for u, want in zip(below, range(8), strict=True):
        assert csm.sample_categorical(x, Uniforms(u)) == want
    for u, want in zip(np.arange(8) / 8, range(8), strict=True):
        assert csm.sample_categorical(x, Uniforms(u)) == want


def test_a_generator_that_breaks_its_word(compiled):
    """Numbers beyond [0, 1) give a class all the same."""
    for n in (3, 5000):
        x = np.zeros((2, n))
        for u in (-1.0, 1.0, 1e300, NAN, -INF, INF):
            drawn = compiled.sample_categorical(x, Uniforms(u), 3)
            assert np.all((drawn >= 0) & (drawn < n))
    assert not is_twin(compiled)
