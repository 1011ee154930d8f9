"""Every public function with random shapes, dtypes, axes, layouts, aliases, labels and options.

A valid call agrees with the twin in longdouble. With operands of any layout, and with an `out`
that may be an operand or overlap one, it gives the bits of a plain call and writes nowhere else.
A call with an argument spoilt raises what the twin raises, or returns what the twin returns, and
an error leaves all memory as it was. Each trial has a seed of its own, which its failure names.
"""

import inspect
import os

import numpy as np
import pytest
from draw import FLOATS, INTEGERS, Draw, memory_beside

import csoftmax.reference as twin

TRIALS = int(os.environ.get("CSOFTMAX_FUZZ_TRIALS", 300))  # of each function
FAMILY = ["softmax", "log_softmax", "logsumexp"]
PRODUCTS = ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"]
PAIRS = [*PRODUCTS, "cce", "cce_gradient"]
ENCODINGS = ["one_hot", "to_categorical"]
ENTROPIES = ["cross_entropy", "cross_entropy_with_grad"]
LINEAR = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
SCORES = ["log_softmax_gather", "softmax_entropy", "log_softmax_topk", "sample_categorical"]


def wide(x):
    """In longdouble; what is no float is rounded to float64 first."""
    return np.asarray(x, x.dtype if x.dtype.kind == "f" else float).astype(np.longdouble)


def close(got, want, scale=0.0):
    """To a few roundings of the result, or of the largest value that enters it."""
    assert got.shape == np.shape(want)
    with np.errstate(all="ignore"):
        limits, dtype = np.finfo(got.dtype), np.longdouble
        want = np.asarray(want).astype(got.dtype).astype(dtype)
        unit = limits.eps * np.maximum(np.abs(want), scale)
        # the twin in the same dtype has errors of its own, from x - max
        roundings = 8 if limits.eps > np.finfo(dtype).eps else 2000
        distance = np.abs(got.astype(dtype) - want)
        near = distance <= roundings * unit + 4 * dtype(limits.smallest_subnormal)
        good = near | (got == want) | (np.isnan(got) & np.isnan(want))
    assert np.all(good), (got[~good], want[~good])


def trials(check):
    def test(compiled, function):
        for seed in range(TRIALS):
            draw = Draw(seed)
            try:
                with compiled.threads(draw.one_of([1, 2, 3])):
                    check(draw, compiled, function)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    return test


def check_layouts(draw, call, options, want, *operands, has_out=True):
    """The bits of the result `want` for operands of any layout, and any `out`."""
    *laid, out = draw.output(want, *operands) if has_out else (*map(draw.lay_out, operands), None)
    kept = [a.copy() for a in laid]
    beside = memory_beside(out)
    got = call(*laid, **options, **({"out": out} if has_out else {}))
    np.testing.assert_array_equal(got, want)
    assert out is None or got is out
    assert memory_beside(out) == beside
    for a, b in zip(laid, kept, strict=True):
        assert np.may_share_memory(a, out) or a.tobytes() == b.tobytes()


def tempered(draw, x):
    """A temperature, and x divided by it in the dtype that is computed in."""
    temperature = draw.one_of([1.0, 1, 0.5, 2, 0.3, 7.5])
    x = np.asarray(x, x.dtype if x.dtype.kind == "f" else float)
    dtype = np.result_type(x.dtype, np.float32)
    with np.errstate(all="ignore"):
        return temperature, np.asarray(x.astype(dtype) / dtype.type(temperature))


