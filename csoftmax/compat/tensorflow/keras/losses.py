"""``tf.keras.losses``: the categorical cross-entropies of Keras, as functions and as classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import csoftmax
from csoftmax import arguments
from csoftmax.arguments import Array

__all__ = [
    "CategoricalCrossentropy",
    "SparseCategoricalCrossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
]

EPSILON = 1e-7  # probabilities are kept this far from 0 and 1
BATCH_MEANS = ("sum_over_batch_size", "mean")  # two names of one reduction
REDUCTIONS = (*BATCH_MEANS, "mean_with_sample_weight", "sum", "none", None)


def categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    r"""Cross-entropy of every sample, of target probabilities and predictions.

    Parameters
    ----------
    y_true : array_like
        Target probabilities, one-hot or not.
    y_pred : array_like
        Predicted probabilities, or logits if `from_logits` is true, of the same shape.
    from_logits : bool, default False
        Whether `y_pred` holds logits. Probabilities are divided by their sum and clipped to
        [1e-7, 1 - 1e-7].
    label_smoothing : float, default 0.0
        Share of the target, in [0, 1], that is spread evenly, with the length of the last axis
        taken as the number of classes.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    ndarray or scalar
        One loss for each sample, in the dtype of `y_pred`.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If the shapes differ, or an option is out of range.

    Notes
    -----
    .. math:: L = -\sum_j t_j \log p_j

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.keras.losses.categorical_crossentropy([[0, 1]], [[0.5, 0.5]])
    array([0.69314718])
    """
    p, result = arguments.real(y_pred, "y_pred")
    t, _ = arguments.real(y_true, "y_true")
    if t.shape != p.shape:
        raise ValueError(f"y_true has shape {t.shape}: expected {p.shape}, the shape of y_pred")
    axis = arguments.one_axis(axis, p.ndim)
    smoothing = arguments.fraction(label_smoothing, "label_smoothing")
    dtype = arguments.computing_dtype(result)
    p, t = p.astype(dtype, copy=False), t.astype(dtype, copy=False)
    if smoothing:  # the core would divide by the number of classes, whatever the axis
        t = t * (1 - smoothing) + smoothing / max(p.shape[-1], 1)
    if from_logits:
        losses = csoftmax.cross_entropy(p, t, axis=axis, reduction="none")
    else:
        with np.errstate(all="ignore"):
            total = p.sum(axis, keepdims=True, dtype=np.result_type(dtype, np.float64))
            losses = csoftmax.cce(t, _clipped(p / total.astype(dtype)), axis)
    return losses.astype(result, copy=False)


def sparse_categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    r"""Cross-entropy of every sample, of labels and predictions.

    Parameters
    ----------
    y_true : array_like of real
        Labels in [0, C), cut to integers: the shape of `y_pred` without `axis`, or with length 1
        there.
    y_pred : array_like
        Predicted probabilities, or logits if `from_logits` is true, with C classes along `axis`.
    from_logits : bool, default False
        Whether `y_pred` holds logits. Probabilities are clipped to [1e-7, 1 - 1e-7] and then
        divided by their sum.
    ignore_class : int, optional
        Label of samples whose loss is 0. It need not be a class.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    ndarray or scalar
        One loss for each sample, in the dtype of `y_pred`.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If the shapes do not match or `axis` is out of range.
    IndexError
        If a label is neither in [0, C) nor `ignore_class`; it names the label and its position.

    Notes
    -----
    .. math:: L = -\log p_y

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.keras.losses.sparse_categorical_crossentropy([1], [[0.5, 0.5]])
    array([0.69314718])
    """
    p, result = arguments.real(y_pred, "y_pred")
    y = _labels(y_true, p, ignore_class, axis)
    if not from_logits:
        with np.errstate(all="ignore"):
            p = np.log(_clipped(p.astype(arguments.computing_dtype(result), copy=False)))
    losses = csoftmax.cross_entropy(p, y, axis=axis, ignore_index=ignore_class, reduction="none")
    return losses.astype(result, copy=False)


class _Loss:
    """The arguments that the losses share, and what they do with the losses of the samples."""

    def __init__(self, reduction: str | None, name: str | None, dtype: DTypeLike | None) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {reduction!r}: expected one of {REDUCTIONS}")
        if dtype is not None:
            dtype = arguments.numeric_dtype(dtype, "f", "a floating dtype")
        self.reduction, self.name, self.dtype = reduction, name, dtype

    def __call__(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Any:
        """The loss of a batch.

        Parameters
        ----------
        y_true, y_pred : array_like
            As for the function of that name.
        sample_weight : array_like, optional
            A weight for each sample: a number, or the shape of the losses, broadcast against it
            and with or without a last axis of length 1.

        Returns
        -------
        scalar or ndarray
            The loss; with reduction None one for each sample.

        Raises
        ------
        TypeError, ValueError, IndexError
            As the function does, and for an unsuitable `sample_weight`.
        """
        p, result = arguments.real(y_pred, "y_pred", self.dtype)
        t, p = _same_rank(arguments.array(y_true, "y_true"), p)
        losses, kept = self._losses(t, p)
        wide = np.result_type(result, np.float64)
        weights = None
        if sample_weight is not None:
            weights = arguments.real(sample_weight, "sample_weight")[0].astype(wide)
        with np.errstate(all="ignore"):
            loss = self._reduce(np.asarray(losses, wide), weights, kept)
            return np.asarray(loss).astype(result)[()]

    def _losses(self, t: Array, p: Array) -> tuple[Any, Array | None]:
        """The losses of the samples, and which of them count (None: all)."""
        raise NotImplementedError

    def _reduce(self, losses: Array, weights: Array | None, kept: Array | None) -> Any:
        if kept is not None:
            counted = kept.astype(losses.dtype)
            if self.reduction in BATCH_MEANS:  # a mean over what counts
                counted *= kept.size / max(int(np.count_nonzero(kept)), 1)
            if weights is None:
                weights = counted
            else:
                counted, weights = _same_rank(counted, weights)
                weights = _product(weights, counted)
        if weights is not None:
            losses, weights = _same_rank(losses, weights)
            losses = _product(weights, losses)
        if self.reduction in (None, "none") or losses.shape in ((), (0,)):
            return losses
        total = losses.sum()
        if self.reduction == "sum":
            return total
        if weights is None or self.reduction in BATCH_MEANS:
            weights = np.ones_like(losses)
        divisor = weights.sum()
        return total / divisor if divisor else 0.0


class CategoricalCrossentropy(_Loss):
    """Cross-entropy of target probabilities and predictions.

    Parameters
    ----------
    from_logits, label_smoothing, axis
        As in `categorical_crossentropy`.
    reduction : str or None, default "sum_over_batch_size"
        "sum_over_batch_size" or "mean": the sum over the number of losses.
        "mean_with_sample_weight": over the sum of the weights. "sum"; "none" or None.
    name : str, optional
        Kept as an attribute.
    dtype : dtype, optional
        Floating dtype that `y_pred` is cast to first; by default it keeps its own.

    Raises
    ------
    TypeError, ValueError
        If `dtype` is no floating dtype, or `reduction` unknown.

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> loss = tf.keras.losses.CategoricalCrossentropy()
    >>> print(loss([[0, 1], [1, 0]], [[0.5, 0.5], [0.5, 0.5]]))
    0.6931471805599453
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis

    def _losses(self, t: Array, p: Array) -> tuple[Any, Array | None]:
        options = (self.from_logits, self.label_smoothing, self.axis)
        return categorical_crossentropy(t, p, *options), None


