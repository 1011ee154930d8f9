"""Random shapes, dtypes, axes, layouts, aliases, masks and options, against the twin.

The truth is the twin in the next wider dtype on contiguous arrays. A call with operands of any
layout, and with an `out` that may be an operand or overlap one, must give the bits of a plain call
and write nowhere else. Each trial has a seed of its own, which its failure names.
"""

import math

import numpy as np
import pytest
from checks import wider

import csoftmax.reference as twin

TRIALS = 300
SIDES = [0, 1, 1, 2, 2, 3, 5, 8, 9, 17, 24]


class Draw:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.dtype = self.one_of(["float32", "float64", "float32", "float64", "float16"])

    def one_of(self, choices):
        return choices[self.rng.integers(len(choices))]

    def shape(self, min_dims=0):
        shape = [self.one_of(SIDES) for _ in range(self.rng.integers(min_dims, 6))]
        if shape:
            length = self.one_of([*SIDES, *self.rng.integers(1, 210, 12), 511, 4095, 4096, 8193])
            shape[self.rng.integers(len(shape))] = int(length)
        while math.prod(shape) > 20000:
            shape[shape.index(min(n for n in shape if n > 1))] = 1
        return tuple(shape)

    def axis(self, shape):
        some = tuple(self.rng.permutation(len(shape))[: self.rng.integers(len(shape) + 1)].tolist())
        one = range(-len(shape), len(shape))
        return self.one_of(
            [self.one_of(one), self.one_of(one), some, None] if shape else [None, ()]
        )

    def numbers(self, shape, special=True):
        limits = np.finfo(self.dtype)
        spreads = [(1, 0), (1, 0), (10, 0), (80, 0), (5, -900), (5, 1100)]
        spread, offset = self.one_of(spreads)
        a = self.rng.normal(size=shape) * spread + offset
        if special and self.one_of([True, False]):
            odd = [-np.inf, -np.inf, 0.0, -0.0, float(limits.tiny) / 4, 1, float(limits.max) / 64]
            odd += self.one_of([[], [], [np.inf], [np.nan], [-float(limits.max) / 64]])
            where = self.rng.random(shape) < self.one_of([0.02, 0.3, 1])
            a = np.where(where, self.rng.choice(odd, shape), a)
        return np.asarray(a, self.dtype)

    def lay_out(self, a):
        """The same values in any order, stride, alignment and byte order, in a larger buffer."""
        order, steps, dtype, at = np.arange(a.ndim), [1] * a.ndim, a.dtype, 64
        if self.one_of([True, False]):
            order = self.rng.permutation(a.ndim)
            steps = [self.one_of([1, 1, 1, -1, 2, -3]) for _ in order]
            dtype = dtype.newbyteorder(self.one_of(["=", "=", "S"]))
            at = self.one_of([64, 65])
        sides = [n * abs(s) for n, s in zip(a.shape, steps, strict=True)]
        size = math.prod(sides) * dtype.itemsize
        whole = np.full(size + 129, 85, np.uint8)[at : at + size].view(dtype)
        view = whole.reshape([sides[i] for i in order]).transpose(np.argsort(order))
        view = view[(*(slice(None, None, s) for s in steps), ...)]
        view[...] = a
        return view

    def output(self, shape, *operands):
        """The first operand, and as `out` nothing, any array, an operand, or what overlaps it."""
        x, kind = operands[0], self.one_of(["none", "any", "operand", "shifted"])
        usable = [a for a in operands if a.dtype == self.dtype and a.shape == shape]
        if kind == "operand" and usable:
            return x, self.one_of(usable)
        if kind == "shifted" and x.shape == shape:
            buffer = np.zeros(x.size + 1, self.dtype)
            ends = [buffer[1:].reshape(shape), buffer[:-1].reshape(shape)]
            first, out = self.one_of([ends, ends[::-1]])
            first[...] = x
            return first, out
        return x, None if kind == "none" else self.lay_out(np.full(shape, 7, self.dtype))


def memory_beside(a):
    """The bytes around and between the entries of an array."""
    if a is None:
        return b""
    whole, entries = a, a.copy()
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    a[...] = 0
    beside = whole.tobytes()
    a[...] = entries
    return beside


def close(got, want, scale=0.0):
    """To a few roundings of the result, or of the largest value that enters it."""
    assert got.shape == np.shape(want)
    with np.errstate(all="ignore"):
        limits, dtype = np.finfo(got.dtype), np.longdouble
        want = np.asarray(want).astype(got.dtype).astype(dtype)
        unit = limits.eps * np.maximum(np.abs(want), scale)
        near = np.abs(got.astype(dtype) - want) <= 8 * unit + 4 * limits.smallest_subnormal
        good = near | (got == want) | (np.isnan(got) & np.isnan(want))
    assert np.all(good), (got[~good], want[~good])


