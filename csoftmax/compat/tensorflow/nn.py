"""``tf.nn``: softmax, log_softmax and the cross-entropies of logits."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

import csoftmax
from csoftmax import arguments

__all__ = [
    "log_softmax",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits",
]


def softmax(logits: ArrayLike, axis: int | None = None, name: str | None = None) -> Any:
    r"""Softmax along one axis.

    Parameters
    ----------
    logits : array_like
        Real numbers, of at least one axis; dtypes as for `csoftmax.softmax`.
    axis : int, optional
        Axis of the classes; by default the last.
    name : str, optional
        Unused.

    Returns
    -------
    ndarray
        Probabilities, of the shape of `logits`.

    Raises
    ------
    TypeError
        If `logits` is not real or `axis` is no integer.
    ValueError
        If `axis` is out of range (`numpy.exceptions.AxisError`).

    Notes
    -----
    .. math:: y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.nn.softmax([[1.0, 1.0], [0.0, 1000.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    x, result = arguments.real(logits, "logits")
    return csoftmax.softmax(x, _axis(axis, x.ndim)).astype(result, copy=False)


def log_softmax(logits: ArrayLike, axis: int | None = None, name: str | None = None) -> Any:
    r"""Logarithm of softmax along one axis.

    Parameters
    ----------
    logits : array_like
        Real numbers, of at least one axis; dtypes as for `csoftmax.softmax`.
    axis : int, optional
        Axis of the classes; by default the last.
    name : str, optional
        Unused.

    Returns
    -------
    ndarray
        Log-probabilities, of the shape of `logits`.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    .. math:: \log y_i = x_i - \log \sum_j e^{x_j}

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.nn.log_softmax([1000.0, 1.0])
    array([   0., -999.])
    """
    x, result = arguments.real(logits, "logits")
    return csoftmax.log_softmax(x, _axis(axis, x.ndim)).astype(result, copy=False)


def softmax_cross_entropy_with_logits(
    labels: ArrayLike, logits: ArrayLike, axis: int = -1, name: str | None = None
) -> Any:
    r"""Cross-entropy of every sample, of logits and target probabilities.

    Parameters
    ----------
    labels : array_like
        Target probabilities, one-hot or not, broadcast to the shape of `logits`.
    logits : array_like
        Scores before softmax, of at least one axis; dtypes as for `csoftmax.softmax`.
    axis : int, default -1
        Axis of the classes.
    name : str, optional
        Unused.

    Returns
    -------
    ndarray or scalar
        One loss for each sample, of the shape of `logits` without `axis`.

    Raises
    ------
    TypeError
        If `labels` or `logits` is not real or `axis` is no integer.
    ValueError
        If the shapes do not match or `axis` is out of range (`numpy.exceptions.AxisError`).

    Notes
    -----
    .. math:: L = \sum_j t_j \Big(\log \sum_k e^{x_k} - x_j\Big)

    The targets :math:`t` need not sum to 1.

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.nn.softmax_cross_entropy_with_logits(labels=[[0, 1]], logits=[[0.0, 0.0]])
    array([0.69314718])
    """
    x, result = arguments.real(logits, "logits")
    t, _ = arguments.real(labels, "labels")
    t = arguments.broadcast(t, x.shape, "labels").astype(arguments.computing_dtype(result))
    losses = csoftmax.cross_entropy(x, t, axis=axis, reduction="none")
    return losses.astype(result, copy=False)


def sparse_softmax_cross_entropy_with_logits(
    labels: ArrayLike, logits: ArrayLike, name: str | None = None
) -> Any:
    r"""Cross-entropy of every sample, of logits and integer labels.

    Parameters
    ----------
    labels : array_like of int
        Labels in [0, C), of the shape of `logits` without the last axis.
    logits : array_like
        Scores before softmax, with C classes along the last axis; dtypes as for
        `csoftmax.softmax`.
    name : str, optional
        Unused.

    Returns
    -------
    ndarray or scalar
        One loss for each sample, of the shape of `labels`.

    Raises
    ------
    TypeError
        If `logits` is not real or `labels` has no integer dtype.
    ValueError
        If the shapes do not match.
    IndexError
        If a label is out of range; it names the label and its position.

    Notes
    -----
    .. math:: L = \log \sum_k e^{x_k} - x_y

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1], logits=[[0.0, 0.0]])
    array([0.69314718])
    """
    x, result = arguments.real(logits, "logits")
    y = arguments.array(labels, "labels")
    if arguments.kind(y.dtype) not in "iu":
        raise TypeError(f"labels has dtype {y.dtype}: expected integers")
    if x.ndim == 0:
        raise ValueError("logits is a number: expected at least one axis")
    if y.shape != x.shape[:-1]:
        raise ValueError(
            f"labels has shape {y.shape}: expected {x.shape[:-1]}, "
            "the shape of logits without the last axis"
        )
    arguments.labels(y, 0, x.shape[-1], "labels")
    return csoftmax.cross_entropy(x, y, reduction="none").astype(result, copy=False)


def _axis(axis: int | None, ndim: int) -> int:
    return arguments.one_axis(-1 if axis is None else axis, ndim)
