"""Results do not depend on how the input lies in memory: for compiled code, to the bit."""

import numpy as np
import pytest
from checks import assert_same_bits

DTYPES = ["float16", "float32", "float64", "longdouble", "int32", "bool"]
SHAPE = (4, 6, 35)


def unaligned(a):
    """The same values one byte off their natural alignment."""
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = buffer[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def in_larger(a, steps):
    """The same values as every |step|-th of a larger array, backwards where a step is negative."""
    backing = np.zeros([n * abs(s) for n, s in zip(a.shape, steps, strict=True)], a.dtype)
    view = backing[tuple(slice(None, None, s) for s in steps)]
    view[...] = a
    return view


def field_of_record(a):
    records = np.zeros(a.shape, [("flag", "i1"), ("value", a.dtype)])
    records["value"] = a
    return records["value"]


def odd_gaps(a):
    """Neighbours on the last axis side by side, and an odd number of bytes behind each row."""
    row = a.shape[-1] * a.itemsize + 1
    buffer = np.zeros(row * (a.size // a.shape[-1]) + a.itemsize, np.uint8)
    strides = [row * int(np.prod(a.shape[k:-1])) for k in range(1, a.ndim)]
    view = np.ndarray(a.shape, a.dtype, buffer, strides=(*strides, a.itemsize))
    view[...] = a
    return view


LAYOUTS = {
    "fortran": np.asfortranarray,
    "middle axis last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1),
    "reversed": lambda a: in_larger(a, (-1, -1, -1)),
    "reversed rows": lambda a: in_larger(a, (1, 1, -1)),
    "every second": lambda a: in_larger(a, (1, 1, 2)),
    "every third backwards": lambda a: in_larger(a, (2, -3, -3)),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "swapped and spaced": lambda a: in_larger(a.astype(a.dtype.newbyteorder()), (1, 2, 2)),
    "unaligned": unaligned,
    "field of a record": field_of_record,
    "odd gaps": odd_gaps,
}


def values(dtype, seed=0):
    a = np.random.default_rng(seed).normal(size=SHAPE) * 2
    return a.astype(dtype)


def read_only(a):
    a = a.view()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_alignment_and_byte_order(csm, dtype, layout):
    x, grad = values(dtype), values(dtype, seed=1)
    laid_x, laid_grad = read_only(LAYOUTS[layout](x)), read_only(LAYOUTS[layout](grad))
    np.testing.assert_array_equal(laid_x, x)
    for axis in (-1, 0, 1, (0, 2), None):
        for function in ("softmax", "log_softmax", "logsumexp", "softmax_entropy"):
            call = getattr(csm, function)
            assert_same_bits(csm, call(laid_x, axis), call(x, axis))
        for function in ("softmax_vjp", "softmax_jvp", "log_softmax_vjp"):
            call = getattr(csm, function)
            want = call(x, grad, axis)
            assert np.all(np.isfinite(want))
            for a, b in ((laid_x, grad), (x, laid_grad), (laid_x, laid_grad)):
                assert_same_bits(csm, call(a, b, axis), want)
    assert_same_bits(csm, csm.softmax_jacobian(laid_x, 1), csm.softmax_jacobian(x, 1))
    positive, laid_positive = np.abs(x) + 1, LAYOUTS[layout](np.abs(x) + 1)
    assert_same_bits(csm, csm.cce(laid_positive, laid_positive), csm.cce(positive, positive))
    assert_same_bits(csm, csm.cce_gradient(laid_x, laid_positive), csm.cce_gradient(x, positive))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("where", [(0,), (1,), (2,), (0, 1, 2)])
def test_zero_strides(csm, dtype, where):
    x = values(dtype)[tuple(slice(1) if i in where else slice(None) for i in range(3))]
    repeated = np.broadcast_to(x, SHAPE)
    assert any(s == 0 for s in repeated.strides)
    for axis in (-1, 0, None):
        for function in ("softmax", "log_softmax", "logsumexp"):
            call = getattr(csm, function)
            assert_same_bits(csm, call(repeated, axis), call(repeated.copy(), axis))
        assert_same_bits(
            csm,
            csm.softmax_vjp(csm.softmax(repeated, axis), repeated, axis),
            csm.softmax_vjp(csm.softmax(repeated, axis), repeated.copy(), axis),
        )


OPERANDS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "rows with gaps": odd_gaps,
    "columns with gaps": lambda a: odd_gaps(a.T).T,
    "every third": lambda a: in_larger(a, (1, 3)),
}


@pytest.mark.parametrize("classes", [2, 3, 10, 12, 100])
@pytest.mark.parametrize("samples", [7, 150])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("laid_out", OPERANDS)
def test_operands_of_different_layouts(csm, laid_out, dtype, samples, classes):
    """Each operand and the result in a layout of its own, also with gaps of odd bytes."""
    rng = np.random.default_rng(classes)
    x, y = rng.random((2, samples, classes)).astype(dtype)
    labels, weight = rng.integers(0, classes, samples), rng.random(classes)
    out = OPERANDS[laid_out](np.zeros_like(x))
    losses = (
        (labels, {}),
        (labels, {"class_weight": weight}),
        (y, {}),
        (y, {"class_weight": weight}),
    )
    wanted = [csm.cross_entropy_with_grad(x, t, **more) for t, more in losses]
    functions = {f: getattr(csm, f)(x) for f in ("softmax", "log_softmax")}
    products = {f: getattr(csm, f)(x, y) for f in ("softmax_vjp", "log_softmax_vjp")}
    logsumexp = csm.logsumexp(x)
    for laid_x in (lay(x) for lay in OPERANDS.values()):
        for function, want in functions.items():
            assert_same_bits(csm, getattr(csm, function)(laid_x, out=out), want)
        assert_same_bits(csm, csm.logsumexp(laid_x), logsumexp)
        for laid_y in (lay(y) for lay in OPERANDS.values()):
            for function, want in products.items():
                assert_same_bits(csm, getattr(csm, function)(laid_x, laid_y, out=out), want)
            for (t, more), (loss, gradient) in zip(losses, wanted, strict=True):
                t = laid_y if t is y else t
                got = csm.cross_entropy_with_grad(laid_x, t, out=out, **more)
                assert_same_bits(csm, got[0], loss)
                assert_same_bits(csm, got[1], gradient)


@pytest.mark.parametrize(
    ("classes", "samples"),
    [(12, 150), (31, 4100), (33, 69), (33, 5003), (130, 333), (1000, 131), (4100, 70)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
def test_columns_of_many_rows(compiled, threads, dtype, classes, samples):
    """Groups of up to 4096 rows, and less than a register of them left over; in place, too."""
    rng = np.random.default_rng(classes)
    rows, target = rng.normal(size=(2, samples, classes)).astype(dtype) * 3
    rows[::7, ::3] = -np.inf
    rows[5] = 0
    rows[1::5] = compiled.log_softmax(rows[1::5])  # logsumexp near 0
    x, y = np.asfortranarray(rows), np.asfortranarray(compiled.softmax(target))
    labels, weight = rng.integers(1, classes, samples), rng.random(classes)
    labels[::7] = 1
    with compiled.threads(threads):
        for function in ("softmax", "log_softmax", "logsumexp"):
            assert_same_bits(
                compiled, getattr(compiled, function)(x), getattr(compiled, function)(rows)
            )
        for function in ("softmax", "log_softmax"):
            in_place = x.copy(order="F")
            getattr(compiled, function)(in_place, out=in_place)
            assert_same_bits(compiled, in_place, getattr(compiled, function)(rows))
        for given, more in (
            (labels, {}),
            (labels, {"class_weight": weight, "label_smoothing": 0.1}),
            (y, {}),
            (y, {"class_weight": weight}),
        ):
            among_rows = given if given is labels else np.ascontiguousarray(y)
            want = compiled.cross_entropy_with_grad(rows, among_rows, reduction="none", **more)
            in_place = x.copy(order="F")
            for out in (np.empty_like(x), in_place):
                logits = in_place if out is in_place else x
                got = compiled.cross_entropy_with_grad(
                    logits, given, out=out, reduction="none", **more
                )
                assert_same_bits(compiled, got[0], want[0])
                assert_same_bits(compiled, got[1], want[1])
            assert_same_bits(
                compiled, compiled.cross_entropy(x, given, reduction="none", **more), want[0]
            )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mask_of_any_layout(csm, layout):
    x = values("float32")
    mask = np.random.default_rng(2).random(SHAPE) > 0.4
    want = csm.softmax(x, where=mask)
    assert_same_bits(csm, csm.softmax(x, where=LAYOUTS[layout](mask)), want)
    assert_same_bits(csm, csm.softmax(LAYOUTS[layout](x), where=mask), want)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (2, 0), None])
@pytest.mark.parametrize(
    "shape",
    [
        (),
        (1,),
        (35,),
        (1, 1),
        (6, 1),
        (1, 35),
        (6, 35),
        (4, 1, 1),
        (1, 6, 1),
        (4, 1, 35),
        (4, 6, 1),
    ],
)
def test_small_mask_is_as_good_as_a_full_one(csm, shape, axis, dtype):
    """Broadcast as NumPy does it; a NaN where it is False does not count. In place, too."""
    mask = np.asarray(np.random.default_rng(len(shape)).random(shape) < 0.6)
    full = np.broadcast_to(mask, SHAPE)
    x = np.where(full, values(dtype), np.array(np.nan, dtype))
    for where in (mask, mask.tolist()):
        for function in ("softmax", "log_softmax"):
            call = getattr(csm, function)
            want = call(x, axis, where=full.copy())
            assert np.all(want[~full] == (0 if function == "softmax" else -np.inf))
            np.testing.assert_array_equal(call(x, axis, where=where), want)
            a = x.copy()
            assert call(a, axis, where=where, out=a) is a
            np.testing.assert_array_equal(a, want)
        want = csm.logsumexp(x, axis, where=full.copy())
        np.testing.assert_array_equal(csm.logsumexp(x, axis, where=where), want)


@pytest.mark.parametrize(
    ("shape", "mask"),
    [((), (1,)), ((1,), (5,)), ((5,), (1, 5)), ((1, 5), (4, 5)), ((4, 1), (4, 5)), ((0,), (5,))],
)
def test_mask_does_not_enlarge(csm, shape, mask):
    for function in ("softmax", "log_softmax", "logsumexp"):
        with pytest.raises(ValueError, match=r"where has shape \(.*expected one that broadcasts"):
            getattr(csm, function)(np.zeros(shape), None, where=np.ones(mask, bool))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [*range(1, 71), 128, 511, 512, 513, 1024, 5000, 8193])
def test_rows_and_columns_have_the_same_bits(csm, dtype, length):
    x = np.random.default_rng(length).normal(size=(5, length)).astype(dtype)
    grad = np.random.default_rng(length).normal(size=(5, length)).astype(dtype)
    columns, column_grad = np.ascontiguousarray(x.T), np.ascontiguousarray(grad.T)
    p = csm.softmax(x)
    assert_same_bits(csm, csm.softmax(columns, 0).T, p)
    assert_same_bits(csm, csm.log_softmax(columns, 0).T, csm.log_softmax(x))
    assert_same_bits(csm, csm.logsumexp(columns, 0), csm.logsumexp(x))
    labels = np.arange(5) % length
    for options in ({}, {"label_smoothing": 0.1}):
        loss, gradient = csm.cross_entropy_with_grad(columns, labels, axis=0, **options)
        want = csm.cross_entropy_with_grad(x, labels, **options)
        assert_same_bits(csm, loss, want[0])
        assert_same_bits(csm, gradient.T, want[1])
    product = csm.softmax_vjp(np.ascontiguousarray(p.T), column_grad, 0).T
    assert_same_bits(csm, product, csm.softmax_vjp(p, grad))


# shape, the axis along which out is shifted, class axes
SHIFTS = [
    *(((n,), 0, axis) for n in (1, 2, 9, 33, 201, 4097, 70_000) for axis in (-1, None)),
    *(
        (shape, shifted, axis)
        for shape in ((5, 7), (40, 33), (3, 4097), (4097, 3), (2, 35_000), (35_000, 2))
        for shifted in (0, 1)
        for axis in (-1, 0, None)
    ),
    *(((3, 4, 5), shifted, axis) for shifted in (0, 1, 2) for axis in (1, (0, 2), (1, 2))),
]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("shape", "shifted", "axis"), SHIFTS)
def test_out_one_entry_off_an_operand_is_as_good_as_a_copy(csm, shape, shifted, axis, dtype):
    """Either way, and for each operand; nothing else of the buffer changes."""
    larger = [n + (i == shifted) for i, n in enumerate(shape)]
    ends = [(slice(None),) * shifted + (part,) for part in (slice(-1), slice(1, None))]
    rng = np.random.default_rng(0)
    x, y = -rng.random((2, *shape)).astype(dtype)
    calls = [
        *((f, (x,), {"axis": axis}) for f in ("softmax", "log_softmax")),
        ("softmax", (x,), {"axis": axis, "where": rng.random(shape) < 0.7}),
        *((f, (x, y), {"axis": axis}) for f in ("softmax_vjp", "log_softmax_vjp")),
    ]
    if isinstance(axis, int):
        labels = np.zeros(np.delete(shape, axis), int)
        calls += [("cross_entropy_with_grad", (x, t), {"axis": axis}) for t in (labels, -y)]
    for function, operands, options in calls:
        call = getattr(csm, function)
        want = call(*operands, **options)
        for position, operand in enumerate(operands):
            if operand.shape != shape:
                continue
            for source, target in (ends, ends[::-1]):
                buffer = np.full(larger, 7, dtype)
                buffer[source] = operand
                after = buffer.copy()
                after[target] = want[1] if isinstance(want, tuple) else want
                args = [*operands]
                args[position] = buffer[source]
                got = call(*args, **options, out=buffer[target])
                assert_same_bits(csm, buffer, after)
                if isinstance(want, tuple):
                    assert_same_bits(csm, got[0], want[0])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (1, 2), None])
