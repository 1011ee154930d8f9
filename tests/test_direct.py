"""Calls past the gufuncs: the same bits as theirs, and None for what is not as expected."""

import inspect
import pickle

import numpy as np
import pytest

import csoftmax

DTYPES = ["float16", "float32", "float64", "longdouble"]
LAYOUTS = {
    "rows": ((50, 12), -1, lambda a: a),
    "columns": ((12, 50), 0, lambda a: a),
    "middle axis": ((5, 12, 40), 1, lambda a: a),
    "middle axis of few columns": ((40, 12, 3), 1, lambda a: a),
    "long rows": ((3, 9000), -1, lambda a: a),
    "fortran": ((50, 12), -1, np.asfortranarray),
    "reversed": ((50, 12), -1, lambda a: a[::-1, ::-1]),
    "every second": ((50, 24), -1, lambda a: a[:, ::2]),
    "swapped": ((5, 40, 12), 0, lambda a: a.swapaxes(0, 2)),
    "vector": ((12,), 0, lambda a: a),
    "one class": ((50, 1), -1, lambda a: a),
}


def values(shape, dtype, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "softmax_vjp", "cce"])
def test_same_bits_as_the_gufunc(compiled, name, layout, dtype):
    kernels = compiled.dispatch.kernels
    shape, axis, arrange = LAYOUTS[layout]
    x, y = (arrange(values(shape, dtype, seed)) for seed in (0, 1))
    pair = name in ("softmax_vjp", "cce")
    operands = (np.abs(x), np.abs(y)) if pair else (x,)
    with np.errstate(all="ignore"):
        want = getattr(kernels, name)(*operands, axes=[axis] * len(operands) + (
            [()] if name in ("logsumexp", "cce") else [axis]
        ))  # fmt: skip
    out = np.empty_like(want)
    second = operands[1] if pair else None
    got = kernels.direct(kernels.numbers[name], operands[0], second, axis, out)
    assert got is out
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "axis", [(0, 2), (2, 0), (0, 3), (3, 1), (0, 1, 3), (1, 3, 0), (0, 1, 2, 3)]
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_axes_that_do_not_join(compiled, axis, order, dtype):
    """The bits of a row do not depend on how its classes lie in memory."""
    x = np.asarray(values((3, 7, 5, 12), dtype), order=order)
    axis = (0, 1, 2, 3) if axis is None else axis
    rows = np.moveaxis(x, axis, range(4 - len(axis), 4))
    joined = np.ascontiguousarray(rows).reshape(*rows.shape[: 4 - len(axis)], -1)
    want = compiled.softmax(joined).reshape(rows.shape)
    got = np.moveaxis(compiled.softmax(x, axis), axis, range(4 - len(axis), 4))
    np.testing.assert_array_equal(got, want)
    total = compiled.logsumexp(x, axis)
    np.testing.assert_array_equal(total, compiled.logsumexp(joined, -1))
    kept = compiled.logsumexp(x, axis, keepdims=True)
    np.testing.assert_array_equal(kept.reshape(np.shape(total)), total)


