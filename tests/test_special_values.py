"""NaN, infinities, zeros, huge and subnormal values: the right result and never a warning.

Rows with such values are put between ordinary rows, whose results must not change by a bit. What is
expected is the contract, written down by the functions ``contract`` and ``expected_*`` below.
"""

import numpy as np
import pytest
from checks import kept
from implementations import is_twin

NAN, INF = np.nan, np.inf
DTYPES = ["float16", "float32", "float64", "longdouble"]
# ends of registers and of tiles, one more and one less; rows too long to lie side by side; chunks
LENGTHS = [1, 2, 3, 7, 8, 9, 16, 33, 201, 4096, 4097, 9000]
# where the classes (n, or i and j together) lie among the samples (a and b)
ONE_AXIS = ["abn", "nab", "anb"]
ORDERS = [*ONE_AXIS, "abij", "iajb"]

cases = pytest.mark.parametrize(
    ("length", "dtype"),
    [
        *((n, dtype) for n in LENGTHS for dtype in DTYPES[:-1]),
        *((n, "longdouble") for n in (*LENGTHS[:6], 4097)),  # one lane, however long the row
    ],
)


@pytest.fixture
def strict(csm):
    """A function by its name, any floating-point flag of it an error; the test's own arithmetic may
    raise any."""
    with np.errstate(all="ignore"):
        yield lambda function: np.errstate(all="raise")(getattr(csm, function))


def contract(row, keep=True):
    """softmax, log_softmax and logsumexp of the entries to keep, in longdouble."""
    keep = np.broadcast_to(keep, row.shape)
    x = row[keep].astype(np.longdouble)
    p, log_p = np.zeros(row.shape, np.longdouble), np.full(row.shape, -INF, np.longdouble)
    if x.size == 0:
        return p, log_p, -INF
    total = x.max()  # NaN if there is one
    if np.isfinite(total):
        e = np.exp(x - total)
        p[keep] = e / e.sum()
        log_p[keep] = (x - total) - np.log(e.sum())
        total = total + np.log(e.sum())
    else:
        p[keep] = log_p[keep] = NAN
    return p, log_p, total