def test_logsumexp_into_its_own_input(csm, axis, dtype):
    x = np.random.default_rng(0).normal(size=(5, 40, 33)).astype(dtype)
    for keepdims in (False, True):
        want = csm.logsumexp(x, axis, keepdims=keepdims)
        first = tuple(slice(n) for n in np.shape(want)) if keepdims else ()
        a = x.copy()
        out = a[first] if keepdims else a.ravel()[: np.size(want)].reshape(np.shape(want))
        assert csm.logsumexp(a, axis, keepdims=keepdims, out=out) is out
        assert_same_bits(csm, out, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [97, 256, 300, 1000, 4500])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_vjp", "cross_entropy"])
def test_same_bits_from_any_entry_of_a_line(compiled, name, classes, dtype):
    """Rows are written, and their largest entries sought, from the first line on."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 3, classes), dtype)
    x[0, 0], x[1, -1] = 9, np.inf  # the largest are at the ends, which lie in two lines

    def into(x, out):
        with np.errstate(all="ignore"):
            if name == "cross_entropy":
                compiled.cross_entropy_with_grad(x, [0, 1, 2], out=out)
            else:
                getattr(compiled, name)(x, *[grad] * (name == "softmax_vjp"), out=out)

    want = np.empty_like(x)
    into(x, want)
    line = 64 // x.itemsize
    memory, operand = np.empty((2, x.size + 2 * line), dtype)
    for shift in range(line):
        place = slice(shift, shift + x.size)
        memory[:] = 7
        out = memory[place].reshape(x.shape)
        into(x, out)
        np.testing.assert_array_equal(out, want)
        assert np.all(np.delete(memory, np.s_[place]) == 7)
        out[:] = x
        into(out, out)
        np.testing.assert_array_equal(out, want)
        other = operand[shift // 2 : shift // 2 + x.size].reshape(x.shape)
        other[:] = x
        into(other, out)
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [20, 33, 100, 1001, 4096, 750_003])
def test_rows_beyond_the_cache_have_the_same_bits(compiled, classes, dtype):
    """They go there row by row, or from memory aside; those of a few rows do not."""
    size = np.dtype(dtype).itemsize
    shape = (2, -(-8_100_000 // (classes * size)), classes)  # over 16 MB
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, *shape), dtype)
    x[0, 0], x[1, -1, -1], x[1, 1, 0] = -np.inf, np.inf, np.nan
    labels = rng.integers(0, classes, shape[:-1])
    labels[:, ::7] = -100
    options = {"ignore_index": -100, "reduction": "none"}
    weighted = {**options, "class_weight": np.abs(grad[0, 0]), "label_smoothing": 0.1}
    calls = {
        "softmax": lambda part, out: compiled.softmax(x[part], out=out),
        "log_softmax": lambda part, out: compiled.log_softmax(x[part], out=out),
        "softmax_vjp": lambda part, out: compiled.softmax_vjp(x[part], grad[part], out=out),
        "log_softmax_vjp": lambda part, out: compiled.log_softmax_vjp(x[part], grad[part], out=out),
        "labels": lambda part, out: compiled.cross_entropy_with_grad(
            x[part], labels[part], out=out, **options
        ),
        "weights": lambda part, out: compiled.cross_entropy_with_grad(
            x[part], labels[part], out=out, **weighted
        ),
    }
    step = max(1, 200_000 // classes)
    memory = np.empty(16 + 2 * (shape[1] + 1) * classes, dtype)
    want = np.empty_like(x)
    with np.errstate(all="ignore"):
        for name, call in calls.items():
            for i in range(2):
                for first in range(0, shape[1], step):
                    part = (i, slice(first, first + step))
                    call(part, want[part])
            for gap, shift in ((1, 0), (1, 3), (0, 5)):  # rows between, entries before
                memory[:] = 7
                end = shift + 2 * (shape[1] + gap) * classes
                padded = memory[shift:end].reshape(2, shape[1] + gap, classes)
                call(..., padded[:, gap:])
                np.testing.assert_array_equal(padded[:, gap:], want, err_msg=name)
                assert np.all(padded[:, :gap] == 7), name
                assert np.all(memory[:shift] == 7), name
                assert np.all(memory[end:] == 7), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(600, 7040), (3, 21, 70_400), (5000, 832)])
def test_columns_beyond_the_cache_have_the_same_bits(compiled, shape, dtype):
    shape = (*shape[:-1], shape[-1] * 4 // np.dtype(dtype).itemsize)  # over 16 MB
    axis, rng = len(shape) - 2, np.random.default_rng(0)
    x, grad = rng.standard_normal((2, *shape), dtype)
    target = np.abs(grad)
    labels = rng.integers(0, shape[axis], (*shape[:axis], shape[-1]))
    options = {"axis": axis, "reduction": "none"}
    calls = {
        "softmax": lambda part, **to: compiled.softmax(x[part], axis, **to),
        "log_softmax": lambda part, **to: compiled.log_softmax(x[part], axis, **to),
        "softmax_vjp": lambda part, **to: compiled.softmax_vjp(x[part], grad[part], axis, **to),
        "labels": lambda part, **to: compiled.cross_entropy_with_grad(
            x[part], labels[(*part[:axis], part[-1])], **options, **to
        )[1],
        "probabilities": lambda part, **to: compiled.cross_entropy_with_grad(
            x[part], target[part], label_smoothing=0.1, **options, **to
        )[1],
    }
    everything = tuple(slice(None) for _ in shape)
    want = np.empty_like(x)
    for name, call in calls.items():
        for first in range(0, shape[-1], 1001):  # too small to go past the caches
            part = (*everything[:-1], slice(first, first + 1001))
            want[part] = call(part)
        for shift in (0, 1, 7):
            memory = np.full(x.size + 16, 7, dtype)
            out = memory[shift : shift + x.size].reshape(shape)
            call(everything, out=out)
            np.testing.assert_array_equal(out, want, err_msg=name)
            assert np.all(np.delete(memory, np.s_[shift : shift + x.size]) == 7), name


@pytest.mark.parametrize("classes", [*range(1, 34), 48, 64, 65, 97, 129])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_short_rows(compiled, dtype, classes):
    """Rows, columns and results in place of an operand have the same bits, however many rows."""
    rng = np.random.default_rng(classes)
    for samples in (1, 3, 16, 50):
        y, grad = rng.standard_normal((2, samples, classes)).astype(dtype)
        grad[0, 0], grad[-1, -1], y[samples // 2] = np.inf, np.nan, 0
        with np.errstate(invalid="ignore"):
            rows = compiled.softmax_vjp(y, grad)
            columns = compiled.softmax_vjp(y.T.copy(), grad.T.copy(), axis=0).T
            assert_same_bits(compiled, columns, rows)
            for place in (0, 1):
                operands = [y.copy(), grad.copy()]
                compiled.softmax_vjp(*operands, out=operands[place])
                assert_same_bits(compiled, operands[place], rows)
            # Rows apart from each other, in reverse order, and one for all.
            apart = [np.concatenate([a, a + 1], 1)[:, :classes] for a in (y, grad)]
            assert_same_bits(compiled, compiled.softmax_vjp(*apart), rows)
            assert_same_bits(compiled, compiled.softmax_vjp(y[::-1], grad[::-1])[::-1], rows)
            one = compiled.softmax_vjp(np.broadcast_to(y[:1], y.shape), grad)
            assert_same_bits(compiled, one, compiled.softmax_vjp(y[:1].repeat(samples, 0), grad))
            expected = y * (grad - (y * grad).sum(-1, keepdims=True))
        finite = np.isfinite(grad).all(-1)
        np.testing.assert_allclose(
            rows[finite], expected[finite], rtol=1e-4, atol=1e-5 if dtype == "float32" else 1e-12
        )


@pytest.mark.parametrize("where", ["unaligned rows", "unaligned entries"])
def test_products_of_short_rows_anywhere(compiled, where):
    rng = np.random.default_rng(0)
    y, grad = rng.standard_normal((2, 50, 7))
    if where == "unaligned rows":
        records = np.zeros((2, 50), [("flag", "i1"), ("value", "f8", (7,))])
        records["value"] = y, grad
        operands = records["value"][0], records["value"][1]
    else:
        operands = unaligned(y), unaligned(grad)
    assert_same_bits(compiled, compiled.softmax_vjp(*operands), compiled.softmax_vjp(y, grad))
    columns = compiled.softmax_vjp(y.T.copy(), grad.T.copy(), axis=0).T
    assert_same_bits(compiled, columns, compiled.softmax_vjp(y, grad))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1, 4])
@pytest.mark.parametrize("classes", [11, 31, 32, 131, 4097, 8200])
def test_products_of_columns(compiled, classes, shift, dtype):
    """Columns have the bits of rows, wherever they begin, and in place of an operand."""
    rng = np.random.default_rng(classes)

    def moved(a):
        memory = np.full(a.size + 128, 7, dtype)
        first = -memory.ctypes.data % 64 // memory.itemsize + shift
        array = memory[first : first + a.size].reshape(a.shape)
        array[...] = a
        return array, (memory[:first], memory[first + a.size :])

    for samples in (9, 17, 35, 64, 141, 1030, 9001):
        if classes * samples > 600_000:
            break
        y, grad = rng.standard_normal((2, samples, classes)).astype(dtype)
        y[samples // 2, 3], grad[0, 0], grad[-1, -1] = 0, np.inf, np.nan
        with np.errstate(invalid="ignore"):
            rows = compiled.softmax_vjp(y, grad).T
            (y, _), (grad, _), (out, beside) = (moved(a) for a in (y.T, grad.T, rows))
            for n in (1, 2):
                with compiled.threads(n):
                    out[...] = 7
                    compiled.softmax_vjp(y, grad, 0, out=out)
                    assert_same_bits(compiled, out, rows)
                    for place in (0, 1):
                        operands = [moved(y)[0], moved(grad)[0]]
                        compiled.softmax_vjp(*operands, 0, out=operands[place])
                        assert_same_bits(compiled, operands[place], rows)
        assert all(np.all(part == 7) for part in beside)