@pytest.mark.parametrize("function", FAMILY)
@trials
def test_softmax_family(draw, compiled, function):
    call, shape = getattr(compiled, function), draw.shape()
    x, options = draw.numbers(shape), {"axis": draw.axis(shape)}
    quotient = x
    if function == "logsumexp":
        options["keepdims"] = draw.one_of([True, False])
    if draw.one_of([True, False, False]):
        sides = tuple(draw.one_of([1, n, n]) for n in shape)[draw.one_of([0, 0, 1]) :]
        options["where"] = np.asarray(draw.rng.random(sides) < 0.6)
    truth = dict(options)
    if function != "logsumexp":
        options["temperature"], quotient = tempered(draw, x)
    want = np.asarray(call(x, **options))
    # the maximum may cancel its logarithm
    close(want, getattr(twin, function)(wide(quotient), **truth), float(function == "logsumexp"))
    if "where" in options:
        options["where"] = draw.lay_out(options["where"])
    check_layouts(draw, call, options, want, x)


@pytest.mark.parametrize("function", SCORES)
@trials
def test_scores(draw, compiled, function):
    call, rng, shape = getattr(compiled, function), draw.rng, draw.shape(min_dims=1)
    x, axis = draw.numbers(shape), draw.one_of(range(-len(shape), len(shape)))
    classes, samples = shape[axis], tuple(np.delete(shape, axis))
    operands, options = [x], {"axis": axis}
    options["temperature"], quotient = tempered(draw, x)
    if classes == 0 and function != "softmax_entropy":
        return
    if function == "softmax_entropy":
        options["axis"] = draw.axis(shape)
        want = call(x, **options)
        close(np.asarray(want), twin.softmax_entropy(wide(quotient), options["axis"]))
    elif function == "log_softmax_gather":
        labels = np.asarray(rng.integers(0, min(classes, 128), samples), draw.one_of(INTEGERS))
        want = call(x, labels, **options)
        close(np.asarray(want), twin.log_softmax_gather(wide(quotient), labels, axis))
        operands.append(labels)
    elif function == "log_softmax_topk":
        options["k"] = draw.one_of([1, 2, classes // 2, classes, int(rng.integers(classes) + 1)])
        options["k"] = min(max(options["k"], 1), classes)
        values, want = call(x, **options)
        truth = twin.log_softmax_topk(quotient, options["k"], axis)[1]
        np.testing.assert_array_equal(want, truth)
        log_p = compiled.log_softmax(x, axis, temperature=options["temperature"])
        np.testing.assert_array_equal(values, np.take_along_axis(log_p, want, axis))
    else:
        options |= {"size": draw.one_of([None, 1, 7, (2, 3)]), "rng": int(rng.integers(9))}
        possible = quotient > -np.inf
        top = quotient.max(axis)
        if not np.all(np.isfinite(top)) or np.isnan(quotient).any():
            with pytest.raises(ValueError, match="has no distribution"):
                call(x, **options)
            return
        want = call(x, **options)
        each = np.asarray(want).reshape(-1, *samples) if want.size else []
        assert all(
            np.take_along_axis(possible, np.expand_dims(one, axis), axis).all() for one in each
        )
    laid = [draw.lay_out(a) for a in operands]
    kept = [a.tobytes() for a in laid]
    got = call(*laid, **options)
    got = got[1] if function == "log_softmax_topk" else got
    np.testing.assert_array_equal(got, want)
    assert [a.tobytes() for a in laid] == kept


@pytest.mark.parametrize("function", PAIRS)
@trials
def test_pairs(draw, compiled, function):
    call, shape = getattr(compiled, function), draw.shape()
    x = draw.numbers(shape, special=False)
    y = draw.numbers(shape, function == "cce_gradient", draw.one_of([None, x.dtype, x.dtype]))
    if function == "log_softmax_vjp":
        x = -np.abs(x) if x.dtype.kind == "f" else np.minimum(x, 0)
    elif function == "cce":
        y = np.abs(y)
    options = {} if function == "cce_gradient" else {"axis": draw.axis(shape)}
    with np.errstate(all="ignore"):
        a, b = np.abs(wide(x)), np.abs(wide(y))
        scale = {
            "log_softmax_vjp": lambda: b + np.exp(-a) * b.sum(**options, keepdims=True),
            "cce": lambda: (a * np.abs(np.log(np.where(a == 0, 1, b)))).sum(**options),
            "cce_gradient": lambda: 0,
        }.get(function, lambda: a * (b + (a * b).sum(**options, keepdims=True)))()
    want = np.asarray(call(x, y, **options))
    close(want, getattr(twin, function)(wide(x), wide(y), **options), scale)
    check_layouts(draw, call, options, want, x, y, has_out=function in PRODUCTS)


@pytest.mark.parametrize("function", ["softmax_jacobian"])
@trials
def test_jacobian(draw, compiled, function):
    shape = draw.shape(min_dims=1, limit=150)
    y = draw.numbers(shape, special=False)
    options = {"axis": draw.one_of(range(-len(shape), len(shape)))}
    want = compiled.softmax_jacobian(y, **options)
    p = np.moveaxis(np.abs(wide(y)), options["axis"], -1)
    with np.errstate(all="ignore"):
        scale = p[..., None] * p[..., None, :] + p[..., None]
    close(want, twin.softmax_jacobian(wide(y), **options), scale)
    check_layouts(draw, compiled.softmax_jacobian, options, want, y, has_out=False)


@pytest.mark.parametrize("function", ["cross_entropy_with_grad"])
@trials
def test_cross_entropy(draw, compiled, function):
    call, rng, shape = getattr(compiled, function), draw.rng, draw.shape(min_dims=1)
    x, axis = draw.numbers(shape), draw.one_of(range(-len(shape), len(shape)))
    classes, samples = shape[axis], tuple(np.delete(shape, axis))
    options = {"axis": axis, "reduction": draw.one_of(["mean", "sum", "none"])}
    target, scale = rng.random(shape) * (rng.random(shape) < 0.5), 4 * classes
    target = np.asarray(target, draw.one_of([x.dtype if x.dtype.kind == "f" else float, *FLOATS]))
    # the target is rounded to the dtype of the logits
    truth = wide(target.astype(x.dtype) if x.dtype.kind == "f" else target)
    if classes and draw.one_of([True, False]):
        target, scale = rng.integers(0, min(classes, 128), samples), 4
        truth = target = np.asarray(target, draw.one_of(INTEGERS))
        if draw.one_of([True, False]):
            options["ignore_index"] = draw.one_of([0, 1, 100, -100])
            if target.dtype.kind == "i":
                truth = target = np.where(
                    rng.random(samples) < 0.3, options["ignore_index"], target
                )
    for name, value in (
        ("label_smoothing", draw.one_of([0.1, 0.5, 1.0])),
        ("class_weight", rng.integers(0, 4, classes) / 2),
        ("sample_weight", rng.integers(0, 4, samples[draw.one_of([0, 1]) :]) / 2),
    ):
        if draw.one_of([True, False, False]):
            options[name] = value
    loss, gradient = call(x, target, **options)
    want = getattr(twin, function)(wide(x), truth, **options)
    close(loss, want[0])
    close(gradient, want[1], scale)
    np.testing.assert_array_equal(compiled.cross_entropy(x, target, **options), loss)

    def gradient_of(*operands, **options):
        got = call(*operands, **options)
        np.testing.assert_array_equal(got[0], loss)
        return got[1]

    for name in {"class_weight", "sample_weight"} & options.keys():
        options[name] = draw.lay_out(options[name])
    check_layouts(draw, gradient_of, options, gradient, x, target)


@pytest.mark.parametrize("function", ["Dense", "Softmax", "SoftmaxCrossEntropy"])
@trials
def test_layers(draw, compiled, function):
    rng, shape, axis = draw.rng, draw.shape(1, 2, limit=2000), draw.one_of([0, -1])
    x, g = draw.numbers(shape), draw.numbers(shape, dtype=draw.one_of(FLOATS))
    if function == "Softmax":
        layer = compiled.Softmax(axis=axis)
        y = compiled.softmax(x, axis)
        np.testing.assert_array_equal(layer.forward(draw.lay_out(x)), y)
        want = compiled.softmax_vjp(y, g, axis)
        np.testing.assert_array_equal(layer.backward(draw.lay_out(g), 0.1), want)
    elif function == "SoftmaxCrossEntropy" and shape[axis]:
        options = {"axis": axis, "reduction": draw.one_of(["mean", "sum", "none"])}
        labels = np.asarray(rng.integers(0, shape[axis], np.delete(shape, axis)))
        layer, want = compiled.SoftmaxCrossEntropy(**options), compiled.cross_entropy_with_grad
        loss, gradient = want(x, labels, **options)
        got = layer.forward(draw.lay_out(x), draw.lay_out(labels))
        np.testing.assert_array_equal(got, loss)
        factor = np.asarray(rng.integers(-2, 3, np.shape(loss)), loss.dtype)
        want = gradient * (np.expand_dims(factor, axis) if factor.ndim else factor)
        np.testing.assert_array_equal(layer.backward(factor, 0.1), want)
    elif function == "Dense" and shape[axis]:
        x, dtype = rng.normal(size=shape), draw.one_of(["float32", "float64", "longdouble"])
        bias = draw.one_of([True, False])
        layer = compiled.Dense(
            shape[axis], draw.one_of([1, 2, 7]), bias=bias, axis=axis, dtype=dtype
        )
        weights, y = layer.weights.copy(), layer.forward(draw.lay_out(x))
        g = rng.normal(size=y.shape)
        back = layer.backward(draw.lay_out(g), 0.5)
        x, y, g, back = (
            a if a.ndim == 2 and axis == 0 else np.atleast_2d(a).T for a in (x, y, g, back)
        )
        x1 = np.vstack([x, np.ones((int(bias), x.shape[1]))])
        for got, want in (
            (y, weights @ x1),
            (back, (weights.T @ g)[: len(x)]),
            (layer.weights, weights - 0.5 * (g @ x1.T)),
        ):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def flat(result):
    if isinstance(result, tuple):
        return tuple(part for item in result for part in flat(item))
    return () if result is None else (result,)


def outcome(module, function, args):
    """What a call returns, in outline and whole; or the type of its error, and nothing."""
    try:
        result = getattr(module, function)(**args)
    except Exception as error:
        return type(error), ()
    parts = flat(result)
    return [(type(part), part.dtype, part.shape) for part in parts], parts


def assert_like_twin(compiled, function, args):
    arrays = {name: a for name, a in args.items() if isinstance(a, np.ndarray)}
    before = {name: a.tobytes() for name, a in arrays.items()}
    got, values = outcome(compiled, function, args)
    for name, a in arrays.items():
        assert a.tobytes() == before[name] or (name == "out" and values), name
    want, truth = outcome(twin, function, args)
    assert got == want, args
    return values, truth


@pytest.mark.parametrize("function", LINEAR)
@trials
def test_linear_cross_entropy(draw, compiled, function):
    rng = draw.rng
    samples = tuple(
        rng.integers(0 if draw.one_of([0, 0, 1]) else 1, 9, rng.integers(0, 3)).tolist()
    )
    features, classes = draw.one_of([1, 3, 20]), draw.one_of([1, 2, 40])
    axis = draw.one_of(range(-len(samples) - 1, len(samples) + 1))
    at = axis % (len(samples) + 1)
    dtype = draw.one_of(["float32", "float64"])

    def normal(*shape):
        return draw.lay_out(rng.normal(size=shape).astype(dtype))

    args = {
        "x": normal(*samples[:at], features, *samples[at:]),
        "weight": normal(classes, features),
        "target": np.asarray(rng.integers(classes, size=samples)),
        "bias": draw.one_of([None, normal(classes)]),
        "axis": axis,
        "class_weight": draw.one_of([None, rng.random(classes)]),
        "sample_weight": draw.one_of([None, rng.random(samples)]),
        "ignore_index": draw.one_of([None, 0]),
        "label_smoothing": draw.one_of([0.0, 0.3]),
        "reduction": draw.one_of(["mean", "sum", "none"]),
        "block_size": draw.one_of([None, 1, 3]),
    }
    if draw.one_of([True, False]):
        shape = (*samples[:at], classes, *samples[at:])
        args.update(target=rng.random(shape).astype(dtype), ignore_index=None)
    if function == "linear_cross_entropy_with_grad":
        args["wrt"] = draw.one_of([("x", "weight", "bias"), "weight", ("bias", "x"), ()])
    rtol = 1e-3 if dtype == "float32" else 1e-10
    for got, want in zip(*assert_like_twin(compiled, function, args), strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("function", ENCODINGS)
@trials
def test_encoding(draw, compiled, function):
    shape, classes, excess = draw.shape(limit=300), draw.one_of([1, 2, 20]), draw.one_of([0, 0, 1])
    dtype = np.dtype(draw.one_of(INTEGERS if function == "one_hot" else [*INTEGERS, *FLOATS]))
    low = 0 if function == "one_hot" else -classes
    labels = draw.rng.integers(low - excess if dtype.kind != "u" else 0, classes + excess, shape)
    args = {"num_classes": draw.one_of([classes, classes, None])}
    if function == "one_hot":
        args["axis"] = draw.one_of(range(-len(shape) - 1, len(shape) + 1))
        args["dtype"] = draw.one_of([*FLOATS, *INTEGERS, "bool", ">f4", "complex64"])
    args[next(iter(inspect.signature(getattr(twin, function)).parameters))] = draw.lay_out(
        np.asarray(labels, dtype)
    )
    for got, want in zip(*assert_like_twin(compiled, function, args), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("function", twin.__all__)
@trials
def test_spoilt_argument(draw, compiled, function):
    rng = draw.rng
    shape = tuple(rng.integers(1, 5, rng.integers(1, 4)).tolist())
    axis = draw.one_of(range(-len(shape), len(shape)))
    samples = tuple(np.delete(shape, axis))
    targets = [np.asarray(rng.integers(0, shape[axis], samples)), rng.random(shape)]
    args = {
        "axis": axis,
        "bias": rng.random(shape[axis]),
        "block_size": 2,
        "class_weight": rng.random(shape[axis]),
        "dtype": draw.one_of(FLOATS),
        "ignore_index": draw.one_of([None, 1]),
        "k": 1,
        "keepdims": True,
        "label_smoothing": 0.5,
        "labels": targets[0],
        "num_classes": shape[axis],
        "out": None,
        "reduction": draw.one_of(["mean", "sum", "none"]),
        "rng": 3,
        "sample_weight": rng.random(samples),
        "size": draw.one_of([None, 2, (1, 3)]),
        "target": targets[0] if function in SCORES else draw.one_of(targets),
        "temperature": draw.one_of([1.0, 0.5]),
        "weight": rng.random((shape[axis], shape[axis])),
        "wrt": "weight",
        "where": rng.random(shape) < 0.5,
    }
    if args["target"].dtype.kind == "f":
        args["ignore_index"] = None
    if function in ENCODINGS:
        args["y"] = args["labels"]
    parameters = inspect.signature(getattr(twin, function)).parameters
    args = {
        name: args[name] if name in args else draw.numbers(shape)
        for name, parameter in parameters.items()
        if name in ("axis", "num_classes")
        or parameter.default is parameter.empty
        or draw.one_of([True, False])
    }
    if "out" in args and (result := outcome(twin, function, args)[1]):
        args["out"] = np.full_like(result[-1], 7)
    args[draw.one_of(list(parameters))] = draw.junk(shape)
    assert_like_twin(compiled, function, args)


def test_every_public_function_has_valid_calls():
    others = [*ENCODINGS, *ENTROPIES, *LINEAR, *SCORES, "softmax_jacobian"]
    assert {*FAMILY, *PAIRS, *others} == set(twin.__all__)
