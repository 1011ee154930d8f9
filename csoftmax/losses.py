"""Cross-entropy losses and their gradients.

`cross_entropy` takes logits and does everything in one pass; `cce` and `cce_gradient` take
probabilities, as a hand-written network with a softmax layer has them. NumPy arrays that need no
conversion are dealt with by what `kernels.compiled` puts before them; anything else comes here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from csoftmax import arguments
from csoftmax.arguments import Array, Axis
from csoftmax.axes import along, reduced
from csoftmax.dispatch import kernels

__all__ = ["cce", "cce_gradient", "cross_entropy", "cross_entropy_with_grad"]


def cce(y: ArrayLike, yhat: ArrayLike, axis: Axis = None) -> Any:
    r"""Categorical cross-entropy of probabilities.

    Parameters
    ----------
    y : array_like
        Target probabilities, one-hot or not.
    yhat : array_like
        Predicted probabilities, of the same shape.
    axis : int, tuple of int or None, default None
        Axis or axes to sum over; None sums everything, the axis of the classes gives one loss for
        each sample.

    Returns
    -------
    scalar or ndarray
        Loss; the shape of `y` without `axis`.

    Raises
    ------
    TypeError
        If an argument has an unsuitable dtype or `axis` a wrong type.
    ValueError
        If the shapes differ, or `axis` is out of range or repeated.

    Notes
    -----
    .. math:: L = -\sum_k y_k \log \hat y_k, \quad 0 \log 0 = 0

    Examples
    --------
    >>> from csoftmax import cce
    >>> float(cce([0.0, 1.0, 0.0], [0.25, 0.5, 0.25]))
    0.6931471805599453
    """
    p, q, result = arguments.real_pair(y, "y", yhat, "yhat")
    axes = arguments.axes(axis, p.ndim)
    shape = tuple(n for i, n in enumerate(p.shape) if i not in axes)
    return reduced("cce", (p, q), axes, shape, result).astype(result, copy=False)[()]


def cce_gradient(y: ArrayLike, yhat: ArrayLike) -> Any:
    r"""Gradient of `cce` with respect to the predicted probabilities.

    Parameters
    ----------
    y : array_like
        Target probabilities, one-hot or not.
    yhat : array_like
        Predicted probabilities, of the same shape.

    Returns
    -------
    ndarray or scalar
        Gradient, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, or the shapes differ.

    Notes
    -----
    .. math:: \frac{\partial L}{\partial \hat y_k} = -\frac{y_k}{\hat y_k}, \quad 0 / 0 = 0

    Examples
    --------
    >>> from csoftmax import cce_gradient
    >>> cce_gradient([0.0, 1.0], [0.5, 0.5])
    array([-0., -2.])
    """
    p, q, result = arguments.real_pair(y, "y", yhat, "yhat")
    axes = (p.ndim - 1,) if p.ndim else ()
    return along("cce_gradient", (p, q), axes, None, result)


@kernels.compiled
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    r"""Cross-entropy of logits and labels, or target probabilities.

    Parameters
    ----------
    logits : array_like
        Scores before softmax, with C classes along `axis`; dtypes as for `csoftmax.softmax`.
    target : array_like
        Labels in [0, C), of any integer dtype and the shape of `logits` without `axis`; or
        probabilities, of a floating dtype and the shape of `logits`.
    axis : int, default -1
        Axis of the classes.
    class_weight : array_like, optional
        A weight for each class, shape (C,).
    sample_weight : array_like, optional
        A weight for each sample, broadcast to the shape of `logits` without `axis`.
    ignore_index : int, optional
        Label of samples that are left out. It need not be a class.
    label_smoothing : float, default 0.0
        Share of the target, in [0, 1], that is spread evenly over all classes.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides the sum by the sum of the weights of what is not ignored: of sample weight
        times class weight at the label; with probabilities, of the sample weights.

    Returns
    -------
    scalar or ndarray
        The loss, in the dtype of the logits; with "none" one for each sample. A mean over nothing
        is 0.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If an argument has a wrong shape or an option an unknown value.
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; it names the label and its position.

    Notes
    -----
    With target probabilities :math:`t` (one-hot for a label :math:`y`), class weights :math:`c`,
    sample weight :math:`s` and smoothing :math:`\epsilon`, a sample has the loss

    .. math:: s \sum_j w_j \Big(\log \sum_k e^{x_k} - x_j\Big), \quad
       w_j = (1 - \epsilon)\, c_j t_j + \frac{\epsilon}{C}\, c_j

    as in PyTorch, which has no `sample_weight` and no `axis`, and gives NaN for a mean over nothing
    and for a weight of 0 on a logit of -inf, which contributes 0 here.

    Examples
    --------
    >>> from csoftmax import cross_entropy
    >>> float(cross_entropy([[0.0, 0.0], [40.0, 0.0]], [1, 0], reduction="sum"))
    0.6931471805599453
    >>> cross_entropy([[0.0, 0.0], [40.0, 0.0]], [1, 0], reduction="none")
    array([6.93147181e-01, 4.24835426e-18])
    """
    options = (axis, class_weight, sample_weight, ignore_index, label_smoothing, reduction)
    return Problem.of(logits, target, *options).loss()


@kernels.compiled
def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Cross-entropy and its gradient with respect to the logits, in one pass.

    Parameters
    ----------
    logits, target, axis, class_weight, sample_weight, ignore_index, label_smoothing, reduction
        As in `cross_entropy`.
    out : ndarray, optional
        Array of the gradient's shape and dtype, written and returned. It may be `logits` itself.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` returns it.
    gradient : ndarray
        d loss / d logits, of the shape and dtype of `logits`; for reduction "none" the gradient of
        the sum of the losses.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy` does, and for an unsuitable `out`.

    Notes
    -----
    .. math:: \frac{\partial L}{\partial x_j} = \frac{s}{\text{denominator}}
       \Big(y_j \sum_k w_k - w_j\Big), \quad y = \operatorname{softmax}(x)

    At the label of a confident row it is minus the sum of the other probabilities, which
    :math:`y_j - 1` would lose.

    Examples
    --------
    >>> from csoftmax import cross_entropy_with_grad
    >>> loss, gradient = cross_entropy_with_grad([[0.0, 0.0]], [1])
    >>> gradient
    array([[ 0.5, -0.5]])
    """
    options = (axis, class_weight, sample_weight, ignore_index, label_smoothing, reduction)
    return Problem.of(logits, target, *options).loss_and_gradient(out)