def test_none_for_what_is_not_expected(compiled):
    kernels = compiled.dispatch.kernels
    x = values((4, 5), "float64")
    number = kernels.numbers["softmax"]

    class Sub(np.ndarray):
        pass

    odd_out = np.empty_like(x)
    odd_out.flags.writeable = False
    for arguments in (
        (x.tolist(), None, -1, None),
        (x.view(Sub), None, -1, None),
        (x.astype(">f8"), None, -1, None),
        (x.astype(int), None, -1, None),
        (x.astype(complex), None, -1, None),
        (x, None, 2, None),
        (x, None, -3, None),
        (x, None, 2**70, None),
        (x, None, True, None),
        (x, None, None, None),
        (x, None, (0, 0), None),
        (x, None, (), None),
        (x, None, -1, odd_out),
        (x, None, -1, np.empty((5, 4))),
        (x, None, -1, np.empty((4, 5), np.float32)),
        (x, None, -1, np.broadcast_to(np.empty(5), (4, 5))),
        (x[:-1], None, -1, x[1:]),
        (x, x.astype(np.float32), -1, None),
        (x, x[:, :4], -1, None),
        (x[:0], None, -1, None),
        (x[:, :0], None, -1, None),
        (np.array(1.0), None, 0, None),
    ):
        assert kernels.direct(number, *arguments) is None


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_labels_of_every_integer_dtype(compiled, reduction, dtype):
    logits = values((60, 7), "float64")
    labels = np.random.default_rng(1).integers(7, size=60)
    options = {"reduction": reduction, "ignore_index": 3}
    want_loss, want = compiled.cross_entropy_with_grad(logits, labels, **options)
    for target in (labels.astype(dtype), np.repeat(labels, 2).astype(dtype)[::2]):
        loss, gradient = compiled.cross_entropy_with_grad(logits, target, **options)
        np.testing.assert_array_equal(loss, want_loss)
        np.testing.assert_array_equal(gradient, want)
    bad = labels.astype(dtype)
    bad[17] = 7
    with pytest.raises(IndexError, match=r"target\[17\] is 7"):
        compiled.cross_entropy_with_grad(logits, bad)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_in_blocks(compiled, dtype, labels):
    """More rows than the buffer of losses has; sums and means are those of the losses."""
    rows, classes = 70_000, 3
    logits = values((rows, classes), dtype)
    rng = np.random.default_rng(2)
    target = rng.integers(classes, size=rows) if labels else np.abs(values(logits.shape, dtype, 3))
    weights = {
        "class_weight": rng.uniform(0.5, 2, classes),
        "sample_weight": rng.uniform(0.5, 2, rows).astype(np.float32),
    }
    each = compiled.cross_entropy(logits, target, reduction="none", **weights)
    assert each.dtype == dtype
    total = compiled.cross_entropy(logits, target, reduction="sum", **weights)
    exact = each.astype(np.longdouble).sum()
    assert abs(total - exact) <= np.finfo(dtype).eps * abs(exact)
    scale = weights["sample_weight"].astype(np.longdouble)
    if labels:
        scale = scale * weights["class_weight"].astype(dtype)[target]
    mean = compiled.cross_entropy(logits, target, **weights)
    assert abs(mean - exact / scale.sum()) <= 2 * np.finfo(dtype).eps * abs(mean)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_single_class_has_all_probability(csm, dtype):
    assert np.all(csm.softmax(values((2000, 1), dtype)) == 1)
    assert np.all(csm.softmax(values((1, 2000), dtype), axis=0) == 1)


COMPILED_FUNCTIONS = [
    "softmax", "log_softmax", "logsumexp", "softmax_vjp", "log_softmax_vjp", "softmax_entropy",
    "log_softmax_gather", "cross_entropy", "cross_entropy_with_grad",
]  # fmt: skip


@pytest.mark.parametrize("name", COMPILED_FUNCTIONS)
def test_compiled_function_has_the_signature_of_the_one_behind_it(compiled, name):
    function = getattr(compiled, name)
    behind = function.__wrapped__
    assert function.__defaults__ == behind.__defaults__
    assert function.__kwdefaults__ == behind.__kwdefaults__
    code = function.__code__
    parameters = inspect.signature(behind).parameters.values()
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    assert list(names) == [parameter.name for parameter in parameters]
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert code.co_kwonlyargcount == len(keyword_only)
    assert function.__doc__ == behind.__doc__
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'axes'"):
        function([1.0], [1.0], axes=0)


@pytest.mark.parametrize("name", COMPILED_FUNCTIONS)
def test_compiled_function_can_be_pickled(name):
    function = getattr(csoftmax, name)
    assert pickle.loads(pickle.dumps(function)) is function
