"""Labels as one-hot arrays: a strict function, and the one that Keras has."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from csoftmax import arguments
from csoftmax.arguments import Array

__all__ = ["one_hot", "to_categorical"]


def one_hot(
    labels: ArrayLike, num_classes: int | None = None, *, dtype: DTypeLike = float, axis: int = -1
) -> Array:
    """One-hot encoding, strict: a bad label raises.

    Parameters
    ----------
    labels : array_like of int
        Labels in [0, `num_classes`), of any shape.
    num_classes : int, optional
        Number of classes, at least 1; by default the largest label plus 1.
    dtype : dtype, default float
        Numeric dtype of the result.
    axis : int, default -1
        Where the new axis of the classes goes.

    Returns
    -------
    ndarray
        1 at each label and 0 elsewhere; the shape of `labels` with `num_classes` at `axis`.

    Raises
    ------
    TypeError
        If `labels` are no integers, or another argument has an unsuitable type.
    ValueError
        If `num_classes` is less than 1, or missing for empty `labels`, or `axis` out of range.
    IndexError
        If a label is out of range; it names the label and its position.

    Examples
    --------
    >>> from csoftmax import one_hot
    >>> one_hot([1, 0], 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    y = arguments.array(labels, "labels")
    if arguments.kind(y.dtype) not in "iu":
        raise TypeError(f"labels has dtype {y.dtype}: expected integers")
    result = arguments.numeric_dtype(dtype, "biufc", "a numeric dtype")
    position = arguments.one_axis(axis, y.ndim + 1)
    if num_classes is None:
        if y.size == 0:
            raise ValueError("num_classes is None: expected a number, as labels is empty")
        num_classes = max(int(y.max()) + 1, 0)
    elif arguments.integer(num_classes, "num_classes") < 1:
        raise ValueError(f"num_classes is {num_classes}: expected at least 1")
    arguments.labels(y, 0, num_classes, "labels")
    return _encode(y, num_classes, result, position)


def to_categorical(y: ArrayLike, num_classes: int | None = None) -> NDArray[np.float64]:
    """One-hot encoding exactly as ``keras.utils.to_categorical`` does it.

    Parameters
    ----------
    y : array_like of real
        Labels, truncated to integers. A last axis of length 1 is dropped. Labels in
        [-`num_classes`, 0) count from the end.
    num_classes : int, optional
        Number of classes; by default the largest label plus 1.

    Returns
    -------
    ndarray of float64
        The shape of `y` with the classes on a last axis.

    Raises
    ------
    TypeError
        If `y` holds no real numbers, or `num_classes` is no integer.
    ValueError
        If `num_classes` is negative, or missing for an empty `y`.
    IndexError
        If a label is out of range; it names the label and its position.

    See Also
    --------
    one_hot : refuses what is no label.

    Examples
    --------
    >>> from csoftmax import to_categorical
    >>> to_categorical([1, 2, 0])
    array([[0., 1., 0.],
           [0., 0., 1.],
           [1., 0., 0.]])
    """
    given, _ = arguments.real(y, "y")
    if given.ndim > 1 and given.shape[-1] == 1:
        given = given[..., 0]
    with np.errstate(invalid="ignore"):
        labels = given.astype(np.int64)
    if num_classes is not None:
        num_classes = arguments.integer(num_classes, "num_classes")
        if num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}: expected at least 1")
    if not num_classes:  # Keras takes 0 for None
        if labels.size == 0:
            raise ValueError(f"num_classes is {num_classes}: expected a number, as y is empty")
        num_classes = max(int(labels.max()) + 1, 0)
    arguments.labels(labels, -num_classes, num_classes, "y")
    labels = np.where(labels < 0, labels + num_classes, labels)
    return _encode(labels, num_classes, np.dtype(np.float64), labels.ndim)


def _encode(y: Array, num_classes: int, dtype: arguments.DType, position: int) -> Array:
    encoded = np.zeros((*y.shape, num_classes), dtype)
    np.put_along_axis(encoded, y[..., None].astype(np.intp, copy=False), 1, -1)
    return np.moveaxis(encoded, -1, position)