class Problem(NamedTuple):
    """Checked arguments, in the form that the kernels take them. `csoftmax.linear` uses it too."""

    logits: Array
    target: Array  # int64 labels, or probabilities
    result: arguments.DType
    scale: Array  # weight of each sample in loss and gradient, float64 or wider
    class_weight: Array  # (C,) in the computing dtype; stride 0 if there are none
    smoothing: float
    ignore_index: int
    axis: int
    reduction: str
    empty: bool  # nothing is left to take the mean of

    @classmethod
    @np.errstate(all="ignore")
    def of(
        cls,
        logits: ArrayLike,
        target: ArrayLike,
        axis: int,
        class_weight: ArrayLike | None,
        sample_weight: ArrayLike | None,
        ignore_index: int | None,
        label_smoothing: float,
        reduction: str,
    ) -> Problem:
        x, result = arguments.real(logits, "logits")
        axis = arguments.one_axis(axis, x.ndim)
        classes = x.shape[axis]
        samples = x.shape[:axis] + x.shape[axis + 1 :]
        if not isinstance(reduction, str):
            raise TypeError(f'reduction is {reduction!r}: expected "mean", "sum" or "none"')
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction is {reduction!r}: expected "mean", "sum" or "none"')
        smoothing = arguments.fraction(label_smoothing, "label_smoothing")
        if ignore_index is not None:
            arguments.integer(ignore_index, "ignore_index", "an integer or None")
        weights = _class_weight(class_weight, classes, arguments.computing_dtype(result))
        wide = np.result_type(result, np.float64)
        scale = np.ones((), wide)
        if sample_weight is not None:
            s, _ = arguments.real(sample_weight, "sample_weight")
            scale = arguments.broadcast(s.astype(wide), samples, "sample_weight")

        t = arguments.array(target, "target")
        given, kept = t.dtype, None
        if arguments.kind(given) in "iu":
            t, kept = _labels(t, samples, classes, ignore_index)
        elif arguments.kind(given) == "f":
            t = _probabilities(t, x.shape, ignore_index)
        else:
            raise TypeError(
                f"target has dtype {t.dtype}: expected integers (labels) or floats (probabilities)"
            )
        empty = False
        if reduction == "mean":
            by_label = class_weight is not None and t.dtype.kind == "i" and classes > 0
            if by_label or kept is not None or sample_weight is not None:
                counted = scale * weights.astype(wide).take(t, mode="clip") if by_label else scale
                counted = np.broadcast_to(counted, samples)
                denominator = kernels.exact_sum(counted if kept is None else counted[kept])
            else:
                denominator = np.longdouble(math.prod(samples))
            empty = not denominator
            scale = scale * (denominator if empty else 1 / denominator).astype(wide)
        # as int64, like the labels; -1 is none, as labels have been checked
        ignored = -1 if kept is None else int(np.asarray(ignore_index, given).astype(np.int64))
        return cls(x, t, result, scale, weights, smoothing, ignored, axis, reduction, empty)

    def loss(self) -> Any:
        kernel, operands, axes = self._call("")
        return self.reduce(kernel(*operands, axes=[*axes, ()]))

    @np.errstate(all="ignore")
    def loss_and_gradient(self, out: Array | None) -> tuple[Any, Array]:
        arguments.out_array(out, self.logits.shape, self.result)
        kernel, operands, axes = self._call("_with_grad")
        if out is None:
            out = np.empty_like(self.logits, dtype=self.result, subok=False)
        losses, _ = kernel(*operands, axes=[*axes, (), self.axis], out=(None, out))
        if self.empty:
            out[...] = 0
        return self.reduce(losses), out

    def _call(self, suffix: str) -> tuple[Any, tuple[Any, ...], list[Any]]:
        # NumPy scalars: a plain Python number would make NumPy pick the float64 loop
        common = (self.scale, self.class_weight, np.float64(self.smoothing))
        if self.target.dtype.kind == "i":
            kernel = getattr(kernels, "cross_entropy_labels" + suffix)
            operands = (self.logits, self.target, *common, np.int64(self.ignore_index))
            return kernel, operands, [self.axis, (), (), 0, (), ()]
        kernel = getattr(kernels, "cross_entropy_probabilities" + suffix)
        x, t = self.logits, self.target
        if arguments.result_dtype(t) != self.result:  # no rounding to float16 on the way
            x = x.astype(arguments.computing_dtype(self.result), copy=False)
        with np.errstate(all="ignore"):
            t = t.astype(arguments.result_dtype(x), copy=False)
        return kernel, (x, t, *common), [self.axis, self.axis, (), 0, ()]

    @np.errstate(all="ignore")
    def piecewise(self) -> kernels.PiecewiseCrossEntropy:
        """The same for logits (samples, classes) that come piece by piece; none is ignored."""
        t = self.target
        if t.dtype.kind == "f":
            t = t.astype(self.logits.dtype, copy=False)
        return kernels.PiecewiseCrossEntropy(
            self.logits, t, self.scale, self.class_weight, self.smoothing
        )

    @np.errstate(all="ignore")
    def reduce(self, losses: Any) -> Any:
        """What is returned of the losses of all samples."""
        if self.reduction != "none":
            losses = (
                np.zeros((), self.result) if self.empty else kernels.exact_sum(np.asarray(losses))
            )
        return np.asarray(losses).astype(self.result, copy=False)[()]


