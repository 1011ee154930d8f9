"""``tf.keras.utils``: `to_categorical`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

import csoftmax

__all__ = ["to_categorical"]


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> NDArray[np.float64]:
    """One-hot encoding: `csoftmax.to_categorical`, whose argument is called `x` here.

    Parameters
    ----------
    x : array_like of real
        Labels, truncated to integers. A last axis of length 1 is dropped. Labels in
        [-`num_classes`, 0) count from the end.
    num_classes : int, optional
        Number of classes; by default the largest label plus 1.

    Returns
    -------
    ndarray of float64
        The shape of `x` with the classes on a last axis.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `csoftmax.to_categorical` does.

    Examples
    --------
    >>> from csoftmax.compat import tensorflow as tf
    >>> tf.keras.utils.to_categorical([1, 0])
    array([[0., 1.],
           [1., 0.]])
    """
    return csoftmax.to_categorical(x, num_classes)
