"""Layers of a hand-written network: Layer, Dense, Softmax and SoftmaxCrossEntropy.

Every layer has ``forward(input)`` and ``backward(output_gradient, learning_rate)``. Samples are
columns by default (``axis=0`` holds features or classes); ``axis=-1`` makes rows the samples.
"""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax import arguments, functional, losses

__all__ = ["Dense", "Layer", "Softmax", "SoftmaxCrossEntropy"]


class Layer:
    """What every layer has in common: its last input and output, a forward and a backward step.

    Derive from it to write a layer of your own.

    Attributes
    ----------
    input : ndarray or None
        What the last `forward` was given (not a copy); None before the first.
    output : ndarray or None
        What the last `forward` returned; None before the first.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import Layer
    >>> class Tanh(Layer):
    ...     def forward(self, input):
    ...         self.input, self.output = input, np.tanh(input)
    ...         return self.output
    ...     def backward(self, output_gradient, learning_rate):
    ...         return (1 - self.output**2) * output_gradient
    >>> layer = Tanh()
    >>> layer.forward(np.array([0.0, 1.0])).round(3)
    array([0.   , 0.762])
    >>> layer.backward(np.ones(2), learning_rate=0.1).round(3)
    array([1.  , 0.42])
    """

    input: NDArray[Any] | None = None
    output: Any = None

    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Return the output for `input`, and keep both for `backward`."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, output_gradient: ArrayLike, learning_rate: float) -> NDArray[Any]:
        """Take one gradient step and return the gradient with respect to the last input."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward")


class Dense(Layer):
    """Affine layer, ``z = W [x; 1]``: the bias is the last column of the weights.

    Parameters
    ----------
    in_features, out_features : int
        Entries of one input sample and of one output sample.
    bias : bool, default True
        Whether the weights have a bias column.
    rng : None, int or numpy.random.Generator, optional
        Where the first weights come from: fresh entropy, a seed, or a generator.
    axis : {0, -1}, default 0
        0: samples are columns; -1: samples are rows.
    dtype : dtype, default float64
        Floating dtype of the weights.

    Attributes
    ----------
    weights : ndarray, shape (out_features, in_features + 1), or (out_features, in_features)
        Assigning to it checks the shape and copies the values.
    weights_gradient : ndarray or None
        Gradient with respect to `weights` of the last `backward`, same shape.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or value.

    Notes
    -----
    The first weights are Glorot uniform, in ±sqrt(6 / (in_features + out_features)), the bias 0.
    With the output gradient G and samples as columns, ``dW = G [X; 1]ᵀ`` and ``dX = Wᵀ G``
    (without the bias column). Gradients are summed over the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import Dense
    >>> layer = Dense(2, 3)
    >>> layer.weights = [[1, 0, 10], [0, 1, 20], [1, 1, 30]]
    >>> layer.forward([[1.0, 2.0], [3.0, 4.0]])
    array([[11., 12.],
           [23., 24.],
           [34., 36.]])
    >>> layer.backward(np.ones((3, 2)), learning_rate=0.5)
    array([[2., 2.],
           [2., 2.]])
    >>> layer.weights_gradient
    array([[3., 7., 2.],
           [3., 7., 2.],
           [3., 7., 2.]])
    """

    weights_gradient: NDArray[Any] | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        rng: int | np.random.Generator | None = None,
        axis: int = 0,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.in_features = _positive_int("in_features", in_features)
        self.out_features = _positive_int("out_features", out_features)
        if not isinstance(bias, (bool, np.bool_)):
            raise TypeError(f"bias is {bias!r}: expected True or False")
        self.bias = bool(bias)
        self.axis = _sample_axis(axis)
        self._dtype = np.dtype(dtype)
        if arguments.kind(self._dtype) != "f":
            raise TypeError(f"dtype is {self._dtype}: expected a real floating dtype")
        shape = self.out_features, self.in_features + self.bias
        limit = math.sqrt(6 / (self.in_features + self.out_features))
        weights = _generator(rng).uniform(-limit, limit, shape)
        if self.bias:
            weights[:, -1] = 0
        self._weights = weights.astype(self._dtype, copy=False)

    @property
    def weights(self) -> NDArray[Any]:
        return self._weights

    @weights.setter
    def weights(self, value: ArrayLike) -> None:
        value = _real("weights", value, self._dtype)
        _check_shape("weights", value, self._weights.shape)
        self._weights = value.astype(self._dtype)

    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Return ``W [x; 1]`` for every sample x.

        Parameters
        ----------
        input : array_like, shape (in_features,), (in_features, N), or (N, in_features) if axis=-1
            Real samples; integers and bools are computed in the dtype of the weights.

        Returns
        -------
        ndarray
            Same shape with `out_features` in place of `in_features`.

        Raises
        ------
        TypeError
            If `input` is not real.
        ValueError
            If it has the wrong number of dimensions or features.
        """
        x = _real("input", input, self._dtype)
        if x.ndim not in (1, 2):
            raise ValueError(f"input has shape {x.shape}: expected 1 or 2 dimensions")
        if x.shape[self.axis] != self.in_features:
            raise ValueError(
                f"input has {x.shape[self.axis]} features along axis {self.axis}: "
                f"this layer expects {self.in_features}"
            )
        matrix = self._weights[:, : self.in_features]
        z: NDArray[Any] = matrix @ x if self.axis == 0 else x @ matrix.T
        if self.bias:
            column = self._weights[:, -1]
            z += column[:, None] if self.axis == 0 and x.ndim == 2 else column
        self.input, self.output = x, z
        return z

    def backward(self, output_gradient: ArrayLike, learning_rate: float) -> NDArray[Any]:
        """Subtract ``learning_rate * dW`` from the weights and return the gradient of the input.

        Parameters
        ----------
        output_gradient : array_like, shape of the last output
            Gradient of the loss with respect to the last output.
        learning_rate : float
            Size of the step; 0 leaves the weights as they are.

        Returns
        -------
        ndarray, shape of the last input
            Computed with the weights before the step.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        TypeError, ValueError
            If an argument has the wrong type, shape or value.
        """
        if self.input is None:
            raise RuntimeError("Dense.backward was called before forward")
        gradient = _output_gradient(output_gradient, self.output)
        rate = _learning_rate(learning_rate)
        columns = self._columns(gradient)
        step = np.empty_like(self._weights)
        step[:, : self.in_features] = columns @ self._columns(self.input).T
        if self.bias:
            step[:, -1] = columns.sum(axis=1)
        matrix = self._weights[:, : self.in_features]
        result: NDArray[Any] = matrix.T @ gradient if self.axis == 0 else gradient @ matrix
        self._weights -= rate * step
        self.weights_gradient = step
        return result

    def _columns(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return a two-dimensional view whose columns are the samples."""
        if samples.ndim == 1:
            return samples[:, None]
        return samples if self.axis == 0 else samples.T


class Softmax(Layer):
    """Softmax of every sample: ``a_k = exp(z_k) / Σ_j exp(z_j)``.

    Parameters
    ----------
    axis : {0, -1}, default 0
        0: samples are columns; -1: samples are rows.

    Raises
    ------
    TypeError, ValueError
        If `axis` is not 0 or -1.

    Notes
    -----
    `backward` multiplies by the Jacobian ``J = diag(a) - a aᵀ`` of every sample, without forming
    it: ``J g = a * (g - Σ_j a_j g_j)``. It is right for a vector, a column and a batch alike.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import Softmax
    >>> layer = Softmax()
    >>> layer.forward(np.log([[1.0], [2.0], [1.0]]))
    array([[0.25],
           [0.5 ],
           [0.25]])
    >>> layer.backward([[0.0], [-2.0], [0.0]], learning_rate=0.1)
    array([[ 0.25],
           [-0.5 ],
           [ 0.25]])
    """

    def __init__(self, *, axis: int = 0) -> None:
        self.axis = _sample_axis(axis)

    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Return the softmax of every sample, of the shape of `input`.

        Parameters
        ----------
        input : array_like, shape (C,), (C, N), or (N, C) if axis=-1
            Real scores, one for each of the C classes.
        """
        x = arguments.array(input, "input")
        output: NDArray[Any] = functional.softmax(x, axis=self.axis)
        self.input, self.output = x, output
        return output

    def backward(self, output_gradient: ArrayLike, learning_rate: float) -> NDArray[Any]:
        """Return the gradient with respect to the last input, of its shape.

        Parameters
        ----------
        output_gradient : array_like, shape of the last output
        learning_rate : float
            Unused: there are no weights.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        TypeError, ValueError
            If `output_gradient` is not real or has another shape.
        """
        if self.output is None:
            raise RuntimeError("Softmax.backward was called before forward")
        gradient = _output_gradient(output_gradient, self.output)
        result: NDArray[Any] = functional.softmax_vjp(self.output, gradient, axis=self.axis)
        return result


class SoftmaxCrossEntropy(Layer):
    """Softmax and cross-entropy in one: logits and targets in, loss and fused gradient out.

    Parameters
    ----------
    axis : {0, -1}, default 0
        0: samples are columns; -1: samples are rows.
    class_weight, ignore_index, label_smoothing, reduction
        As in `csoftmax.cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        If an option is one that `csoftmax.cross_entropy` refuses.

    Notes
    -----
    For one sample with label y, loss and gradient are ``-log(a_y)`` and ``a - one_hot(y)``, where
    a is the softmax of the logits. No division by a probability occurs, so neither overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import SoftmaxCrossEntropy
    >>> layer = SoftmaxCrossEntropy()
    >>> logits = np.log([[1.0, 3.0], [2.0, 3.0], [1.0, 2.0]])  # two samples, three classes
    >>> round(float(layer.forward(logits, [1, 2])), 6)
    1.039721
    >>> layer.backward().round(4)
    array([[ 0.125 ,  0.1875],
           [-0.25  ,  0.1875],
           [ 0.125 , -0.375 ]])
    """

    def __init__(
        self,
        *,
        axis: int = 0,
        class_weight: ArrayLike | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        self.axis = _sample_axis(axis)
        self._options: dict[str, Any] = {
            "class_weight": class_weight,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
            "reduction": reduction,
        }
        # Trying the options on no samples refuses bad ones here rather than in the first forward.
        num_classes = 1 if class_weight is None else np.size(class_weight)
        losses.cross_entropy(np.empty((0, num_classes)), np.empty(0, int), **self._options)
        self._gradient: NDArray[Any] | None = None

    def forward(  # type: ignore[override]  # a loss needs the target as well
        self, input: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Return the loss; its gradient is computed in the same pass and kept for `backward`.

        Parameters
        ----------
        input : array_like, shape (C,), (C, N), or (N, C) if axis=-1
            Logits.
        target : array_like
            Integer labels, a scalar or of shape (N,), or probabilities of the shape of `input`.
        sample_weight : array_like, optional
            Weight of each sample, broadcast to the shape of the labels.

        Returns
        -------
        scalar, or ndarray of shape (N,) for reduction "none"

        Raises
        ------
        TypeError, ValueError, IndexError
            As `csoftmax.cross_entropy`.
        """
        x = arguments.array(input, "input")
        self.output, self._gradient = losses.cross_entropy_with_grad(
            x, target, axis=self.axis, sample_weight=sample_weight, **self._options
        )
        self.input = x
        return self.output

    def backward(
        self, output_gradient: ArrayLike = 1.0, learning_rate: float = 0.0
    ) -> NDArray[Any]:
        """Return the gradient of the loss with respect to the logits, times `output_gradient`.

        Parameters
        ----------
        output_gradient : float, or array_like of shape (N,) for reduction "none", default 1
            Gradient with respect to the loss.
        learning_rate : float
            Unused: there are no weights.

        Returns
        -------
        ndarray, shape of the last logits

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        TypeError, ValueError
            If `output_gradient` is not real, or neither a scalar nor of the shape of the loss.
        """
        if self._gradient is None:
            raise RuntimeError("SoftmaxCrossEntropy.backward was called before forward")
        factor = _real("output_gradient", output_gradient, self._gradient.dtype)
        if factor.ndim > 0:
            _check_shape("output_gradient", factor, np.shape(self.output))
            factor = np.expand_dims(factor, self.axis)
        result: NDArray[Any] = self._gradient * factor.astype(self._gradient.dtype, copy=False)
        return result


def _positive_int(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}: expected an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}: expected at least 1")
    return operator.index(value)


def _sample_axis(axis: Any) -> int:
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, numbers.Integral):
        raise TypeError(f"axis is {axis!r}: expected 0 or -1")
    if axis not in (0, -1):
        raise ValueError(f"axis is {axis}: expected 0 (samples are columns) or -1 (rows)")
    return operator.index(axis)


def _generator(rng: Any) -> np.random.Generator:
    if rng is not None and not isinstance(rng, (numbers.Integral, np.random.Generator)):
        raise TypeError(f"rng is {rng!r}: expected None, an integer seed or a Generator")
    if isinstance(rng, numbers.Integral) and rng < 0:
        raise ValueError(f"rng is {rng}: expected a seed of at least 0")
    return np.random.default_rng(rng)  # type: ignore[arg-type]


def _learning_rate(value: Any) -> float:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"learning_rate is {value!r}: expected a real number")
    rate = float(value)
    if not 0 <= rate < math.inf:
        raise ValueError(f"learning_rate is {value}: expected a finite number of at least 0")
    return rate


def _real(name: str, value: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `value` as a real array; integers and bools are converted to `dtype`."""
    array = arguments.array(value, name)
    if arguments.kind(array.dtype) not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}: expected real numbers")
    return array if arguments.kind(array.dtype) == "f" else array.astype(dtype)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: expected {shape}")


def _output_gradient(value: ArrayLike, output: NDArray[Any]) -> NDArray[Any]:
    gradient = _real("output_gradient", value, output.dtype)
    _check_shape("output_gradient", gradient, output.shape)
    return gradient
