"""softmax, log_softmax, logsumexp and their vector-Jacobian products.

What is `kernels.compiled` is called as compiled code, which takes NumPy arrays as they are. Where
it does not know them, the arguments are checked here, and axes, broadcasting, casts and overlap are
left to the gufuncs of `csoftmax.dispatch.kernels`. Objects with ``__array_ufunc__`` of their own
(Dask arrays, pandas data frames) get those gufuncs applied their way.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from csoftmax import arguments
from csoftmax.arguments import Array, Axis
from csoftmax.axes import along, reduced
from csoftmax.dispatch import kernels

__all__ = [
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
]


@kernels.compiled
def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    temperature: float = 1.0,
) -> Any:
    r"""Softmax: exponentials that are scaled to a sum of 1.

    Parameters
    ----------
    x : array_like
        Logits, of any shape. float32, float64 and longdouble are computed in themselves, float16
        and bfloat16 (of the package ml_dtypes) in float32; integers and bools become float64.
    axis : int, tuple of int or None, default -1
        Axis or axes of the classes; None takes all.
    where : array_like of bool, optional
        Entries that count, broadcast to the shape of `x`. The others come out 0.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned. It may be `x` itself.
    dtype : dtype, optional
        Floating dtype that `x` is cast to first.
    temperature : float, default 1.0
        What `x` is divided by, the quotients rounded once and not stored. Below 1 it favours the
        largest entries, above 1 it evens them out.

    Returns
    -------
    ndarray
        Probabilities, of the shape of `x`.

    Raises
    ------
    TypeError
        If `x`, `where`, `out` or `dtype` has an unsuitable dtype or `axis` or `temperature` a wrong
        type.
    ValueError
        If `where` or `out` has a wrong shape, `axis` is repeated or out of range
        (`numpy.exceptions.AxisError`), or `temperature` is not positive and finite in the dtype
        that is computed in.

    Notes
    -----
    .. math:: y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}

    With a temperature :math:`T`, :math:`x_i / T` takes the place of :math:`x_i`.

    The rounding of ``x - max(x)`` would cost more digits than everything else. So each exponential
    is taken of `x` itself, as :math:`2^k e^r`, and the power of two of the maximum is subtracted
    from :math:`k`, which is exact. Results are within 3 units of the last place in float32 and 4 in
    float64, subnormal ones within 2. A row with a NaN or +inf, or of -inf alone, is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import softmax
    >>> softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    >>> softmax([[1, 2], [1, 2]], axis=0)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    if overrides(x):
        kernel = tempered("softmax", temperature)
        return elsewhere(kernel, (x,), axis, where=where, out=out, dtype=dtype)
    return _normalize("softmax", x, axis, where, out, dtype, temperature)


@kernels.compiled
def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    temperature: float = 1.0,
) -> Any:
    r"""Logarithm of softmax, accurate also where softmax rounds to 0 or 1.

    Parameters
    ----------
    x : array_like
        Logits, of any shape; dtypes as for `softmax`.
    axis : int, tuple of int or None, default -1
        Axis or axes of the classes; None takes all.
    where : array_like of bool, optional
        Entries that count, broadcast to the shape of `x`. The others come out -inf.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned. It may be `x` itself.
    dtype : dtype, optional
        Floating dtype that `x` is cast to first.
    temperature : float, default 1.0
        What `x` is divided by, as in `softmax`.

    Returns
    -------
    ndarray
        Log-probabilities, of the shape of `x`.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    .. math:: \log y_i = (x_i - m) - \log\Big(1 + \sum_{j \ne \arg\max} e^{x_j - m}\Big),
       \quad m = \max x

    Results are within 3 units of the last place, also where one class has nearly all probability.

    Examples
    --------
    >>> from csoftmax import log_softmax
    >>> log_softmax([40.0, 0.0, 0.0])
    array([-8.49670851e-18, -4.00000000e+01, -4.00000000e+01])
    """
    if overrides(x):
        kernel = tempered("log_softmax", temperature)
        return elsewhere(kernel, (x,), axis, where=where, out=out, dtype=dtype)
    return _normalize("log_softmax", x, axis, where, out, dtype, temperature)


