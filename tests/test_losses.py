"""cce, cross_entropy and their gradients: PyTorch's numbers, and what PyTorch does not have."""

import json
from pathlib import Path

import numpy as np
import pytest
from checks import assert_like_twin, assert_same_bits, bound, ulps, wider

import csoftmax.reference as twin

GOLDEN = json.loads((Path(__file__).parent / "golden" / "torch_cross_entropy.json").read_text())
FLOATS = ["float16", "float32", "float64", "longdouble"]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"]


def problem(shape=(6, 5), axis=-1, dtype="float64", seed=0):
    """Logits, labels, probabilities, class weights and sample weights that fit together."""
    generator = np.random.default_rng(seed)
    logits = (2 * generator.standard_normal(shape)).astype(dtype)
    samples = np.delete(shape, axis)
    labels = generator.integers(0, shape[axis], size=samples)
    probabilities = twin.softmax(generator.standard_normal(shape), axis)
    class_weight = generator.uniform(0.1, 2, shape[axis])
    sample_weight = generator.uniform(0.1, 2, samples)
    return logits, labels, probabilities, class_weight, sample_weight


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_pytorch_numbers(csm, case):
    options = {
        "class_weight": case["weight"],
        "ignore_index": case["ignore_index"],
        "label_smoothing": case["label_smoothing"],
        "reduction": case["reduction"],
    }
    want = np.nan_to_num(np.array(case["loss"], float))  # a mean over nothing is 0 here
    gradient_want = np.array(case["grad_of_sum"])
    logits, target = np.array(case["logits"]), np.array(case["target"])
    for axis in range(logits.ndim):  # the class axis of the file is 1
        moved = np.moveaxis(logits, 1, axis)
        # the other axes keep their order, so labels need no move
        moved_target = target if case["hard"] else np.moveaxis(target, 1, axis)
        loss, gradient = csm.cross_entropy_with_grad(moved, moved_target, axis=axis, **options)
        np.testing.assert_allclose(loss, want, rtol=1e-12)
        np.testing.assert_allclose(np.moveaxis(gradient, axis, 1), gradient_want, rtol=1e-12)
        only_loss = csm.cross_entropy(moved, moved_target, axis=axis, **options)
        np.testing.assert_allclose(only_loss, want, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0, 0.1, 1])