def _class_weight(class_weight: ArrayLike | None, classes: int, dtype: Any) -> Array:
    if class_weight is None:
        return np.ndarray((classes,), dtype, np.ones((), dtype), strides=(0,))
    weights, _ = arguments.real(class_weight, "class_weight")
    if weights.shape != (classes,):
        raise ValueError(
            f"class_weight has shape {weights.shape}: expected ({classes},), one weight a class"
        )
    return weights.astype(dtype, copy=False)


def _labels(
    t: Array, samples: tuple[int, ...], classes: int, ignore_index: int | None
) -> tuple[Array, Array | None]:
    """Labels as int64, and where they count (None: everywhere)."""
    if t.shape != samples:
        raise ValueError(
            f"target has shape {t.shape}: expected {samples} for labels, "
            "the shape of logits without the class axis"
        )
    arguments.labels(t, 0, classes, "target", ignore_index)
    kept = None
    if ignore_index is not None:
        kept = np.asarray(t != ignore_index)
        if kept.all():
            kept = None
    return t.astype(np.int64, copy=False), kept


def _probabilities(t: Array, shape: tuple[int, ...], ignore_index: int | None) -> Array:
    if t.shape != shape:
        raise ValueError(
            f"target has shape {t.shape}: expected {shape} for probabilities, the shape of logits "
            "(labels must have an integer dtype)"
        )
    if ignore_index is not None:
        raise ValueError(
            f"ignore_index is {ignore_index}: expected None, as target holds probabilities"
        )
    return t
