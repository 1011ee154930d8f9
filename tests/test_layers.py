"""Layers: values, gradients against finite differences and explicit Jacobians, learning, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from csoftmax.layers import Dense, Layer, Softmax, SoftmaxCrossEntropy

FEATURES = 4
# (shape of the input, axis of the layer): a vector, a column, a batch of columns, a batch of rows
SHAPES = [
    pytest.param((FEATURES,), 0, id="vector"),
    pytest.param((FEATURES, 1), 0, id="column"),
    pytest.param((FEATURES, 3), 0, id="columns"),
    pytest.param((3, FEATURES), -1, id="rows"),
    pytest.param((FEATURES,), -1, id="vector-rows"),
]
every_shape = pytest.mark.parametrize(("shape", "axis"), SHAPES)


def differences(function: Callable[[Any], Any], x: Any, step: float = 1e-6) -> Any:
    """Gradient of a scalar function of a float64 array by central finite differences."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        around = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            around.append(float(function(moved)))
        gradient[index] = (around[0] - around[1]) / (2 * step)
    return gradient


def samples(array: Any, axis: int) -> Any:
    """The samples of a vector or a batch, as rows."""
    return np.atleast_2d(array) if array.ndim == 1 or axis == -1 else array.T


def softmax_jacobian(z: Any) -> Any:
    a = np.exp(z) / np.exp(z).sum()
    return np.diag(a) - np.outer(a, a)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


# ---------------------------------------------------------------- Layer


def test_layer_interface() -> None:
    layer = Layer()
    assert layer.input is None
    assert layer.output is None
    with pytest.raises(NotImplementedError, match="Layer does not define forward"):
        layer.forward([1.0])
    with pytest.raises(NotImplementedError, match="Layer does not define backward"):
        layer.backward([1.0], 0.1)
    assert all(issubclass(kind, Layer) for kind in (Dense, Softmax, SoftmaxCrossEntropy))


# ---------------------------------------------------------------- Dense


@pytest.mark.parametrize("bias", [True, False])
@every_shape
def test_dense_values(shape: Any, axis: int, bias: bool, rng: np.random.Generator) -> None:
    layer = Dense(FEATURES, 5, bias=bias, rng=rng, axis=axis)
    layer.weights = rng.normal(size=(5, FEATURES + bias))
    x = rng.normal(size=shape)
    z = layer.forward(x)
    ones = [1.0] * bias
    want = [layer.weights @ np.append(sample, ones) for sample in samples(x, axis)]
    np.testing.assert_allclose(samples(z, axis), want, rtol=1e-13)
    assert layer.input is x
    assert layer.output is z