@pytest.mark.parametrize(("shape", "axis"), [((6, 5), -1), ((5, 6), 0), ((2, 3, 4, 5), 1)])
@pytest.mark.parametrize("target", ["labels", "ignored", "probabilities"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_option_against_the_twin(csm, dtype, target, shape, axis, smoothing, reduction):
    logits, labels, probabilities, class_weight, sample_weight = problem(shape, axis, dtype)
    options = {"axis": axis, "label_smoothing": smoothing, "reduction": reduction}
    if target == "ignored":
        options["ignore_index"] = 2
    aim = probabilities if target == "probabilities" else labels
    for extra in (
        {},
        {"class_weight": class_weight},
        {"sample_weight": sample_weight},
        {"class_weight": class_weight, "sample_weight": sample_weight},
    ):
        loss, gradient = assert_like_twin(
            csm, "cross_entropy_with_grad", logits, aim, **options, **extra
        )
        assert loss.dtype == gradient.dtype == dtype
        assert gradient.shape == shape
        assert np.shape(loss) == (tuple(np.delete(shape, axis)) if reduction == "none" else ())
        only = assert_like_twin(csm, "cross_entropy", logits, aim, **options, **extra)
        np.testing.assert_array_equal(only, loss)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
def test_gradient_against_central_differences(csm, soft, reduction):
    logits, labels, probabilities, class_weight, sample_weight = problem((3, 4, 2), 1)
    options = {
        "axis": 1,
        "class_weight": class_weight,
        "sample_weight": sample_weight,
        "label_smoothing": 0.2,
        "reduction": reduction,
    }
    aim = probabilities if soft else labels
    gradient = csm.cross_entropy_with_grad(logits, aim, **options)[1]
    step = 1e-5
    for index in np.ndindex(logits.shape):
        shift = np.zeros_like(logits)
        shift[index] = step
        above = np.sum(csm.cross_entropy(logits + shift, aim, **options))
        below = np.sum(csm.cross_entropy(logits - shift, aim, **options))
        assert gradient[index] == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_accuracy_at_every_row_length(csm, dtype, axis):
    for length in [*range(1, 71), 100, 511, 512, 513, 1000, 8193, 100000]:
        logits = problem((2, length), dtype=dtype, seed=length)[0]
        labels = np.array([0, length - 1])
        loss_want, gradient_want = twin.cross_entropy_with_grad(
            wider(logits), labels, reduction="none"
        )
        a = logits if axis == -1 else np.ascontiguousarray(logits.T)
        loss, gradient = csm.cross_entropy_with_grad(a, labels, axis=axis, reduction="none")
        assert ulps(loss, loss_want) <= bound(csm, dtype, length=length), length
        gradient = np.moveaxis(gradient, axis, -1)
        limit = bound(csm, dtype, float(np.ptp(logits)), length)
        assert ulps(gradient, gradient_want) <= limit, length


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("axis", [-1, 0])
def test_confident_rows_keep_their_tiny_loss_and_gradient(csm, dtype, classes, axis):
    for gap in (20, 40, 80):
        logits = np.zeros((4, classes), dtype)
        logits[np.arange(4), [0, 1, classes // 2, classes - 1]] = gap
        labels = logits.argmax(-1)
        want = twin.cross_entropy_with_grad(wider(logits), labels, reduction="none")
        a = logits if axis == -1 else np.ascontiguousarray(logits.T)
        loss, gradient = csm.cross_entropy_with_grad(a, labels, axis=axis, reduction="none")
        assert np.all(loss > 0)
        limit = bound(csm, dtype, gap, classes)
        assert ulps(loss, want[0]) <= limit
        assert ulps(np.moveaxis(gradient, axis, -1), want[1]) <= limit


def test_confident_loss_of_the_design(csm):
    loss, gradient = csm.cross_entropy_with_grad(np.array([40.0, 0, 0]), np.array(0))
    assert loss == pytest.approx(8.496708510583178e-18, rel=1e-14)
    assert gradient[0] == pytest.approx(-8.496708510583178e-18, rel=1e-14)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integer_dtype(csm, dtype):
    logits, labels, *_ = problem()
    want = csm.cross_entropy_with_grad(logits, labels)
    got = csm.cross_entropy_with_grad(logits, labels.astype(dtype))
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])
    assert csm.cross_entropy(logits, labels.astype(dtype), ignore_index=-100) == want[0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_probabilities_of_any_float_dtype(csm, dtype):
    logits, _, probabilities, *_ = problem()
    aim = probabilities.astype(dtype)
    loss, gradient = assert_like_twin(csm, "cross_entropy_with_grad", logits, aim)
    assert loss.dtype == gradient.dtype == np.float64


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64"])
def test_integer_logits_become_float64(csm, dtype):
    logits = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    loss, gradient = assert_like_twin(csm, "cross_entropy_with_grad", logits, [1, 0])
    assert loss.dtype == gradient.dtype == np.float64


@pytest.mark.parametrize("smoothing", [0, 0.3])
def test_one_hot_probabilities_equal_labels(csm, smoothing):
    logits, labels, *_ = problem()
    hard = csm.cross_entropy_with_grad(logits, labels, label_smoothing=smoothing)
    soft = csm.cross_entropy_with_grad(logits, np.eye(5)[labels], label_smoothing=smoothing)
    np.testing.assert_allclose(hard[0], soft[0], rtol=1e-14)
    np.testing.assert_allclose(hard[1], soft[1], rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("soft", [False, True])
def test_sample_weight_counts_samples(csm, soft, reduction):
    """An integer sample weight equals repeating the sample; 0 equals dropping it."""
    logits, labels, probabilities, class_weight, _ = problem()
    aim = probabilities if soft else labels
    counts = np.array([0, 1, 2, 3, 1, 0])
    options = {"class_weight": class_weight, "label_smoothing": 0.1, "reduction": reduction}
    weighted = csm.cross_entropy_with_grad(logits, aim, sample_weight=counts, **options)
    repeated = csm.cross_entropy_with_grad(
        np.repeat(logits, counts, axis=0), np.repeat(aim, counts, axis=0), **options
    )
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-14)
    starts = np.minimum(np.cumsum(counts) - counts, counts.sum() - 1)
    np.testing.assert_allclose(
        weighted[1], counts[:, None] * repeated[1][starts], rtol=1e-13, atol=1e-17
    )


def test_sample_weight_is_broadcast(csm):
    logits, labels, *_ = problem((4, 3, 5))
    row = np.array([1.0, 2.0, 0.5])
    for weight in (row, row[None], np.array([[1.0], [2.0], [0.5], [3.0]]), 2.0, [[3]]):
        full = np.broadcast_to(np.asarray(weight, float), labels.shape).copy()
        for got, want in zip(
            csm.cross_entropy_with_grad(logits, labels, sample_weight=weight),
            csm.cross_entropy_with_grad(logits, labels, sample_weight=full),
            strict=True,
        ):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("ignored", [-100, 2, 4, 255])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_samples_are_as_if_absent(csm, ignored, reduction):
    logits, labels, _, class_weight, sample_weight = problem()
    labels[[1, 4]] = ignored
    kept = labels != ignored
    options = {"class_weight": class_weight, "label_smoothing": 0.1, "reduction": reduction}
    loss, gradient = csm.cross_entropy_with_grad(
        logits, labels, sample_weight=sample_weight, ignore_index=ignored, **options
    )
    want = csm.cross_entropy_with_grad(
        logits[kept], labels[kept], sample_weight=sample_weight[kept], **options
    )
    np.testing.assert_allclose(loss, want[0], rtol=1e-14)
    np.testing.assert_allclose(gradient[kept], want[1], rtol=1e-14)
    assert np.all(gradient[~kept] == 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "target", "options"),
    [
        ((3, 4), np.full(3, -1), {"ignore_index": -1}),
        ((3, 4), np.full(3, 1), {"sample_weight": 0}),
        ((3, 4), np.full(3, 1), {"class_weight": [1, 0, 1, 1]}),
        ((3, 4), np.full((3, 4), 0.25), {"sample_weight": [0, 0, 0]}),
        ((0, 4), np.empty(0, int), {}),
        ((0, 4), np.empty((0, 4)), {}),
        ((0, 0), np.empty(0, int), {}),
        ((2, 0), np.empty((2, 0)), {"label_smoothing": 0.1}),
    ],
)
def test_mean_over_nothing_is_zero(csm, dtype, shape, target, options):
    loss, gradient = csm.cross_entropy_with_grad(np.ones(shape, dtype), target, **options)
    assert loss == 0
    assert loss.dtype == dtype
    np.testing.assert_array_equal(gradient, np.zeros(shape, dtype), strict=True)


def test_one_sample_takes_a_scalar_label(csm):
    logits = problem()[0][0]
    for label in (3, np.int8(3), np.array(3)):
        loss, gradient = assert_like_twin(csm, "cross_entropy_with_grad", logits, label)
        batch = csm.cross_entropy_with_grad(logits[None], [3])
        assert loss == batch[0]
        np.testing.assert_array_equal(gradient, batch[1][0])


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_out_receives_the_gradient(csm, dtype, soft, axis):
    logits, labels, probabilities, *_ = problem((7, 7), axis, dtype)
    aim = probabilities.astype(dtype) if soft else labels
    want = csm.cross_entropy_with_grad(logits, aim, axis=axis)
    strided = np.full((14, 21), 7, dtype)[::2, ::-3]
    for out in (np.full((7, 7), 7, dtype), np.full((7, 7), 7, dtype, order="F"), strided):
        loss, gradient = csm.cross_entropy_with_grad(logits, aim, axis=axis, out=out)
        assert gradient is out
        assert loss == want[0]
        np.testing.assert_array_equal(out, want[1])
    in_place = logits.copy()
    assert csm.cross_entropy_with_grad(in_place, aim, axis=axis, out=in_place)[0] == want[0]
    np.testing.assert_array_equal(in_place, want[1])
    if soft:
        over_target = aim.copy()
        csm.cross_entropy_with_grad(logits, over_target, axis=axis, out=over_target)
        np.testing.assert_array_equal(over_target, want[1])


@pytest.mark.parametrize("shape", [(3, 5000), (9, 40), (9, 3)])
@pytest.mark.parametrize("axis", [0, 1])
def test_out_may_be_the_probabilities(csm, shape, axis):
    """Long rows, short ones and columns keep intermediate results in different places."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(shape)
    target = csm.softmax(rng.standard_normal(shape), axis)
    want = csm.cross_entropy_with_grad(logits, target, axis=axis)[1]
    csm.cross_entropy_with_grad(logits, target, axis=axis, out=target)
    np.testing.assert_array_equal(target, want)


@pytest.mark.parametrize("soft", [False, True])
def test_inputs_of_any_layout(csm, soft):
    logits, labels, probabilities, class_weight, sample_weight = problem((8, 5))
    aim = probabilities if soft else labels
    options = {"class_weight": class_weight, "sample_weight": sample_weight}
    want = csm.cross_entropy_with_grad(logits, aim, **options)
    swapped = [a.astype(a.dtype.newbyteorder()) for a in (logits, aim, class_weight, sample_weight)]
    reverse = [a[::-1].copy()[::-1] for a in (logits, aim, class_weight, sample_weight)]
    spaced = [np.repeat(a, 3, axis=-1)[..., ::3] for a in (logits, aim, class_weight)]
    spaced.append(np.repeat(sample_weight, 2)[::2])
    columns = [np.asfortranarray(a) for a in (logits, aim)] + [class_weight, sample_weight]
    for a, b, w, s in (swapped, reverse, spaced, columns):
        for frozen in (a, b, w, s):
            frozen.flags.writeable = False
        got = csm.cross_entropy_with_grad(a, b, class_weight=w, sample_weight=s)
        for g, expected in zip(got, want, strict=True):
            assert_same_bits(csm, g, expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [None, -1, 0, (0, 1), (1, 2)])
def test_cce(csm, dtype, axis):
    generator = np.random.default_rng(5)
    yhat = twin.softmax(generator.standard_normal((2, 3, 4))).astype(dtype)
    for y in (generator.uniform(size=yhat.shape), np.eye(4)[[[0, 1, 2], [3, 3, 0]]]):
        y = y.astype(dtype)
        loss = assert_like_twin(csm, "cce", y, yhat, axis)
        assert loss.dtype == dtype
        want = -np.sum(y * np.log(yhat.astype("longdouble")), axis=axis)
        np.testing.assert_allclose(loss, want, rtol=max(8 * float(np.finfo(dtype).eps), 1e-15))
        gradient = assert_like_twin(csm, "cce_gradient", y, yhat)
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, -y / yhat, rtol=float(np.finfo(dtype).eps))


def test_cce_of_a_notebook_sample(csm):
    """A scalar for one sample, the numbers of its formula; integer one-hot rows are fine."""
    yhat = np.array([0.25, 0.5, 0.25])
    for y in ([0, 1, 0], np.array([False, True, False]), np.array([0, 1, 0], "uint8")):
        assert csm.cce(y, yhat) == np.log(2)
        np.testing.assert_array_equal(csm.cce_gradient(y, yhat), [0, -2, 0])


@pytest.mark.parametrize(
    ("y", "yhat", "result"),
    [("float32", "float64", "float64"), ("int64", "float32", "float64"), ("float16",) * 3],
)
def test_cce_mixed_dtypes(csm, y, yhat, result):
    a, b = np.array([[0, 1], [1, 0]]).astype(y), np.full((2, 2), 0.5, yhat)
    assert assert_like_twin(csm, "cce", a, b).dtype == result
    assert assert_like_twin(csm, "cce_gradient", a, b).dtype == result


def test_cce_of_nothing(csm):
    empty = np.empty((0, 3))
    assert csm.cce(empty, empty) == 0
    assert csm.cce(empty, empty, axis=-1).shape == (0,)
    assert csm.cce_gradient(empty, empty).shape == (0, 3)


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_a_sample_of_no_weight_has_no_loss(csm, reduction):
    """Though its loss alone would be infinite."""
    logits = np.array([[0.0, -np.inf, 1.0], [0.0, 1.0, 2.0]])
    options = {"sample_weight": [0.0, 1.0], "reduction": reduction}
    loss, gradient = csm.cross_entropy_with_grad(logits, [1, 1], **options)
    want = csm.cross_entropy(logits[1:], [1], reduction=reduction)
    np.testing.assert_allclose(loss, np.append(0, want) if reduction == "none" else want)
    assert np.all(gradient[0] == 0)


@pytest.mark.parametrize(("dtype", "weight"), [("float32", 1e-30), ("float64", 1e-200)])
def test_tiny_weights(csm, dtype, weight):
    logits = np.array([[1.0, 2.0, 3.0]], dtype)
    options = {"reduction": "sum", "label_smoothing": 0.1}
    gradient = csm.cross_entropy_with_grad(logits, [0], **options)[1]
    tiny = csm.cross_entropy_with_grad(logits, [0], sample_weight=weight, **options)[1]
    np.testing.assert_allclose(tiny, gradient * weight, rtol=8 * np.finfo(dtype).eps)
