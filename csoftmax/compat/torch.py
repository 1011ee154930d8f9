"""Functions of ``torch.nn.functional`` as PyTorch 2.13 has them, for NumPy arrays.

PyTorch itself is not needed. `softmax`, `log_softmax`, `cross_entropy`, `nll_loss` and `one_hot`
have the arguments and defaults of those in ``torch.nn.functional``, `logsumexp` those of
``torch.logsumexp``. What differs:

- NumPy arrays or anything that NumPy can read go in (CPU tensors too, without a copy), arrays and
  NumPy scalars come out. There are no gradients: see `csoftmax.cross_entropy_with_grad`.
- Lists of numbers are float64, and so are the results of integers and bools; PyTorch makes both
  float32 in `logsumexp` and refuses them elsewhere. `dtype` is a NumPy dtype.
- float16 and bfloat16 are computed in float32 and rounded once. The result has the dtype of
  `input`; PyTorch promotes it with that of a probability target, and wants the dtype of `input` for
  `weight`.
- Labels have any integer dtype, in PyTorch int64.
- Without a class, `label_smoothing` leaves the loss 0; in PyTorch it is NaN.
- A weight or target probability of exactly 0 on a logit of -inf contributes 0 to `cross_entropy`;
  in PyTorch NaN. `nll_loss` gives NaN as there. An infinite target gives NaN, in PyTorch inf.
- Class weights of the labels that cancel, as 1 and -1, give a `cross_entropy` of NaN, in PyTorch an
  infinity.
- With one axis in `input` the target is a single label, without an axis; PyTorch also takes one of
  shape (1,).
- `size_average` and `reduce`, long deprecated, are refused; `reduction` says the same.
- `logsumexp` over no axis (``dim=()``) is `input`; PyTorch raises.
- `one_hot` takes `num_classes` of -1 or at least 1; PyTorch raises RuntimeError for others too.
- A bad argument raises TypeError, ValueError or IndexError where PyTorch mostly raises
  RuntimeError.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import csoftmax
from csoftmax import arguments
from csoftmax.arguments import Array

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "nll_loss", "one_hot", "softmax"]


def softmax(
    input: ArrayLike, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> Any:
    r"""Softmax along one dimension.

    Parameters
    ----------
    input : array_like
        Real numbers, of any shape.
    dim : int, optional
        Dimension of the classes. Without it a UserWarning is given, and dimension 0 is taken of
        0, 1 or 3 dimensions, dimension 1 of others.
    _stacklevel : int, default 3
        Which caller that warning names; 3 is the one of this function.
    dtype : dtype, optional
        Floating dtype that `input` is cast to first.

    Returns
    -------
    ndarray or scalar
        Probabilities, of the shape of `input`.

    Raises
    ------
    TypeError
        If `input` is not real or another argument has a wrong type.
    ValueError
        If `dim` is out of range (`numpy.exceptions.AxisError`).

    Notes
    -----
    .. math:: y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}

    Examples
    --------
    >>> from csoftmax.compat import torch as F
    >>> F.softmax([[1.0, 1.0], [0.0, 1000.0]], dim=1)
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    return _normalize(csoftmax.softmax, input, dim, _stacklevel, dtype)


