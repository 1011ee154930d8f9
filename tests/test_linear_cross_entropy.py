"""linear_cross_entropy: the unfused composition's and PyTorch's numbers, in bounded memory."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from checks import assert_like_twin
from implementations import is_twin

import csoftmax.reference as twin

GOLDEN = json.loads((Path(__file__).parent / "golden" / "linear_cross_entropy.json").read_text())
NAMES = ("x", "weight", "bias")


def problem(samples=(9,), features=4, classes=7, dtype="float64", axis=-1, seed=0):
    """Operands and targets that fit together, features and classes along `axis`."""
    rng = np.random.default_rng(seed)
    x = np.moveaxis(rng.standard_normal((*samples, features)), -1, axis).astype(dtype)
    weight = rng.standard_normal((classes, features)).astype(dtype)
    bias = rng.standard_normal(classes).astype(dtype)
    labels = rng.integers(0, classes, samples)
    probabilities = twin.softmax(rng.standard_normal((*samples, classes)))
    return (
        x,
        weight,
        bias,
        {"labels": labels, "probabilities": np.moveaxis(probabilities, -1, axis)},
    )


def composed(csm, x, weight, target, bias=None, axis=-1, **options):
    """Value and gradients by way of the whole logits."""
    rows = np.moveaxis(x, axis, -1)
    logits = np.moveaxis(rows @ weight.T + (0 if bias is None else bias), -1, axis)
    loss, gradient = csm.cross_entropy_with_grad(logits, target, axis=axis, **options)
    gradient = np.moveaxis(gradient, axis, -1)
    flat = gradient.reshape(-1, len(weight))
    dx = np.moveaxis(gradient @ weight, -1, axis)
    dbias = None if bias is None else flat.sum(axis=0)
    return loss, (dx, flat.T @ rows.reshape(len(flat), -1), dbias)


def assert_close(got, want, eps):
    """Loss and gradients within rounding: each entry is a sum of terms of the order of 1."""
    (loss, gradients), (loss_want, gradients_want) = got, want
    np.testing.assert_allclose(loss, loss_want, rtol=60 * eps, atol=8 * eps)
    for g, w in zip(gradients, gradients_want, strict=True):
        assert (g is None) == (w is None)
        if g is not None:
            assert g.shape == w.shape
            np.testing.assert_allclose(g, w, rtol=60 * eps, atol=60 * eps * (1 + np.abs(w).max()))


@pytest.mark.parametrize("case", GOLDEN["cases"])
@pytest.mark.parametrize("axis", [0, -1])
def test_pytorch_numbers(csm, case, axis):
    x, target = np.array(case["x"]), np.array(case["target"])
    if axis == 0:
        x, target = x.T, target.T
    loss, (dx, dweight, dbias) = csm.linear_cross_entropy_with_grad(
        x,
        case["weight"],
        target,
        axis=axis,
        block_size=4,
        **{k: case[k] for k in ("bias", "class_weight", "ignore_index")},
        **{k: case[k] for k in ("label_smoothing", "reduction")},
    )
    np.testing.assert_allclose(loss, case["loss"], rtol=1e-12)
    np.testing.assert_allclose(dx.T if axis == 0 else dx, case["dx"], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(dweight, case["dweight"], rtol=1e-11, atol=1e-14)
    if case["bias"] is None:
        assert dbias is None
    else:
        np.testing.assert_allclose(dbias, case["dbias"], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("target", "chunked"), [("labels", False), ("labels", True), ("probabilities", False)]
)
def test_pytorch_itself(csm, chunked, target, reduction):
    """Its chunked form takes labels alone."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    if not hasattr(functional, "linear_cross_entropy"):
        pytest.skip("this PyTorch has no linear_cross_entropy")
    x, weight, bias, targets = problem((40,), 8, 30)
    operands = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    loss = functional.linear_cross_entropy(
        *operands[:2],
        torch.tensor(targets[target]),
        linear_bias=operands[2],
        reduction=reduction,
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=16) if chunked else None,
    )
    loss.sum().backward()
    want = loss.detach().numpy(), [a.grad.numpy() for a in operands]
    options = {"bias": bias, "reduction": reduction, "block_size": 16}
    got = csm.linear_cross_entropy_with_grad(x, weight, targets[target], **options)
    assert_close(got, want, np.finfo(float).eps)