class SparseCategoricalCrossentropy(_Loss):
    """Cross-entropy of labels and predictions.

    Parameters
    ----------
    from_logits, ignore_class, axis
        As in `sparse_categorical_crossentropy`.
    reduction : str or None, default "sum_over_batch_size"
        As in `CategoricalCrossentropy`, over the samples that are not ignored.
    name : str, optional
        Kept as an attribute.
    dtype : dtype, optional
        Floating dtype that `y_pred` is cast to first; by default it keeps its own.

    Raises
    ------
    TypeError, ValueError
        If `dtype` is no floating dtype, or `reduction` unknown.

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> print(loss([1, 0], [[0.0, 0.0], [0.0, 0.0]]))
    0.6931471805599453
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis

    def _losses(self, t: Array, p: Array) -> tuple[Any, Array | None]:
        y = _labels(t, p, self.ignore_class, self.axis)
        options = (self.from_logits, self.ignore_class, self.axis)
        kept = None if self.ignore_class is None else np.asarray(y != self.ignore_class)
        return sparse_categorical_crossentropy(y, p, *options), kept


def _clipped(p: Array) -> Array:
    clipped: Array = np.clip(p, EPSILON, 1 - EPSILON)
    return clipped


def _labels(y_true: ArrayLike, p: Array, ignore_class: int | None, axis: int) -> Array:
    """Labels as int64, of the shape of `p` without the class axis."""
    axis = arguments.one_axis(axis, p.ndim)
    y, _ = arguments.real(y_true, "y_true")
    if y.ndim == p.ndim and y.shape[axis] == 1:
        y = y.squeeze(axis)
    samples = p.shape[:axis] + p.shape[axis + 1 :]
    if y.shape != samples:
        raise ValueError(
            f"y_true has shape {y.shape}: expected {samples}, the shape of y_pred without axis"
        )
    if ignore_class is not None:
        ignore_class = arguments.integer(ignore_class, "ignore_class", "an integer or None")
    with np.errstate(invalid="ignore"):
        y = y.astype(np.int64, copy=False)
    arguments.labels(y, 0, p.shape[axis], "y_true", ignore_class)
    return y


def _same_rank(a: Array, b: Array) -> tuple[Array, Array]:
    """`a` and `b`, a last axis of length 1 given to a vector beside it or taken from the other."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return (a, b[:, None]) if b.ndim == 1 else (a[..., 0], b)
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return (a[:, None], b) if a.ndim == 1 else (a, b[..., 0])
    return a, b


def _product(weights: Array, losses: Array) -> Array:
    try:
        product: Array = weights * losses
    except ValueError:
        raise ValueError(
            f"sample_weight has shape {weights.shape}: expected one that broadcasts with "
            f"{losses.shape}, the shape of the losses"
        ) from None
    return product