def log_softmax(
    input: ArrayLike, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> Any:
    r"""Logarithm of softmax along one dimension.

    Parameters
    ----------
    input, dim, _stacklevel, dtype
        As in `softmax`.

    Returns
    -------
    ndarray or scalar
        Log-probabilities, of the shape of `input`.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    .. math:: \log y_i = x_i - \log \sum_j e^{x_j}

    Examples
    --------
    >>> from csoftmax.compat import torch as F
    >>> F.log_softmax([1000.0, 1.0], dim=0)
    array([   0., -999.])
    """
    return _normalize(csoftmax.log_softmax, input, dim, _stacklevel, dtype)


def logsumexp(
    input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False, *, out: Array | None = None
) -> Any:
    r"""Logarithm of the sum of exponentials.

    Parameters
    ----------
    input : array_like
        Real numbers, of any shape.
    dim : int or sequence of int
        Dimension or dimensions to sum over.
    keepdim : bool, default False
        Keep the dimensions that are summed over, with length 1.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned.

    Returns
    -------
    ndarray or scalar
        The shape of `input` without `dim`; -inf where nothing is summed.

    Raises
    ------
    TypeError
        If `input` is not real or `dim` has a wrong type.
    ValueError
        If `dim` is repeated or out of range (`numpy.exceptions.AxisError`), or `out` unsuitable.

    Notes
    -----
    .. math:: \log \sum_j e^{x_j}

    Examples
    --------
    >>> from csoftmax.compat import torch as F
    >>> print(F.logsumexp([1000.0, 1000.0], dim=0))
    1000.6931471805599
    """
    x = _given(input)
    dims = tuple(dim) if isinstance(dim, Sequence) else _dim(dim, x.ndim)
    return csoftmax.logsumexp(x, dims, keepdims=keepdim, out=out)


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    r"""Cross-entropy of logits and labels, or target probabilities.

    Parameters
    ----------
    input : array_like, shape (C,), (N, C) or (N, C, ...)
        Scores before softmax.
    target : array_like
        Labels in [0, C), of an integer dtype and the shape of `input` without C; or probabilities,
        of a floating dtype and the shape of `input`.
    weight : array_like, shape (C,), optional
        A weight for each class.
    size_average, reduce : None
        Refused.
    ignore_index : int, default -100
        Label of samples that are left out. It need not be a class.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the weights of the labels, or the number of samples with probabilities.
    label_smoothing : float, default 0.0
        Share of the target, in [0, 1], that is spread evenly over all classes.

    Returns
    -------
    scalar or ndarray
        The loss; with "none" one for each sample. A mean over nothing is NaN.

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
    With target probabilities :math:`t` (one-hot for a label), class weights :math:`c` and
    smoothing :math:`\epsilon` a sample has the loss

    .. math:: \sum_j c_j \Big((1 - \epsilon)\, t_j + \frac{\epsilon}{C}\Big)
       \Big(\log \sum_k e^{x_k} - x_j\Big)

    Examples
    --------
    >>> from csoftmax.compat import torch as F
    >>> print(F.cross_entropy([[0.0, 0.0], [5.0, 1.0]], [1, -100]))
    0.6931471805599453
    """
    _refuse_legacy(size_average, reduce)
    x, t = _given(input), arguments.array(target, "target")
    axis = _class_axis(x)
    weights = _weight(weight, x.shape[axis])
    ignored: int | None = arguments.integer(ignore_index, "ignore_index")
    if arguments.kind(t.dtype) == "f" and ignore_index < 0:
        ignored = None  # as the default has to be, which no probability has
    loss = csoftmax.cross_entropy(
        x,
        t,
        axis=axis,
        class_weight=weights,
        ignore_index=ignored,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    # The core takes a mean over nothing for 0.
    if reduction != "mean" or loss != 0:
        return loss
    by_label = arguments.kind(t.dtype) != "f"
    total = _divisor(t, ignore_index, weights) if by_label else x.size
    return loss if total else loss.dtype.type(math.nan)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Any:
    r"""Negative log-likelihood of labels, of log-probabilities.

    Parameters
    ----------
    input : array_like, shape (C,), (N, C) or (N, C, ...)
        Log-probabilities.
    target : array_like of int
        Labels in [0, C), of the shape of `input` without C.
    weight, size_average, ignore_index, reduce, reduction
        As in `cross_entropy`.

    Returns
    -------
    scalar or ndarray
        As `cross_entropy` does.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy` does.

    Notes
    -----
    A sample with label :math:`y` and class weights :math:`c` has the loss

    .. math:: -c_y x_y

    Examples
    --------
    >>> from csoftmax.compat import torch as F
    >>> print(F.nll_loss([[-0.5, -1.0], [-2.0, -0.25]], [0, 1]))
    0.375
    """
    _refuse_legacy(size_average, reduce)
    x, result = arguments.real(input, "input")
    y, axis = arguments.array(target, "target"), _class_axis(x)
    classes, samples = x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :]
    if arguments.kind(y.dtype) not in "iu":
        raise TypeError(f"target has dtype {y.dtype}: expected integers")
    if y.shape != samples:
        raise ValueError(
            f"target has shape {y.shape}: expected {samples}, the shape of input without the "
            "class axis"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is {reduction!r}: expected "mean", "sum" or "none"')
    arguments.labels(y, 0, classes, "target", arguments.integer(ignore_index, "ignore_index"))
    weights = _weight(weight, classes)
    kept = y != ignore_index
    labels = np.where(kept, y, 0).astype(np.intp)
    wide = np.result_type(result, np.float64)
    with np.errstate(all="ignore"):
        losses = np.zeros(samples, wide)
        if classes:
            losses -= np.take_along_axis(x, np.expand_dims(labels, axis), axis).squeeze(axis)
            losses *= 1 if weights is None else weights.take(labels)
        losses = np.where(kept, losses, 0)
        if reduction != "none":
            losses = losses.sum()
        if reduction == "mean":
            losses = losses / np.float64(_divisor(y, ignore_index, weights))
        return losses.astype(result)[()]


def one_hot(input: ArrayLike, num_classes: int = -1) -> NDArray[np.int64]:
    """One-hot encoding.

    Parameters
    ----------
    input : array_like of int
        Labels in [0, `num_classes`), of any shape.
    num_classes : int, default -1
        Number of classes; -1 takes the largest label plus 1.

    Returns
    -------
    ndarray of int64
        1 at each label and 0 elsewhere; the shape of `input` with the classes on a last axis.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `csoftmax.one_hot` does.

    Examples
    --------
    >>> from csoftmax.compat import torch as F
    >>> F.one_hot([1, 0], num_classes=3)
    array([[0, 1, 0],
           [1, 0, 0]])
    """
    y = arguments.array(input, "input")
    if arguments.kind(y.dtype) not in "iu":
        raise TypeError(f"input has dtype {y.dtype}: expected integers")
    classes = arguments.integer(num_classes, "num_classes")
    if classes == -1:
        if y.size == 0:
            raise ValueError("num_classes is -1: expected a number, as input is empty")
        classes = max(int(y.max()) + 1, 1)
    if classes > 0:
        arguments.labels(y, 0, classes, "input")
    return csoftmax.one_hot(y, classes, dtype=np.int64)


# ------------------------------------------------------------------------------- common to several


def _given(input: ArrayLike) -> Array:
    """`input`, refused under that name unless it is real."""
    x = arguments.array(input, "input")
    arguments.real(x, "input")
    return x


def _dim(dim: int, ndim: int) -> int | None:
    """`dim` as an axis; a number alone has dimension 0 to PyTorch."""
    return None if ndim == 0 and dim in (0, -1) else arguments.one_axis(dim, ndim)


def _normalize(
    function: Callable[..., Any],
    input: ArrayLike,
    dim: int | None,
    stacklevel: int,
    dtype: DTypeLike | None,
) -> Any:
    x = _given(input)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
        message = f"dim is None: expected an integer; {dim} is taken for {x.ndim} dimensions"
        warnings.warn(message, stacklevel=stacklevel)
    return function(x, _dim(dim, x.ndim), dtype=dtype)


def _class_axis(x: Array) -> int:
    if x.ndim == 0:
        raise ValueError("input is a number: expected an array of at least one class")
    return min(x.ndim - 1, 1)


def _weight(weight: ArrayLike | None, classes: int) -> Array | None:
    if weight is None:
        return None
    weights, _ = arguments.real(weight, "weight")
    if weights.shape != (classes,):
        raise ValueError(
            f"weight has shape {weights.shape}: expected ({classes},), one weight a class"
        )
    return weights


def _divisor(target: Array, ignore_index: int, weights: Array | None) -> Any:
    """What a mean over labels divides by: the weights, or the number, of those that count."""
    kept = target != ignore_index
    if weights is None:
        return np.count_nonzero(kept)
    return weights.take(target[kept]).sum(dtype=np.float64)


def _refuse_legacy(size_average: object, reduce: object) -> None:
    for name, value in (("size_average", size_average), ("reduce", reduce)):
        if value is not None:
            raise ValueError(
                f'{name} is {value!r}: expected None; reduction="mean", "sum" or "none" says it'
            )