@kernels.compiled
def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
) -> Any:
    r"""Logarithm of the sum of exponentials.

    Parameters
    ----------
    x : array_like
        Of any shape; dtypes as for `softmax`.
    axis : int, tuple of int or None, default -1
        Axis or axes to sum over; None takes all.
    keepdims : bool, default False
        Keep the axes that are summed over, with length 1.
    where : array_like of bool, optional
        Entries that count, broadcast to the shape of `x`.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned.
    dtype : dtype, optional
        Floating dtype that `x` is cast to first.

    Returns
    -------
    ndarray or scalar
        The shape of `x` without `axis`; -inf where nothing is summed.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    .. math:: \log \sum_j e^{x_j} = m + \log\Big(1 + \sum_{j \ne \arg\max} e^{x_j - m}\Big)

    Where :math:`m` would cancel digits of the logarithm, :math:`\sum_j e^{x_j} - 1` is taken with
    twice the digits instead. Results are within 2 units of the last place, or 16 times the square
    of the dtype's eps. A row with a NaN is NaN, one with +inf is +inf, one of -inf alone is -inf.

    Examples
    --------
    >>> from csoftmax import logsumexp
    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    if not isinstance(keepdims, (bool, np.bool_)):
        raise TypeError(f"keepdims is {keepdims!r}: expected True or False")
    if overrides(x):
        whole = partial(kernels.logsumexp, keepdims=keepdims)
        return elsewhere(whole, (x,), axis, where=where, out=out, dtype=dtype)
    a, result = arguments.real(x, "x", dtype)
    axes = arguments.axes(axis, a.ndim)
    mask = arguments.mask(where, a.shape)
    shape = tuple(1 if i in axes else n for i, n in enumerate(a.shape) if keepdims or i not in axes)
    arguments.out_array(out, shape, result)
    if mask is None:
        total = reduced("logsumexp", (a,), axes, shape, result)
    else:
        total = reduced("logsumexp_where", (a, mask), axes, shape, result)
    if out is not None:
        out[...] = total
        return out
    return total.astype(result, copy=False)[()]


@kernels.compiled
def softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: Axis = -1, *, out: Array | None = None) -> Any:
    r"""Gradient with respect to the input of softmax.

    Parameters
    ----------
    y : array_like
        Output of `softmax`.
    grad : array_like
        Gradient with respect to `y`, of the same shape.
    axis : int, tuple of int or None, default -1
        Axis or axes of the classes.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned. It may be `y` or `grad`.

    Returns
    -------
    ndarray
        Vector-Jacobian product, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does, and if the shapes differ.

    Notes
    -----
    .. math:: y_i \Big(g_i - \sum_j y_j g_j\Big)

    The Jacobian is symmetric, so `softmax_jvp` is the same map; it is also the product of the
    Hessian of cross-entropy with a vector.

    Examples
    --------
    >>> from csoftmax import softmax_vjp
    >>> softmax_vjp([0.25, 0.75], [1.0, 0.0])
    array([ 0.1875, -0.1875])
    """
    return _product("softmax_vjp", y, "y", grad, axis, out)


def softmax_jvp(y: ArrayLike, grad: ArrayLike, axis: Axis = -1, *, out: Array | None = None) -> Any:
    """Directional derivative of softmax: `softmax_vjp`, as the Jacobian is symmetric.

    Parameters
    ----------
    y : array_like
        Output of `softmax`.
    grad : array_like
        Direction in the space of logits, of the same shape.
    axis : int, tuple of int or None, default -1
        Axis or axes of the classes.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned. It may be `y` or `grad`.

    Returns
    -------
    ndarray
        Jacobian-vector product, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError
        As `softmax_vjp` does.

    Examples
    --------
    >>> from csoftmax import softmax_jvp
    >>> softmax_jvp([0.5, 0.5], [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    return softmax_vjp(y, grad, axis, out=out)


@kernels.compiled
def log_softmax_vjp(
    log_y: ArrayLike, grad: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    r"""Gradient with respect to the input of log_softmax.

    Parameters
    ----------
    log_y : array_like
        Output of `log_softmax`.
    grad : array_like
        Gradient with respect to `log_y`, of the same shape.
    axis : int, tuple of int or None, default -1
        Axis or axes of the classes.
    out : ndarray, optional
        Array of the result's shape and dtype, written and returned. It may be `log_y` or `grad`.

    Returns
    -------
    ndarray
        Vector-Jacobian product, of the shape of `log_y`.

    Raises
    ------
    TypeError, ValueError
        As `softmax_vjp` does.

    Notes
    -----
    .. math:: g_i - e^{\log y_i} \sum_j g_j

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import log_softmax_vjp
    >>> log_softmax_vjp(np.log([0.25, 0.75]), [1.0, 0.0])
    array([ 0.75, -0.75])
    """
    return _product("log_softmax_vjp", log_y, "log_y", grad, axis, out)


def softmax_jacobian(y: ArrayLike, axis: int = -1) -> Any:
    r"""Jacobian matrices of softmax, for teaching and tests; `softmax_vjp` needs none.

    Parameters
    ----------
    y : array_like
        Output of `softmax`, with n classes along `axis`.
    axis : int, default -1
        Axis of the classes.

    Returns
    -------
    ndarray
        Shape ``(..., n, n)``: a symmetric matrix for each row, on the last two axes.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    .. math:: J = \operatorname{diag}(y) - y y^T

    Examples
    --------
    >>> from csoftmax import softmax_jacobian
    >>> softmax_jacobian([0.25, 0.75])
    array([[ 0.1875, -0.1875],
           [-0.1875,  0.1875]])
    """
    a, result = arguments.real(y, "y")
    p = np.moveaxis(a, arguments.one_axis(axis, a.ndim), -1)
    p = p.astype(arguments.computing_dtype(result), copy=False)
    with np.errstate(all="ignore"):
        jacobian = np.multiply(p[..., :, None], -p[..., None, :], order="C")
        diagonal = np.einsum("...ii->...i", jacobian)
        diagonal += p
        return jacobian.astype(result, copy=False)


# ------------------------------------------------------------------------------- common to several


def overrides(x: Any) -> bool:
    """Whether `x` applies gufuncs its own way, as Dask arrays and pandas data frames do."""
    return not isinstance(x, np.ndarray) and getattr(x, "__array_ufunc__", None) is not None


def elsewhere(kernel: Any, operands: tuple[Any, ...], axis: Axis, **options: Any) -> Any:
    """Leaves the call to the operands' own ``__array_ufunc__``, which knows `axis` and no more."""
    names = " and ".join(type(operand).__name__ for operand in operands)
    for name, value in options.items():
        if value is not None:
            raise TypeError(f"{name} is given: expected None for {names}, which is no NumPy array")
    arguments.integer(axis, "axis", f"an integer for {names}, which is no NumPy array")
    return kernel(*operands, axis=axis)


def tempered(name: str, temperature: float) -> Any:
    """The kernel `name` of an operand that is divided by `temperature` first."""
    if arguments.temperature(temperature, arguments.DOUBLE) == 1:
        return getattr(kernels, name)
    kernel = getattr(kernels, f"{name}_tempered")
    return lambda x, axis: kernel(x, np.float64(temperature), axis=axis)


def _normalize(
    name: str,
    x: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    out: Array | None,
    dtype: DTypeLike | None,
    temperature: float,
) -> Any:
    a, result = arguments.real(x, "x", dtype)
    axes = arguments.axes(axis, a.ndim)
    temperature = arguments.temperature(temperature, arguments.computing_dtype(result))
    mask = arguments.mask(where, a.shape)
    arguments.out_array(out, a.shape, result)
    if mask is None:
        return along(name, (a,), axes, out, result, temperature)
    return along(name + "_where", (a, mask), axes, out, result, temperature)


def _product(
    kernel: str, y: ArrayLike, name: str, grad: ArrayLike, axis: Axis, out: Array | None
) -> Any:
    if overrides(y) or overrides(grad):
        if np.shape(y) != np.shape(grad):
            raise ValueError(
                f"grad has shape {np.shape(grad)}: expected {np.shape(y)}, the shape of {name}"
            )
        return elsewhere(getattr(kernels, kernel), (y, grad), axis, out=out)
    p, g, result = arguments.real_pair(y, name, grad, "grad")
    axes = arguments.axes(axis, p.ndim)
    arguments.out_array(out, p.shape, result)
    return along(kernel, (p, g), axes, out, result)