def special_rows(n, dtype):
    """Of long rows every second kind only."""
    limits = np.finfo(dtype)
    top, least = limits.max, limits.smallest_subnormal
    usual = np.linspace(-2, 2, n)
    kinds = [
        (value, value) for value in (NAN, INF, -INF, top, -top, top / 4, 0.0, -0.0, least, -least)
    ] + [
        *((value, usual) for value in (NAN, -0.0, INF, -top, -INF, least, top)),
        *((value, -INF) for value in (NAN, INF, 3, -0.0, top, -top, least)),
        *((value, INF) for value in (NAN, -INF)),
        (top, -top),
        (least, -0.0),
    ]
    for value, others in kinds[:: 1 if n <= 201 else 2]:
        for k in {0, n // 2, n - 1} if n <= 201 and others is not value else {n * 2 // 3}:
            row = np.empty(n, dtype)
            row[:] = others
            row[k] = value
            yield row


def between(special, ordinary):
    """The special rows with ordinary ones after every third, their number a multiple of 4; the same
    with ordinary rows only; which they are."""
    at = np.arange(-(-len(special) * 4 // 3 // 4) * 4 + 4)
    is_special = (at % 4 < 3) & (np.cumsum(at % 4 < 3) <= len(special))
    plain = ordinary(len(at))
    mixed = plain.copy()
    mixed[is_special] = special
    return mixed, plain, is_special


def normal(count, n, dtype, seed=0):
    return np.random.default_rng([seed, n]).normal(size=(count, n)).astype(dtype)


class Layout:
    """Moves (rows, n) to the order of axes ``order``, and results back."""

    def __init__(self, order, rows, n):
        split = next((d for d in range(2, n) if n % d == 0), 1)
        self.sides = {"a": 4, "b": rows // 4, "n": n, "i": split, "j": n // split}
        self.order, self.letters, self.shape = order, "".join(sorted(order)), (rows, n)
        classes = tuple(i for i, c in enumerate(order) if c in "ijn")
        self.axis = classes if len(classes) > 1 else classes[0]

    def lay(self, rows, strided=False):
        """In memory of its own: dense, or every second entry and backwards."""
        a = rows.reshape([self.sides[c] for c in self.letters])
        a = a.transpose([self.letters.index(c) for c in self.order])
        if not strided:
            return a.copy()
        view = np.empty((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)[::-1, ..., ::-2]
        view[...] = a
        return view

    def samples(self, a):
        """One number a row, as an operand beside `lay`."""
        return a.reshape(self.sides["a"], self.sides["b"])

    def rows(self, result):
        if result.ndim == 2 and len(self.order) > 2:
            return result.reshape(self.shape[0])
        back = result.transpose([self.order.index(c) for c in self.letters])
        return back.reshape(self.shape)


def layouts(orders, rows, n):
    """Every order of axes, dense and strided; for long rows fewer."""
    long = {("abn", False), ("nab", True), ("iajb", False)}
    for order in orders:
        for strided in (False, True):
            if n <= 201 or (order, strided) in long:
                yield Layout(order, rows, n), strided


def same(layout, where, got, want):
    np.testing.assert_array_equal(layout.rows(got)[where], layout.rows(want)[where])


def near(csm, got, want, scale=0.0):
    """To 4 roundings of the result or of what enters it (the twin's sums are plain: 1000);
    infinities and NaN where they are wanted."""
    eps = 1000 if is_twin(csm) else 4
    limits = np.finfo(got.dtype)
    want = np.broadcast_to(np.asarray(want).astype(got.dtype), got.shape)
    good = (got == want) | (np.isnan(got) & np.isnan(want))
    rest = ~good  # few entries: scale may be longdouble, whose NaN and subnormals are slow
    scale = np.broadcast_to(scale, want.shape)[rest]
    size = np.maximum(np.abs(want[rest]), scale) * limits.eps + limits.smallest_subnormal
    good[rest] = np.abs(got[rest] - want[rest]) <= eps * size
    assert np.all(good), (np.argwhere(~good), got[~good], want[~good])


FAMILY = ("softmax", "log_softmax", "logsumexp")


@kept
def family_case(masked, length, dtype):
    """The rows of `between`, what is kept of them, and what the special ones give."""
    special = list(special_rows(length, dtype))
    x, plain, is_special = between(special, lambda m: normal(m, length, dtype))
    keep = np.ones(x.shape, bool)
    if masked:
        keep = np.random.default_rng(length).random(x.shape) < 0.6
        keep[1::3] &= np.arange(length) == length // 2
        keep[2::9] = False
    wants = zip(*map(contract, special, keep[is_special]), strict=True)
    return x, plain, is_special, keep, *map(np.stack, wants)


@cases
@pytest.mark.parametrize("masked", [False, True])
def test_softmax_family(csm, strict, masked, length, dtype):
    """Masked: whatever is hidden, in rows that have nothing left, too."""
    x, plain, is_special, keep, *wants = family_case(masked, length, dtype)
    for layout, strided in layouts(ORDERS, len(x), length):
        options = {"axis": layout.axis, **({"where": layout.lay(keep, strided)} if masked else {})}
        for function, want in zip(FAMILY, wants, strict=True):
            call, a = strict(function), layout.lay(x, strided)
            got = call(a, **options)
            # the maximum, 3 at most among ordinary values, may cancel its logarithm
            near(csm, layout.rows(got)[is_special], want, 3.0 * (function == "logsumexp"))
            others = call(layout.lay(plain, strided), **options)
            same(layout, ~is_special, got, others)
            if function != "logsumexp":
                assert call(a, **options, out=a) is a
                np.testing.assert_array_equal(a, got)
    for row, mask, *want in zip(x[is_special], keep[is_special], *wants, strict=True):
        options = {"axis": None, **({"where": mask.reshape(1, -1, 1)} if masked else {})}
        for function, value in zip(FAMILY, want, strict=True):
            got = strict(function)(row.reshape(1, -1, 1), **options)
            near(csm, np.ravel(got), value, 3.0 * (function == "logsumexp"))


def expected_cross_entropy(row, weights, scale):
    """Loss and gradient of a row whose classes have these target weights."""
    p, log_p, _ = contract(row)
    w = weights.astype(np.longdouble)
    loss = -np.where((w == 0) & (log_p == -INF), 0, w * log_p).sum()
    free = scale == 0 and np.isinf(loss)  # no weight on an impossible class costs nothing
    return 0.0 if free else scale * loss, scale * (p * w.sum() - w)


TARGETS = {
    "labels": ("labels", set()),
    "weighted labels": ("labels", {"class_weight", "sample_weight"}),
    "smoothed labels": ("labels", {"class_weight", "label_smoothing"}),
    "probabilities": ("probabilities", set()),
    "weighted": ("probabilities", {"class_weight", "sample_weight", "label_smoothing"}),
}


SMOOTHING = 0.25


@kept
def cross_entropy_case(target, length, dtype):
    """The rows of `between`, their targets, the weights of classes and of samples; loss and
    gradient of the special ones, and the size of what enters."""
    kind, names = TARGETS[target]
    special = [r for r in special_rows(length, dtype) if not np.any(np.abs(r[np.isfinite(r)]) > 9)]
    x, plain, is_special = between(special, lambda m: normal(m, length, dtype))
    rng = np.random.default_rng(length)
    class_weight = rng.integers(0, 3, length) / 2
    sample_weight = rng.integers(0, 3, len(x)) / 2
    labels = rng.choice([0, length // 2, length - 1], len(x))
    weights = np.eye(length)[labels] if length < 999 else np.arange(length) == labels[:, None]
    if kind == "probabilities":
        weights = weights / 2 + np.roll(weights, 1, 1) / 2
    t = weights.astype(dtype) if kind == "probabilities" else labels
    smoothing = np.longdouble(SMOOTHING if "label_smoothing" in names else 0)
    weights = weights.astype(np.longdouble) * (1 - smoothing) + smoothing / length
    if "class_weight" in names:
        weights = weights * class_weight
    if "sample_weight" not in names:
        sample_weight[:] = 1
    ours = np.flatnonzero(is_special)
    wants = [expected_cross_entropy(x[i], weights[i], sample_weight[i]) for i in ours]
    loss, gradient = (np.stack(w) for w in zip(*wants, strict=True))
    size = 1 + sample_weight[ours, None] * (weights[ours] + weights[ours].sum(1, keepdims=True))
    return x, plain, is_special, t, class_weight, sample_weight, loss, gradient, size


@cases
@pytest.mark.parametrize("target", TARGETS)
def test_cross_entropy(csm, strict, target, length, dtype):
    """The largest logits only where no smoothing takes an infinite multiple of them."""
    kind, names = TARGETS[target]
    x, plain, is_special, t, class_weight, sample_weight, loss, gradient, size = cross_entropy_case(
        target, length, dtype
    )
    every = {"class_weight": class_weight, "label_smoothing": SMOOTHING}
    options = {name: value for name, value in every.items() if name in names}
    for layout, strided in layouts(ONE_AXIS, len(x), length):
        given = layout.lay(t, strided) if kind == "probabilities" else layout.samples(t)
        options.update(axis=layout.axis, reduction="none")
        if "sample_weight" in names:
            options["sample_weight"] = layout.samples(sample_weight)
        a = layout.lay(x, strided)
        got = strict("cross_entropy_with_grad")(a, given, **options)
        near(csm, layout.rows(got[0])[is_special], loss)
        near(csm, layout.rows(got[1])[is_special], gradient, size)
        others = strict("cross_entropy_with_grad")(layout.lay(plain, strided), given, **options)
        for ours, theirs in zip(got, others, strict=True):
            same(layout, ~is_special, ours, theirs)
        np.testing.assert_array_equal(strict("cross_entropy")(a, given, **options), got[0])
        again, out = strict("cross_entropy_with_grad")(a, given, **options, out=a)
        np.testing.assert_array_equal(again, got[0])
        np.testing.assert_array_equal(out, got[1])


def special_pairs(n, dtype):
    """Rows of probabilities (0 in the middle, where there is room), and of gradients."""
    limits = np.finfo(dtype)
    usual, ramp = np.full(n, 1 / n), np.linspace(-1, 2, n)
    middle = np.arange(n) == n // 2
    usual[middle] = usual[0] * (n == 1)
    one_hot = middle.astype(float)
    for y, grad in (
        *((p, np.full(n, v)) for p in (usual, one_hot) for v in (NAN, INF, -INF, 0.0, -0.0)),
        *((np.full(n, v), ramp) for v in (NAN, INF, 0.0, -0.0, limits.smallest_subnormal)),
        *((p, np.where(m, v, ramp)) for v in (NAN, INF, -INF) for p in (usual, one_hot)
          for m in (middle, np.arange(n) == n - 1)),
        *((np.where(m, v, usual), ramp) for v in (NAN, INF) for m in (middle, np.arange(n) == 0)),
        (one_hot, np.full(n, limits.max)),
        (one_hot, np.full(n, -limits.max)),
        (usual, np.full(n, limits.smallest_subnormal)),
        (one_hot, np.where(middle, limits.max, 0)),
    ):  # fmt: skip
        yield y.astype(dtype), grad.astype(dtype)


def expected_products(y, grad):
    """By the formulas, and the size of what enters."""
    p, log_p, g = (a.astype(np.longdouble) for a in (y, np.log(y), grad))
    total = g.sum().astype(np.result_type(grad, np.float32))  # where it is infinite there
    return (
        (p * (g - (p * g).sum()), np.abs(p * g) + p * np.abs(p * g).sum()),
        (g - np.exp(log_p) * total, np.abs(g) + p * np.abs(g).sum()),
    )


@kept
def products_case(length, dtype):
    """The rows of `between` for both operands; values and sizes of both functions."""
    pairs = list(special_pairs(length, dtype))
    ys, grads = zip(*pairs, strict=True)
    y, plain_y, is_special = between(ys, lambda m: np.abs(normal(m, length, dtype)))
    grad, plain_grad, _ = between(grads, lambda m: normal(m, length, dtype, 1))
    wants = zip(*(expected_products(*pair) for pair in pairs), strict=True)
    flat = [np.stack(w) for want in wants for w in zip(*want, strict=True)]
    return y, plain_y, grad, plain_grad, is_special, *flat


@cases
def test_products(csm, strict, length, dtype):
    y, plain_y, grad, plain_grad, is_special, *wants = products_case(length, dtype)
    for function, value, size in (
        ("softmax_vjp", *wants[:2]),
        ("log_softmax_vjp", *wants[2:]),
    ):
        call = strict(function)
        size = np.where(np.isfinite(size), size, 0)
        if function == "log_softmax_vjp":
            y, plain_y = np.log(y), np.log(plain_y)
        for layout, strided in layouts(ORDERS, len(y), length):
            a, b = layout.lay(y, strided), layout.lay(grad, strided)
            got = call(a, b, layout.axis)
            near(csm, layout.rows(got)[is_special], value, size)
            others = call(
                layout.lay(plain_y, strided), layout.lay(plain_grad, strided), layout.axis
            )
            same(layout, ~is_special, got, others)
            for i in (0, 1):
                both = [a.copy(), b.copy()]
                assert call(*both, layout.axis, out=both[i]) is both[i]
                np.testing.assert_array_equal(both[i], got)


def special_targets(n, dtype):
    """Rows of target probabilities, and of predicted ones."""
    limits = np.finfo(dtype)
    middle, half = np.arange(n) == n // 2, np.full(n, 0.5)
    one_hot = middle.astype(float)
    for value in (NAN, INF, 0.0, -0.0, -0.5, limits.smallest_subnormal, limits.max):
        for y in (one_hot, -0.0 * half, half, np.where(middle, 0, 0.5)):
            yield y.astype(dtype), np.where(middle, value, half).astype(dtype)
            yield y.astype(dtype), np.full(n, value, dtype)
        yield np.where(middle, value, 0).astype(dtype), half.astype(dtype)


def expected_cce(y, yhat):
    q, p = y.astype(np.longdouble), yhat.astype(np.longdouble)
    terms = np.where((q == 0) & ~np.isnan(p), 0, q * np.log(p))
    return -terms.sum(), np.where((q == 0) & (p == 0), 0, -q / p), np.abs(terms).sum()


@kept
def cce_case(length, dtype):
    """The rows of `between` for both operands; loss, gradient, and the size of the loss's terms."""
    pairs = list(special_targets(length, dtype))[:: 1 if length <= 201 else 3]
    ys, yhats = zip(*pairs, strict=True)
    y, plain_y, is_special = between(ys, lambda m: normal(m, length, dtype))
    yhat, plain_yhat, _ = between(yhats, lambda m: normal(m, length, dtype, 1) ** 2)
    wants = zip(*(expected_cce(*pair) for pair in pairs), strict=True)
    return y, plain_y, yhat, plain_yhat, is_special, *map(np.stack, wants)


@cases
def test_cce(csm, strict, length, dtype):
    y, plain_y, yhat, plain_yhat, is_special, loss, gradient, size = cce_case(length, dtype)
    for layout, strided in layouts(ORDERS, len(y), length):
        a, b = layout.lay(y, strided), layout.lay(yhat, strided)
        others = layout.lay(plain_y, strided), layout.lay(plain_yhat, strided)
        got = strict("cce")(a, b, layout.axis)
        near(csm, layout.rows(got)[is_special], loss, np.where(np.isfinite(size), size, 0))
        same(layout, ~is_special, got, strict("cce")(*others, layout.axis))
        got = strict("cce_gradient")(a, b)
        near(csm, layout.rows(got)[is_special], gradient)
        same(layout, ~is_special, got, strict("cce_gradient")(*others))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_jacobian(csm, strict, axis, dtype):
    rows = [y for y, _ in special_pairs(9, dtype)]
    y = np.moveaxis(np.array([rows, rows[::-1]]), -1, axis)
    got = strict("softmax_jacobian")(y, axis)
    for i, row in enumerate(rows):
        p = row.astype(np.longdouble)
        want = np.outer(p, -p)
        want[np.diag_indices(9)] += p
        near(csm, got[0, i], want, np.abs(np.diag(p)))
        near(csm, got[1, -1 - i], want, np.abs(np.diag(p)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_spread_from_normal_to_nothing(strict, dtype):
    """Results from 1 down through the subnormals to 0, without a warning and monotonically."""
    low = 2 * np.log(np.finfo(dtype).smallest_subnormal.astype(np.longdouble))
    p = strict("softmax")(np.linspace(low, 0, 2000).astype(dtype))
    assert p[0] == 0
    assert np.all(np.diff(p) >= 0)
    assert np.any((p > 0) & (p < np.finfo(dtype).tiny))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions_of_special_rows(strict, reduction, dtype):
    """What one row spoils; infinite losses add up to infinity."""
    rows = np.array([[0, 0, 1], [-INF, 0, 0], [NAN, 0, 0], [INF, 0, 0], [-INF] * 3], dtype)
    call = strict("cross_entropy_with_grad")
    for others, want in (([], INF), ([2], NAN), ([3], NAN), ([4], NAN)):
        logits = rows[[0, 1, *others]]
        loss, gradient = call(logits, np.zeros(len(logits), int), reduction=reduction)
        np.testing.assert_array_equal(loss, want)
        assert np.all(np.isfinite(gradient[:2]))
        assert np.all(np.isnan(gradient[2:]))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ignored_samples_may_hold_anything(strict, dtype, bad):
    logits = np.array([[bad, 1, 2], [1, 2, 3], [bad, bad, bad]], dtype)
    target = np.array([-1, 2, -1])
    call = strict("cross_entropy_with_grad")
    single, row = call(logits[1], np.array(2))
    for a, axis in ((logits, -1), (logits.T.copy(), 0)):
        loss, gradient = call(a, target, axis=axis, ignore_index=-1)
        each, _ = call(a, target, axis=axis, ignore_index=-1, reduction="none")
        assert loss == single
        np.testing.assert_array_equal(np.moveaxis(gradient, axis, -1), [[0] * 3, row, [0] * 3])
        np.testing.assert_array_equal(each, [0, single, 0])


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (1, 2), None])
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_empty_arrays(strict, shape, axis, dtype):
    x = np.empty(shape, dtype)
    result = x.dtype if x.dtype.kind == "f" else np.dtype(float)
    one = axis if isinstance(axis, int) else -1
    samples = np.delete(shape, one)
    for where in (None, np.ones(shape, bool), False):
        for function in ("softmax", "log_softmax"):
            got = strict(function)(x, axis, where=where)
            assert (got.shape, got.dtype) == (shape, result)
        total = strict("logsumexp")(x, axis, where=where)
        np.testing.assert_array_equal(total, np.full(np.sum(x, axis=axis).shape, -INF, result))
    for function in ("softmax_vjp", "softmax_jvp", "log_softmax_vjp"):
        assert strict(function)(x, x, axis).shape == shape
    assert strict("softmax_jacobian")(x, one).shape == (*samples, shape[one], shape[one])
    np.testing.assert_array_equal(strict("cce")(x, x, axis), np.sum(x, axis=axis).astype(result))
    assert strict("cce_gradient")(x, x).shape == shape
    targets = [x.astype(result)] + [np.zeros(samples, int)] * (shape[one] > 0 or 0 in samples)
    for target in targets:
        for reduction in ("none", "sum", "mean"):
            for smoothing in (0, 0.1):
                loss, gradient = strict("cross_entropy_with_grad")(
                    x, target, axis=one, reduction=reduction, label_smoothing=smoothing
                )
                want = np.zeros(samples if reduction == "none" else (), result)
                np.testing.assert_array_equal(loss, want, strict=isinstance(loss, np.ndarray))
                assert loss.dtype == gradient.dtype == result
                assert gradient.shape == shape
