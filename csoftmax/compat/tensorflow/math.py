"""``tf.math``: `reduce_logsumexp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

import csoftmax
from csoftmax import arguments

__all__ = ["reduce_logsumexp"]


def reduce_logsumexp(
    input_tensor: ArrayLike,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    name: str | None = None,
) -> Any:
    r"""Logarithm of the sum of exponentials.

    Parameters
    ----------
    input_tensor : array_like
        Real numbers, of any shape; dtypes as for `csoftmax.softmax`.
    axis : int, sequence of int or None, default None
        Axis or axes to sum over; None takes all, an empty sequence none.
    keepdims : bool, default False
        Keep the axes that are summed over, with length 1.
    name : str, optional
        Unused.

    Returns
    -------
    ndarray or scalar
        The shape of `input_tensor` without `axis`; -inf where nothing is summed.

    Raises
    ------
    TypeError
        If `input_tensor` is not real or `axis` has a wrong type.
    ValueError
        If `axis` is repeated or out of range (`numpy.exceptions.AxisError`).

    Notes
    -----
    .. math:: \log \sum_j e^{x_j}

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> print(tf.math.reduce_logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    x, result = arguments.real(input_tensor, "input_tensor")
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return csoftmax.logsumexp(x, axes, keepdims=keepdims).astype(result, copy=False)