def trials(check):
    def test(compiled, function):
        for seed in range(TRIALS):
            try:
                check(Draw(seed), compiled, function)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    return test


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
@trials
def test_softmax_family(draw, compiled, function):
    call, shape = getattr(compiled, function), draw.shape()
    x, options = draw.numbers(shape), {"axis": draw.axis(shape)}
    if function == "logsumexp":
        options["keepdims"] = draw.one_of([True, False])
    if draw.one_of([True, False, False]):
        options["where"] = np.asarray(draw.rng.random(shape) < 0.6)
    want = call(x, **options)
    # the maximum may cancel its logarithm
    close(want, getattr(twin, function)(wider(x), **options), float(function == "logsumexp"))
    if "where" in options:
        options["where"] = draw.lay_out(options["where"])
    laid, out = draw.output(want.shape, draw.lay_out(x))
    beside = memory_beside(out)
    np.testing.assert_array_equal(call(laid, **options, out=out), want)
    assert memory_beside(out) == beside
    assert out is not None or np.array_equal(laid, x, equal_nan=True)


@pytest.mark.parametrize("function", ["softmax_vjp", "log_softmax_vjp", "cce", "cce_gradient"])
@trials
def test_pairs(draw, compiled, function):
    call, shape = getattr(compiled, function), draw.shape()
    x = draw.numbers(shape, special=False)
    y = draw.numbers(shape, special=function == "cce_gradient")
    x, y = {"log_softmax_vjp": (-np.abs(x), y), "cce": (x, np.abs(y))}.get(function, (x, y))
    options = {} if function == "cce_gradient" else {"axis": draw.axis(shape)}
    with np.errstate(all="ignore"):
        a, b = np.abs(wider(x)), np.abs(wider(y))
        scale = {
            "softmax_vjp": lambda: a * (b + (a * b).sum(**options, keepdims=True)),
            "log_softmax_vjp": lambda: b + np.exp(-a) * b.sum(**options, keepdims=True),
            "cce": lambda: (a * np.abs(np.log(np.where(a == 0, 1, b)))).sum(**options),
            "cce_gradient": lambda: 0,
        }[function]()
    want = call(x, y, **options)
    close(want, getattr(twin, function)(wider(x), wider(y), **options), scale)
    laid, laid_y = draw.lay_out(x), draw.lay_out(y)
    if "vjp" in function:
        laid, options["out"] = draw.output(shape, laid, laid_y)
    beside = memory_beside(options.get("out"))
    np.testing.assert_array_equal(call(laid, laid_y, **options), want)
    assert memory_beside(options.get("out")) == beside


@pytest.mark.parametrize("function", ["cross_entropy_with_grad"])
@trials
def test_cross_entropy(draw, compiled, function):
    call, rng, shape = getattr(compiled, function), draw.rng, draw.shape(min_dims=1)
    x, axis = draw.numbers(shape), int(rng.integers(-len(shape), len(shape)))
    classes, samples = shape[axis], tuple(np.delete(shape, axis))
    options = {"axis": axis, "reduction": draw.one_of(["mean", "sum", "none"])}
    target, scale = rng.random(shape) * (rng.random(shape) < 0.5), 4 * classes
    target = np.asarray(target, draw.dtype)
    if classes and draw.one_of([True, False]):
        target, scale = rng.integers(0, min(classes, 128), samples), 4
        target = np.asarray(target, draw.one_of(["int8", "uint8", "int32", "int64", "uint64"]))
        if draw.one_of([True, False]):
            options["ignore_index"] = draw.one_of([0, 1, 100, -100])
            if target.dtype.kind == "i":
                target = np.where(rng.random(samples) < 0.3, options["ignore_index"], target)
    for name, value in (
        ("label_smoothing", draw.one_of([0.1, 0.5, 1.0])),
        ("class_weight", rng.integers(0, 4, classes) / 2),
        ("sample_weight", rng.integers(0, 4, samples[draw.one_of([0, 1]) :]) / 2),
    ):
        if draw.one_of([True, False, False]):
            options[name] = value
    wide = wider(target) if target.dtype.kind == "f" else target
    want, truth = call(x, target, **options), getattr(twin, function)(wider(x), wide, **options)
    close(want[0], truth[0])
    close(want[1], truth[1], scale)
    np.testing.assert_array_equal(compiled.cross_entropy(x, target, **options), want[0])
    laid_target = draw.lay_out(target)
    laid, out = draw.output(shape, draw.lay_out(x), laid_target)
    beside = memory_beside(out)
    loss, gradient = call(laid, laid_target, **options, out=out)
    assert memory_beside(out) == beside
    np.testing.assert_array_equal(loss, want[0])
    np.testing.assert_array_equal(gradient, want[1])