@pytest.mark.parametrize("block_size", [None, 1, 4, 9, 1000])
@pytest.mark.parametrize("classes", [7, 200])
@pytest.mark.parametrize("target", ["labels", "probabilities"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_unfused_composition(csm, dtype, target, classes, block_size):
    x, weight, bias, targets = problem((9,), 4, classes, dtype)
    eps = np.finfo(dtype).eps
    for options in (
        {},
        {"bias": bias, "reduction": "sum"},
        {"bias": bias, "reduction": "none", "label_smoothing": 0.1},
        {"bias": bias, "class_weight": np.linspace(0.1, 2, classes)},
        {"sample_weight": np.linspace(0.1, 2, 9), "label_smoothing": 0.2},
    ):
        want = composed(csm, x, weight, targets[target], **options)
        options["block_size"] = block_size
        got = csm.linear_cross_entropy_with_grad(x, weight, targets[target], **options)
        assert_close(got, want, eps)
        assert {a.dtype for a in (got[0], *got[1]) if a is not None} == {np.dtype(dtype)}
        loss = csm.linear_cross_entropy(x, weight, targets[target], **options)
        np.testing.assert_array_equal(loss, got[0])


@pytest.mark.parametrize(
    ("samples", "axis"), [((), -1), ((), 0), ((9,), 0), ((2, 3), -1), ((2, 3), 1), ((2, 3, 2), -3)]
)
@pytest.mark.parametrize("target", ["labels", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_any_axis(csm, samples, axis, target, reduction):
    x, weight, bias, targets = problem(samples, axis=axis)
    options = {"bias": bias, "axis": axis, "reduction": reduction, "sample_weight": 3}
    want = composed(csm, x, weight, targets[target], **options)
    got = csm.linear_cross_entropy_with_grad(x, weight, targets[target], **options, block_size=4)
    assert_close(got, want, np.finfo(float).eps)
    assert np.shape(got[0]) == (samples if reduction == "none" else ())
    assert got[1][0].shape == x.shape


@pytest.mark.parametrize("target", ["labels", "probabilities"])
def test_central_differences(csm, target):
    x, weight, bias, targets = problem((5,), 3, 4)
    options = {
        "class_weight": np.linspace(0.5, 2, 4),
        "sample_weight": np.linspace(0.5, 2, 5),
        "label_smoothing": 0.2,
        "block_size": 2,
    }

    def loss(x, weight, bias):
        return csm.linear_cross_entropy(x, weight, targets[target], bias=bias, **options)

    operands = (x, weight, bias)
    gradients = csm.linear_cross_entropy_with_grad(
        x, weight, targets[target], bias=bias, **options
    )[1]
    step = 1e-5
    for i, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            above, below = ([a.copy() for a in operands] for _ in range(2))
            above[i][index] += step
            below[i][index] -= step
            slope = (loss(*above) - loss(*below)) / (2 * step)
            assert gradient[index] == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("wrt", [(), "x", "weight", ["bias"], ("weight", "x"), {"x", "bias"}])
def test_gradients_that_are_asked_for(csm, wrt):
    x, weight, bias, targets = problem()
    loss, everything = csm.linear_cross_entropy_with_grad(x, weight, targets["labels"], bias=bias)
    options = {"bias": bias, "wrt": wrt}
    got, some = csm.linear_cross_entropy_with_grad(x, weight, targets["labels"], **options)
    assert got == loss
    for name, full, gradient in zip(NAMES, everything, some, strict=True):
        if name in wrt:
            np.testing.assert_array_equal(gradient, full)
        else:
            assert gradient is None


def test_only_the_products_that_are_asked_for(compiled, monkeypatch):
    """Each gradient of a matrix is one product a block beside that of the logits."""
    x, weight, bias, targets = problem()
    made = []
    kernels = compiled.linear_cross_entropy.__globals__["kernels"]

    class Counting:
        def __getattr__(self, name):
            return getattr(kernels, name)

        def multiply(self, a, b, out, add):
            made.append(out.shape)
            kernels.multiply(a, b, out, add)

    monkeypatch.setitem(compiled.linear_cross_entropy.__globals__, "kernels", Counting())
    logits, dx, dweight = (7, 9), (9, 4), (7, 4)  # the logits class by class
    for wrt, products in (
        ((), [logits]),
        ("x", [logits, dx]),
        ("weight", [logits, dweight]),
        ("bias", [logits]),
        (NAMES, [logits, dx, dweight]),
    ):
        made.clear()
        compiled.linear_cross_entropy_with_grad(x, weight, targets["labels"], bias=bias, wrt=wrt)
        assert made == products


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("axis", [0, -1])
def test_ignored_samples_are_as_if_absent(csm, axis, reduction):
    """Whatever they hold: 0 * NaN is no zero."""
    x, weight, bias, targets = problem((12,), classes=5, axis=axis)
    labels = targets["labels"]
    labels[[0, 5, 6, 11]] = -1
    kept = labels != -1
    rows = x.T if axis == 0 else x
    rows[~kept] = [[np.nan], [np.inf], [-np.inf], [0]]
    weights = np.linspace(0.1, 1, 12)
    options = {"bias": bias, "label_smoothing": 0.1, "reduction": reduction, "block_size": 3}
    loss, (dx, dweight, dbias) = csm.linear_cross_entropy_with_grad(
        x, weight, labels, axis=axis, ignore_index=-1, sample_weight=weights, **options
    )
    want = csm.linear_cross_entropy_with_grad(
        rows[kept], weight, labels[kept], sample_weight=weights[kept], **options
    )
    dx = dx.T if axis == 0 else dx
    assert np.all(dx[~kept] == 0)
    if reduction == "none":
        assert np.all(loss[~kept] == 0)
        loss = loss[kept]
    assert_close((loss, (dx[kept], dweight, dbias)), want, np.finfo(float).eps)


@pytest.mark.parametrize(
    ("samples", "classes", "target", "options"),
    [
        (3, 4, np.full(3, -1), {"ignore_index": -1}),
        (3, 4, np.full(3, 1), {"sample_weight": 0}),
        (3, 4, np.full(3, 1), {"class_weight": [1, 0, 1, 1]}),
        (3, 4, np.full((3, 4), 0.25), {"sample_weight": [0, 0, 0]}),
        (0, 4, np.empty(0, int), {}),
        (0, 0, np.empty(0, int), {}),
        (2, 0, np.empty((2, 0)), {}),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_mean_over_nothing_is_zero(csm, dtype, samples, classes, target, options):
    x, weight = np.full((samples, 5), np.nan, dtype), np.ones((classes, 5), dtype)
    bias = np.ones(classes, dtype)
    loss, gradients = csm.linear_cross_entropy_with_grad(x, weight, target, bias=bias, **options)
    assert loss == 0
    assert loss.dtype == dtype
    for gradient, operand in zip(gradients, (x, weight, bias), strict=True):
        np.testing.assert_array_equal(gradient, np.zeros_like(operand), strict=True)


def test_no_features(csm):
    x, weight, bias, targets = problem(features=0)
    want = csm.cross_entropy(np.broadcast_to(bias, (9, 7)), targets["labels"])
    loss, gradients = csm.linear_cross_entropy_with_grad(x, weight, targets["labels"], bias=bias)
    assert loss == pytest.approx(want, rel=1e-14)
    assert [g.shape for g in gradients] == [(9, 0), (7, 0), (7,)]


@pytest.mark.parametrize(
    ("x", "weight", "bias", "result"),
    [
        ("float16", "float16", "float16", "float16"),
        ("float16", "float16", "float32", "float32"),
        ("float32", "float32", "float64", "float64"),
        ("float64", "float32", "float32", "float64"),
        ("int8", "float32", "float32", "float64"),
        ("bool", "int64", "uint8", "float64"),
        (">f4", "<f4", "f4", "float32"),
        ("longdouble", "float32", "float16", "longdouble"),
    ],
)
def test_dtypes(csm, x, weight, bias, result):
    a, w, b, targets = problem()
    operands = [(2 * operand).astype(dtype) for operand, dtype in ((a, x), (w, weight), (b, bias))]
    compute = np.result_type(result, np.float32)
    want = twin.linear_cross_entropy_with_grad(
        *(operand.astype(compute) for operand in operands[:2]),
        targets["labels"],
        bias=operands[2].astype(compute),
    )
    got = csm.linear_cross_entropy_with_grad(*operands[:2], targets["labels"], bias=operands[2])
    assert_close(got, want, np.finfo(result).eps)
    assert {value.dtype for value in (got[0], *got[1])} == {np.dtype(result)}


def test_bfloat16(csm):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, weight, bias, targets = problem(dtype="float32")
    operands = [a.astype(bfloat16) for a in (x, weight, bias)]
    want = csm.linear_cross_entropy_with_grad(
        *(a.astype("float32") for a in operands[:2]),
        targets["labels"],
        bias=operands[2].astype("float32"),
    )
    got = csm.linear_cross_entropy_with_grad(*operands[:2], targets["labels"], bias=operands[2])
    for g, w in zip((got[0], *got[1]), (want[0], *want[1]), strict=True):
        assert g.dtype == bfloat16
        np.testing.assert_array_equal(g, w.astype(bfloat16))


@pytest.mark.parametrize("target", ["float16", "float32", "float64"])
def test_probabilities_of_any_dtype(csm, target):
    x, weight, bias, targets = problem(dtype="float32")
    aim = targets["probabilities"].astype(target)
    want = csm.linear_cross_entropy_with_grad(x, weight, aim.astype("float32"), bias=bias)
    got = csm.linear_cross_entropy_with_grad(x, weight, aim, bias=bias)
    assert_close(got, want, np.finfo("float32").eps)
    assert got[0].dtype == np.float32


def test_operands_of_any_layout(csm):
    x, weight, bias, targets = problem((8,), 6, 5)
    operands = (x, weight, targets["probabilities"], bias)
    want = csm.linear_cross_entropy_with_grad(*operands[:3], bias=bias, block_size=3)

    def misaligned(a):
        raw = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        raw[...] = a
        return raw

    for lay in (
        np.asfortranarray,
        misaligned,
        lambda a: a[::-1].copy()[::-1],
        lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
        lambda a: np.pad(a, 2)[(slice(2, -2),) * a.ndim],
        lambda a: a.astype(">f8"),
    ):
        laid = [lay(a) for a in operands]
        before = [a.copy() for a in laid]
        for a in laid:
            a.flags.writeable = False
        got = csm.linear_cross_entropy_with_grad(*laid[:3], bias=laid[3], block_size=3)
        assert_close(got, want, np.finfo(float).eps)
        for a, b in zip(laid, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_special_values_are_those_of_the_logits(csm):
    x = np.array([[1.0, 0], [np.nan, 0], [np.inf, 1], [0, 1]])
    weight = np.array([[1.0, 2], [3, 4], [-1, 1]])
    got = assert_like_twin(
        csm, "linear_cross_entropy", x, weight, [0, 1, 2, 1], reduction="none", block_size=2
    )
    np.testing.assert_array_equal(np.isnan(got), [False, True, True, False])
    loss, (dx, dweight, _) = csm.linear_cross_entropy_with_grad(x, weight, [0, 1, 2, 1])
    assert np.isnan(loss)
    np.testing.assert_array_equal(np.isnan(dx).all(axis=1), [False, True, True, False])
    assert np.isnan(dweight).all()


PIECE = 4096  # classes that are gone over at a time


@pytest.mark.parametrize("block_size", [None, 17])
@pytest.mark.parametrize("classes", [PIECE + 1, 2 * PIECE, 9000])
@pytest.mark.parametrize("target", ["labels", "probabilities"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_pieces_of_the_classes(csm, dtype, target, classes, block_size):
    """The maximum is in the first piece, grows from piece to piece, or is beyond them all."""
    x, weight, bias, targets = problem((20,), 2, classes, dtype)
    eps = np.finfo(dtype).eps
    growing, huge = bias.copy(), bias * 1e5
    growing[PIECE:] += 50
    missing = bias.copy()
    missing[: PIECE + 1 if classes > PIECE + 1 else PIECE] = -np.inf
    aim = targets[target].copy()
    for options in (
        {"bias": bias},
        {"bias": growing},
        {"bias": growing, "label_smoothing": 0.1, "class_weight": np.linspace(0.1, 2, classes)},
        {"bias": huge, "reduction": "none"},
        {"bias": bias, "sample_weight": np.linspace(0, 2, 20), "reduction": "sum"},
    ):
        want = composed(csm, x, weight, aim, **options)
        got = csm.linear_cross_entropy_with_grad(x, weight, aim, block_size=block_size, **options)
        scale = 1 + np.abs(options["bias"]).max() / 50  # of the logits, and so of their rounding
        assert_close(got, want, eps * scale)
    if target == "labels":
        aim[:] = classes - 1
        want = composed(csm, x, weight, aim, missing)
        got = csm.linear_cross_entropy_with_grad(
            x, weight, aim, bias=missing, block_size=block_size
        )
        assert np.isfinite(got[0])
        assert_close(got, want, eps)


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_special_values_in_pieces(csm, smoothing):
    """As of the whole logits, wherever the piece: first, last, or all of them."""
    classes = 2 * PIECE + 5
    x, weight = np.ones((4, 1)), np.zeros((classes, 1))
    labels = np.array([0, PIECE, classes - 1, 7])
    pieces = (slice(0, PIECE), slice(2 * PIECE, None), slice(3, 4), slice(None))
    for value in (-np.inf, np.inf, np.nan, 1e308, -1e308):
        for piece in pieces:
            bias = np.zeros(classes)
            bias[piece] = value
            options = {"bias": bias, "reduction": "none", "label_smoothing": smoothing}
            with np.errstate(invalid="ignore"):
                loss, gradients = composed(csm, x, weight, labels, **options)
                got, some = csm.linear_cross_entropy_with_grad(x, weight, labels, **options)
            np.testing.assert_allclose(got, loss, rtol=1e-14)
            np.testing.assert_allclose(some[2], gradients[2], rtol=1e-12, atol=1e-18)


def block_size(csm, classes, features, itemsize):
    """Samples of a block by default."""
    return csm.linear_cross_entropy.__globals__["_block_size"](classes, features, itemsize)


@pytest.mark.parametrize("wrt", [(), "x", "weight", "bias", NAMES])
@pytest.mark.parametrize("target", ["labels", "ignored", "probabilities"])
def test_memory(compiled, target, wrt):
    """Beside the gradients: the logits of one block and 0.6 MB a thread; all would take 20 MB."""
    samples, features, classes = 1000, 16, 5000
    x, weight, bias, targets = problem((samples,), features, classes, "float32")
    aim = targets["probabilities" if target == "probabilities" else "labels"]
    if target == "ignored":
        aim[::3] = -1
    options = {"bias": bias, "wrt": wrt, "ignore_index": -1 if target == "ignored" else None}
    tracemalloc.start()
    try:
        _, gradients = compiled.linear_cross_entropy_with_grad(x, weight, aim, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    wanted = sum(gradient.nbytes for gradient in gradients if gradient is not None)
    entry = 4 + 4 * (target == "probabilities")  # these are of float64
    block = block_size(compiled, classes, features, entry) * classes * entry
    assert peak < wanted + block + compiled.get_num_threads() * 576 * 1024 + 44 * 1024


@pytest.mark.parametrize(
    ("shape", "megabytes"),
    [
        ((4096, 512, 32000), 24),
        ((4096, 256, 256000), 47),
        ((1000, 16, 5000), 6),
        ((100000, 64, 10), 4),
        ((8, 1, 1), 4),
    ],
)
def test_default_block(compiled, shape, megabytes):
    samples, features, classes = shape
    rows = block_size(compiled, classes, features, 4)
    assert rows * classes * 4 <= megabytes * 2**20
    assert rows >= min(samples, 48)


@pytest.mark.parametrize(("features", "classes"), [(64, 700), (700, 64), (3, 20000), (64, 10)])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit(compiled, dtype, axis, features, classes):
    x, weight, bias, targets = problem((300,), features, classes, dtype, axis)
    made = []
    for threads in (1, 2, 5):
        with compiled.threads(threads):
            loss, gradients = compiled.linear_cross_entropy_with_grad(
                x, weight, targets["labels"], bias=bias, axis=axis
            )
        made.append([loss, *gradients])
    for others in made[1:]:
        for one, other in zip(made[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_threads_setting_survives(compiled):
    x, weight, _, targets = problem()
    before = compiled.get_num_threads()
    compiled.linear_cross_entropy(x, weight, targets["labels"])
    assert compiled.get_num_threads() == before
    with pytest.raises(IndexError):
        compiled.linear_cross_entropy(x, weight, targets["labels"] + 7)
    assert compiled.get_num_threads() == before


def test_twin_has_no_blocks(csm):
    x, weight, _, targets = problem((50,))
    one = csm.linear_cross_entropy(x, weight, targets["labels"], block_size=1)
    whole = csm.linear_cross_entropy(x, weight, targets["labels"], block_size=50)
    assert one == pytest.approx(whole, rel=1e-14)
    if is_twin(csm):
        assert one == whole