@pytest.mark.parametrize("bias", [True, False])
@every_shape
def test_dense_gradients(shape: Any, axis: int, bias: bool, rng: np.random.Generator) -> None:
    layer = Dense(FEATURES, 5, bias=bias, rng=rng, axis=axis)
    before = layer.weights = rng.normal(size=(5, FEATURES + bias))
    x = rng.normal(size=shape)
    gradient = rng.normal(size=layer.forward(x).shape)
    got = layer.backward(gradient, 0.25)

    def loss(x: Any, weights: Any) -> Any:
        other = Dense(FEATURES, 5, bias=bias, axis=axis)
        other.weights = weights
        return (other.forward(x) * gradient).sum()

    want = differences(lambda moved: loss(moved, before), x)
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)
    jacobian = before[:, :FEATURES]
    np.testing.assert_allclose(samples(got, axis), samples(gradient, axis) @ jacobian, rtol=1e-12)
    want = differences(lambda moved: loss(x, moved), before)
    np.testing.assert_allclose(layer.weights_gradient, want, rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(layer.weights, before - 0.25 * layer.weights_gradient)


def test_dense_first_weights() -> None:
    layer = Dense(3, 5, rng=7)
    assert layer.weights.shape == (5, 4)
    assert layer.weights_gradient is None
    np.testing.assert_array_equal(layer.weights[:, -1], 0)
    limit = np.sqrt(6 / 8)
    assert 0.5 * limit < np.abs(layer.weights).max() <= limit
    np.testing.assert_array_equal(layer.weights, Dense(3, 5, rng=7).weights)
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(layer.weights, Dense(3, 5, rng=generator).weights)
    assert not np.array_equal(layer.weights, Dense(3, 5, rng=generator).weights)
    assert not np.array_equal(Dense(3, 5).weights, Dense(3, 5).weights)


def test_dense_weights_are_copied(rng: np.random.Generator) -> None:
    layer = Dense(2, 2, bias=False, rng=rng)
    mine = np.ones((2, 2))
    layer.weights = mine
    layer.forward([1.0, 2.0])
    layer.backward([1.0, 1.0], 0.5)
    np.testing.assert_array_equal(mine, 1)
    np.testing.assert_array_equal(layer.weights, [[0.5, 0.0], [0.5, 0.0]])


def test_dense_without_samples() -> None:
    layer = Dense(3, 2, rng=0)
    before = layer.weights.copy()
    assert layer.forward(np.empty((3, 0))).shape == (2, 0)
    assert layer.backward(np.empty((2, 0)), 1.0).shape == (3, 0)
    np.testing.assert_array_equal(layer.weights, before)


# ---------------------------------------------------------------- Softmax


@every_shape
def test_softmax_gradient(shape: Any, axis: int, rng: np.random.Generator) -> None:
    layer = Softmax(axis=axis)
    x, gradient = rng.normal(size=shape), rng.normal(size=shape)
    output = layer.forward(x)
    np.testing.assert_allclose(samples(output, axis).sum(axis=1), 1, rtol=1e-14)
    got = layer.backward(gradient, 0.1)
    assert layer.input is x
    assert layer.output is output

    want = differences(lambda moved: (Softmax(axis=axis).forward(moved) * gradient).sum(), x)
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)
    pairs = zip(samples(x, axis), samples(gradient, axis), strict=True)
    want = [softmax_jacobian(z) @ g for z, g in pairs]
    np.testing.assert_allclose(samples(got, axis), want, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------- SoftmaxCrossEntropy


def targets(shape: Any, axis: int, kind: str, rng: np.random.Generator) -> Any:
    if kind == "labels":
        return rng.integers(0, FEATURES, np.delete(shape, axis))
    weights = rng.random(shape)
    return weights / weights.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@every_shape
def test_cross_entropy_gradient(
    shape: Any, axis: int, kind: str, reduction: str, rng: np.random.Generator
) -> None:
    x, target = rng.normal(size=shape), targets(shape, axis, kind, rng)
    options: dict[str, Any] = {
        "class_weight": rng.random(FEATURES) + 0.5,
        "label_smoothing": 0.1,
        "reduction": reduction,
    }
    sample_weight = rng.random(np.delete(shape, axis)) + 0.5
    layer = SoftmaxCrossEntropy(axis=axis, **options)
    loss = layer.forward(x, target, sample_weight)
    assert layer.input is x
    assert layer.output is loss
    assert np.shape(loss) == (np.shape(sample_weight) if reduction == "none" else ())
    output_gradient = rng.normal(size=np.shape(loss))

    def scalar(moved: Any) -> Any:
        other = SoftmaxCrossEntropy(axis=axis, **options)
        return (other.forward(moved, target, sample_weight) * output_gradient).sum()

    got = layer.backward(output_gradient)
    np.testing.assert_allclose(got, differences(scalar, x), rtol=1e-6, atol=1e-8)


@every_shape
def test_cross_entropy_gradient_is_jacobian_product(
    shape: Any, axis: int, rng: np.random.Generator
) -> None:
    x, labels = rng.normal(size=shape), targets(shape, axis, "labels", rng)
    layer = SoftmaxCrossEntropy(axis=axis, reduction="sum")
    layer.forward(x, labels)
    want = []
    for z, label in zip(samples(x, axis), np.atleast_1d(labels), strict=True):
        a = np.exp(z) / np.exp(z).sum()
        gradient = np.zeros(FEATURES)
        gradient[label] = -1 / a[label]
        want.append(softmax_jacobian(z) @ gradient)
    np.testing.assert_allclose(samples(layer.backward(), axis), want, rtol=1e-12)
    np.testing.assert_allclose(samples(layer.backward(2), axis), 2 * np.array(want), rtol=1e-12)


def test_cross_entropy_ignored_sample() -> None:
    layer = SoftmaxCrossEntropy(axis=-1, ignore_index=-1, reduction="none")
    loss = layer.forward([[0.0, 0.0], [np.nan, 1.0]], [0, -1])
    np.testing.assert_allclose(loss, [np.log(2), 0])
    np.testing.assert_allclose(layer.backward(), [[-0.5, 0.5], [0, 0]])


# ---------------------------------------------------------------- dtypes, a network, errors


@every_shape
def test_float32_stays_float32(shape: Any, axis: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=shape).astype(np.float32)
    layers = [
        Dense(FEATURES, FEATURES, rng=rng, axis=axis, dtype=np.float32),
        Softmax(axis=axis),
        SoftmaxCrossEntropy(axis=axis),
    ]
    dense, softmax, loss = layers
    assert dense.forward(x).dtype == np.float32
    assert dense.backward(np.ones(shape, np.float32), 0.1).dtype == np.float32
    assert dense.weights.dtype == dense.weights_gradient.dtype == np.float32
    assert softmax.forward(x).dtype == np.float32
    assert softmax.backward(np.ones(shape, np.float32), 0.1).dtype == np.float32
    assert loss.forward(x, targets(shape, axis, "labels", rng)).dtype == np.float32
    assert loss.backward(1.0).dtype == np.float32


def test_integers_are_computed_in_the_dtype_of_the_weights() -> None:
    for dtype in (np.float32, np.float64):
        dense = Dense(2, 2, rng=0, dtype=dtype)
        assert dense.forward([1, 2]).dtype == dtype
        assert dense.backward([1, -1], 0.1).dtype == dtype


class Tanh(Layer):
    def forward(self, input: Any) -> Any:
        self.input, self.output = input, np.tanh(input)
        return self.output

    def backward(self, output_gradient: Any, learning_rate: float) -> Any:
        return (1 - self.output**2) * output_gradient


@pytest.mark.parametrize("axis", [0, -1])
def test_two_layer_network_learns_xor(axis: int) -> None:
    x = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    x = x if axis == 0 else x.T
    labels = np.array([0, 1, 1, 0])
    network = [Dense(2, 8, rng=1, axis=axis), Tanh(), Dense(8, 2, rng=2, axis=axis)]
    loss = SoftmaxCrossEntropy(axis=axis)
    losses = []
    for _ in range(500):
        z = x
        for layer in network:
            z = layer.forward(z)
        losses.append(loss.forward(z, labels))
        gradient = loss.backward()
        for layer in reversed(network):
            gradient = layer.backward(gradient, 0.5)
    assert losses[0] > 0.5
    assert losses[-1] < 0.02
    np.testing.assert_array_equal(z.argmax(axis=axis), labels)


def forwarded(layer: Layer, *inputs: Any) -> Layer:
    layer.forward(*inputs)
    return layer


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Dense(2.5, 3), TypeError, "in_features is 2.5"),
    (lambda: Dense(True, 3), TypeError, "in_features is True"),
    (lambda: Dense(0, 3), ValueError, "in_features is 0"),
    (lambda: Dense(2, -1), ValueError, "out_features is -1"),
    (lambda: Dense(2, 3, bias="no"), TypeError, "bias is 'no'"),
    (lambda: Dense(2, 3, axis=1), ValueError, "axis is 1"),
    (lambda: Dense(2, 3, axis=None), TypeError, "axis is None"),
    (lambda: Dense(2, 3, rng="x"), TypeError, "rng is 'x'"),
    (lambda: Dense(2, 3, rng=-4), ValueError, "rng is -4"),
    (lambda: Dense(2, 3, dtype=int), TypeError, "dtype is int64"),
    (lambda: setattr(Dense(2, 3), "weights", np.ones((3, 2))), ValueError, r"\(3, 2\).*\(3, 3\)"),
    (lambda: setattr(Dense(1, 1), "weights", [["a", "b"]]), TypeError, "weights has dtype <U1"),
    (lambda: Dense(2, 3).forward(np.ones(5)), ValueError, "5 features.*expects 2"),
    (lambda: Dense(2, 3, axis=-1).forward(np.ones((2, 5))), ValueError, "5 features.*expects 2"),
    (lambda: Dense(2, 3).forward(np.ones((2, 5, 1))), ValueError, r"input has shape \(2, 5, 1\)"),
    (lambda: Dense(2, 3).forward(1.0), ValueError, r"input has shape \(\)"),
    (lambda: Dense(1, 3).forward([1j]), TypeError, "input has dtype complex128"),
    (lambda: Dense(2, 3).backward(np.ones(3), 0.1), RuntimeError, "before forward"),
    (
        lambda: forwarded(Dense(2, 3), np.ones(2)).backward(np.ones(2), 0.1),
        ValueError,
        r"output_gradient has shape \(2,\): expected \(3,\)",
    ),
    (
        lambda: forwarded(Dense(2, 3), np.ones(2)).backward(np.ones(3), "fast"),
        TypeError,
        "learning_rate is 'fast'",
    ),
    *(
        (
            lambda rate=rate: forwarded(Dense(2, 3), np.ones(2)).backward(np.ones(3), rate),
            ValueError,
            f"learning_rate is {rate}",
        )
        for rate in (-0.1, float("nan"), float("inf"))
    ),
    (lambda: Softmax(axis=2), ValueError, "axis is 2"),
    (lambda: Softmax().forward(["a"]), TypeError, "<U1"),
    (lambda: Softmax().backward(np.ones(3), 0.1), RuntimeError, "before forward"),
    (
        lambda: forwarded(Softmax(), np.ones(3)).backward(np.ones((3, 1)), 0.1),
        ValueError,
        r"output_gradient has shape \(3, 1\): expected \(3,\)",
    ),
    (lambda: SoftmaxCrossEntropy(axis=-2), ValueError, "axis is -2"),
    (lambda: SoftmaxCrossEntropy(reduction="average"), ValueError, "reduction.*'average'"),
    (lambda: SoftmaxCrossEntropy(label_smoothing=1.5), ValueError, "label_smoothing.*1.5"),
    (lambda: SoftmaxCrossEntropy(ignore_index=0.5), TypeError, "ignore_index.*0.5"),
    (lambda: SoftmaxCrossEntropy(class_weight=["a"]), TypeError, "class_weight"),
    (lambda: SoftmaxCrossEntropy().backward(), RuntimeError, "before forward"),
    (lambda: SoftmaxCrossEntropy().forward(np.ones(3), 3), IndexError, "target.*3"),
    (
        lambda: forwarded(SoftmaxCrossEntropy(), np.ones((3, 2)), [0, 1]).backward([1.0, 2.0]),
        ValueError,
        r"output_gradient has shape \(2,\): expected \(\)",
    ),
    (
        lambda: forwarded(SoftmaxCrossEntropy(), np.ones(3), 0).backward("x"),
        TypeError,
        "output_gradient has dtype",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_failed_calls_leave_a_layer_as_it_was() -> None:
    dense, loss = Dense(2, 2, rng=0), SoftmaxCrossEntropy()
    loss.forward(dense.forward(np.ones((2, 3))), [0, 1, 0])
    before = dense.weights.copy(), dense.input, dense.output, loss.input, loss.output
    gradient = loss.backward()
    with pytest.raises(ValueError, match="features"):
        dense.forward(np.ones((3, 3)))
    with pytest.raises(TypeError, match="learning_rate"):
        dense.backward(gradient, None)
    with pytest.raises(IndexError, match="target"):
        loss.forward(np.ones((2, 3)), [0, 1, 2])
    np.testing.assert_array_equal(dense.weights, before[0])
    assert dense.weights_gradient is None
    now = dense.input, dense.output, loss.input, loss.output
    assert all(a is b for a, b in zip(now, before[1:], strict=True))
    np.testing.assert_array_equal(loss.backward(), gradient)
