"""`softmax`, `log_softmax` and `logsumexp` as ``scipy.special`` has them in SciPy 1.17.

SciPy itself is not needed. Real input goes to csoftmax's own functions and float16 is computed in
float32, so results are closer to the exact value than SciPy's. What else differs:

- No RuntimeWarning: SciPy lets some of NumPy's through, as for a row of -inf alone.
- `log_softmax` of a row with +inf is all NaN, as `softmax` of it is; SciPy puts -inf beside +inf.
- `softmax` and `log_softmax` of unsigned integers are right; SciPy's subtraction wraps around.
  Those of bool are float64; SciPy's subtraction refuses them.
- int64 and uint64 beyond 2**53 are first rounded to float64, as every function here does; in
  `softmax` and `log_softmax` SciPy subtracts integers.
- No classes: `softmax` and `log_softmax` are empty, `logsumexp` is -inf with the sign 0 of a sum
  of nothing. SciPy raises ValueError or IndexError or gives the sign -1; an empty axis that is not
  summed over comes out with length 1.
- Where the stable formula gives no finite `logsumexp`, SciPy takes log(sum(b * exp(a))) as it
  stands, and exp(a) may overflow or underflow. Here [800, 800] weighted [1, -1] is -inf (SciPy:
  NaN), [-800] weighted [-1] is NaN, as every negative sum (-inf), and a weight of 0 drops an
  infinity or NaN whatever the other terms are (NaN if they are infinite or none).
- The largest term counts with its weight, so that weights many orders apart cannot hide it: [0,
  -800] weighted [1e-200, 1e300] gives -109.2 (SciPy: -460.5, as exp(-800) is 0).
- The sign of an infinite complex sum is numpy.sign's; SciPy's is NaN. With an infinite or NaN phase
  both results are NaN; SciPy's first one may be finite.
- TypeError for what is not numeric, where SciPy's error depends on where it gets stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import csoftmax
from csoftmax import arguments
from csoftmax.arguments import Array, Axis, DType

__all__ = ["log_softmax", "logsumexp", "softmax"]


def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    r"""Softmax over all of `x`, or along `axis`.

    Parameters
    ----------
    x : array_like
        Numbers, of any shape.
    axis : int, tuple of int or None, default None
        Axis or axes of the classes; None takes all.

    Returns
    -------
    ndarray or scalar
        The shape of `x`. Its dtype is that of ``numpy.exp(x)``, but float64 for bool.

    Raises
    ------
    TypeError
        If `x` is not numeric or `axis` has a wrong type.
    ValueError
        If `axis` is repeated or out of range (`numpy.exceptions.AxisError`).

    Notes
    -----
    .. math:: y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}

    Examples
    --------
    >>> from csoftmax.compat.scipy import softmax
    >>> softmax([[1, 1], [1, 1]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    >>> softmax([[1, 1], [1, 1]], axis=1)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    return _normalize(csoftmax.softmax, x, axis, log=False)


def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    r"""Logarithm of softmax over all of `x`, or along `axis`.

    Parameters
    ----------
    x : array_like
        Numbers, of any shape.
    axis : int, tuple of int or None, default None
        Axis or axes of the classes; None takes all.

    Returns
    -------
    ndarray or scalar
        The shape of `x`. Its dtype is that of ``numpy.exp(x)``, but float64 for bool.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    .. math:: \log y_i = x_i - \log \sum_j e^{x_j}

    Examples
    --------
    >>> from csoftmax.compat.scipy import log_softmax
    >>> log_softmax([1000.0, 1.0])
    array([   0., -999.])
    """
    return _normalize(csoftmax.log_softmax, x, axis, log=True)


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    r"""Logarithm of the sum, weighted if `b` is given, of exponentials.

    Parameters
    ----------
    a : array_like
        Numbers, of any shape.
    axis : int, tuple of int or None, default None
        Axis or axes to sum over; None takes all.
    b : array_like, optional
        Weights of any sign, broadcast with `a`. An entry of weight 0 is left out.
    keepdims : bool, default False
        Keep the axes that are summed over, with length 1.
    return_sign : bool, default False
        Return the sign too, and the logarithm of the sum's absolute value.

    Returns
    -------
    result : ndarray or scalar
        The shape of `a` and `b` together, without `axis`. Its dtype is theirs, promoted with a
        Python float. NaN for a negative sum, unless `return_sign` is true.
    sign : ndarray or scalar
        Only if `return_sign` is true: 1, 0 or -1, or the complex phase of a complex sum.

    Raises
    ------
    TypeError
        If `a` or `b` is not numeric or `axis` has a wrong type.
    ValueError
        If `a` and `b` do not broadcast, or `axis` is repeated or out of range
        (`numpy.exceptions.AxisError`).

    Notes
    -----
    .. math:: \log \sum_j b_j e^{a_j}

    Examples
    --------
    >>> from csoftmax.compat.scipy import logsumexp
    >>> print(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> print(*logsumexp([1.0, 1.0, 1.0], b=[1, -1, -1], return_sign=True))
    1.0 -1.0
    """
    x = _array(a, "a")
    if b is None and x.dtype.kind != "c":
        out = csoftmax.logsumexp(np.atleast_1d(x), axis, keepdims=bool(keepdims))
        return (out, np.where(np.isnan(out), out, out > -np.inf)[()]) if return_sign else out
    dtype, x, w = _promoted(a, b)
    axes = arguments.axes(axis, x.ndim)
    with np.errstate(all="ignore"):
        size, total = _log_size(x, w, axes)
        if return_sign:
            results = [size.astype(np.finfo(dtype).dtype), np.sign(total).astype(dtype)]
        elif dtype.kind == "c":
            results = [size.astype(dtype)]
            results[0].imag = np.angle(total)
        else:
            results = [np.where(total < 0, np.nan, size).astype(dtype)]
    if not keepdims:
        results = [result.squeeze(axes) for result in results]
    return tuple(result[()] for result in results) if return_sign else results[0][()]


def _array(value: ArrayLike, name: str) -> Array:
    a = arguments.array(value, name)
    return a if a.dtype.kind == "c" else arguments.real(a, name)[0]


def _promoted(a: ArrayLike, b: ArrayLike | None) -> tuple[DType, Array, Array | None]:
    """The result's dtype; `a` in its common shape with `b`, and `b`, in the dtype to compute in."""
    given = [a] if b is None else [a, b]
    arrays = [_array(value, name) for value, name in zip(given, "ab", strict=False)]
    # A Python scalar does not widen the dtype of the other argument.
    pairs = zip(given, arrays, strict=True)
    dtype = np.result_type(1.0, *(v if np.isscalar(v) else array for v, array in pairs))
    try:
        shape = np.broadcast_shapes((1,), *(array.shape for array in arrays))
    except ValueError:
        raise ValueError(
            f"b has shape {arrays[1].shape}: expected one that broadcasts with "
            f"{arrays[0].shape}, the shape of a"
        ) from None
    with np.errstate(all="ignore"):
        x, *w = (v.astype(arguments.computing_dtype(dtype), copy=False) for v in arrays)
    return dtype, np.broadcast_to(x, shape), w[0] if w else None


def _log_size(a: Array, b: Array | None, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """log|S| and S up to a positive factor, for S = sum(b * exp(a)) that may cancel.

    The core could sum exp(a + log|b|) of either sign. But the rounding of log|b| is a relative
    error of each term: it costs digits of a result near 0, and those that cancellation leaves. So
    the terms are formed here, relative to the largest. Those near it are split into b and
    b * expm1, so that what cancels in the sum of their weights does so first. log1p keeps the
    digits of a sum near 1.
    """
    reduced: dict[str, Any] = {"axis": axes, "keepdims": True}
    if b is not None:
        a = np.where(b == 0, -np.inf, a)
    weighted = a.real if b is None else a.real + np.log(np.abs(b))
    top = weighted.max(**reduced, initial=-np.inf)
    shift = np.where(weighted == top, a.real, -np.inf).max(**reduced, initial=-np.inf)
    # Weights may be so far apart that exp(a) overflows beside the largest term, or so large that
    # their sum does.
    reach = 0.75 * np.log(np.finfo(a.dtype).max)
    largest = a.real.max(**reduced, initial=-np.inf)
    shift = np.maximum(shift, np.maximum(largest, top) - reach)
    # With an infinity or NaN, the sum is taken as it stands, and no term is split.
    shift[~np.isfinite(top)] = 0
    shifted = a - shift
    near = np.abs(shifted) < np.where(np.isfinite(top), np.log(2), 0)
    terms = np.exp(shifted)
    np.expm1(shifted, out=terms, where=near)
    if b is not None:
        terms *= b
    base = np.where(near, 1 if b is None else b, 0).sum(**reduced, dtype=a.dtype)
    rest = terms.sum(**reduced)
    total = base + rest
    size = np.where(
        np.abs(rest) < np.abs(base) / 2,
        np.log(np.abs(base)) + np.log1p(rest / base).real,
        np.log(np.abs(total)),
    )
    return shift + size, total


def _normalize(function: Callable[..., Any], x: ArrayLike, axis: Axis, *, log: bool) -> Any:
    """`function` of `x`, in the dtype of exp(x)."""
    a = arguments.array(x, "x")
    if a.dtype.kind == "c":
        return _normalize_complex(a, axis, log=log)
    dtype = np.result_type(a, np.float16) if a.dtype.kind in "iu" else None
    if a.ndim == 0 and axis in (0, -1):  # as NumPy's own reductions of a scalar
        axis = None
    return function(a, axis, dtype=dtype)


@np.errstate(all="ignore")
def _normalize_complex(a: Array, axis: Axis, *, log: bool) -> Any:
    """softmax or log_softmax of complex numbers, whose largest has the largest real part."""
    top = a.max(axis=axis, keepdims=True, initial=-np.inf)
    shifted = a - (np.where(np.isfinite(top), top, 0) if log else top)
    terms = np.exp(shifted)
    total = terms.sum(axis=axis, keepdims=True)
    return shifted - np.log(total) if log else terms / total
