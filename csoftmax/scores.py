"""Scores and samples of logits: log-probabilities at labels, the largest ones, entropies, draws.

Nothing of the size of the logits is allocated for NumPy arrays that a kernel takes as they are. For
any other, which becomes a contiguous array first, `kernels.direct_topk` and `direct_sample` give
None, and what is `kernels.compiled` comes here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax import arguments
from csoftmax.arguments import Array, Axis
from csoftmax.axes import reduced
from csoftmax.dispatch import kernels
from csoftmax.functional import elsewhere, overrides, tempered

__all__ = ["log_softmax_gather", "log_softmax_topk", "sample_categorical", "softmax_entropy"]

Seed = int | np.random.SeedSequence | np.random.BitGenerator | np.random.Generator | None

_direct_topk = kernels.direct_topk
_direct_sample = kernels.direct_sample


@kernels.compiled
def log_softmax_gather(
    logits: ArrayLike, target: ArrayLike, axis: int = -1, *, temperature: float = 1.0
) -> Any:
    r"""Log-probability of the target class of each row; no other is stored.

    Parameters
    ----------
    logits : array_like
        Unnormalized log-probabilities, with C classes along `axis`; dtypes as for `log_softmax`.
    target : array_like
        Labels in [0, C), of any integer dtype and the shape of `logits` without `axis`.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        What `logits` are divided by, as in `softmax`.

    Returns
    -------
    ndarray or scalar
        The shape of `target`, in the dtype of `logits`; -inf where the logit is.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If `target` has a wrong shape, `axis` is out of range (`numpy.exceptions.AxisError`), or
        `temperature` is not positive and finite.
    IndexError
        If a label is not in [0, C); it names the label and its position.

    Notes
    -----
    .. math:: x_y - \log \sum_j e^{x_j}

    which is minus the `cross_entropy` of labels with reduction "none", from the same kernel, and
    has the bits of ``log_softmax(logits)`` at the labels: within 3 units of the last place, also
    where the target has nearly all probability.

    Examples
    --------
    >>> from csoftmax import log_softmax_gather
    >>> log_softmax_gather([[0.0, 0.0], [40.0, 0.0]], [1, 0])
    array([-6.93147181e-01, -4.24835426e-18])
    """
    x, result = arguments.real(logits, "logits")
    axis = arguments.one_axis(axis, x.ndim)
    temperature = arguments.temperature(temperature, arguments.computing_dtype(result))
    t = arguments.array(target, "target")
    if arguments.kind(t.dtype) not in "iu":
        raise TypeError(f"target has dtype {t.dtype}: expected integers (labels)")
    samples = x.shape[:axis] + x.shape[axis + 1 :]
    if t.shape != samples:
        raise ValueError(
            f"target has shape {t.shape}: expected {samples}, "
            "the shape of logits without the class axis"
        )
    arguments.labels(t, 0, x.shape[axis], "target")
    if x.size == 0:
        return np.empty(samples, result)
    t = np.ascontiguousarray(t, np.int64).reshape(samples)
    gathered = kernels.direct_gather(_contiguous_rows(x, axis), t, -1, temperature)
    return np.asarray(gathered).astype(result, copy=False)[()]


@kernels.compiled
def softmax_entropy(logits: ArrayLike, axis: Axis = -1, *, temperature: float = 1.0) -> Any:
    r"""Entropy of softmax in nats, without the probabilities.

    Parameters
    ----------
    logits : array_like
        Unnormalized log-probabilities, of any shape; dtypes as for `softmax`.
    axis : int, tuple of int or None, default -1
        Axis or axes of the classes; None takes all.
    temperature : float, default 1.0
        What `logits` are divided by, as in `softmax`.

    Returns
    -------
    ndarray or scalar
        The shape of `logits` without `axis`: 0 for a row with one possible class, log(C) for one of
        C equal logits. NaN for a row with a NaN or +inf, or nothing but -inf.

    Raises
    ------
    TypeError, ValueError
        As `softmax` does.

    Notes
    -----
    With :math:`m = \max x` and :math:`y = \operatorname{softmax}(x)`,

    .. math:: -\sum_j y_j \log y_j = \log\Big(1 + \sum_{j \ne \arg\max} e^{x_j - m}\Big)
       + \frac{\sum_j e^{x_j - m} (m - x_j)}{\sum_j e^{x_j - m}}

    No term is negative, so nothing cancels: results are within 4 units of the last place, also for
    confident rows. A logit of -inf contributes 0.

    Examples
    --------
    >>> from csoftmax import softmax_entropy
    >>> softmax_entropy([[0.0, 0.0], [40.0, 0.0]])
    array([6.93147181e-01, 1.74182524e-16])
    """
    if overrides(logits):
        return elsewhere(tempered("softmax_entropy", temperature), (logits,), axis)
    x, result = arguments.real(logits, "logits")
    axes = arguments.axes(axis, x.ndim)
    temperature = arguments.temperature(temperature, arguments.computing_dtype(result))
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    entropy = reduced("softmax_entropy", (x,), axes, shape, result, temperature)
    return entropy.astype(result, copy=False)[()]


def log_softmax_topk(
    logits: ArrayLike, k: int, axis: int = -1, *, temperature: float = 1.0
) -> tuple[Array, NDArray[np.int64]]:
    r"""The k largest log-probabilities of each row, and their classes; no others are stored.

    Parameters
    ----------
    logits : array_like
        Unnormalized log-probabilities, with C classes along `axis`; dtypes as for `log_softmax`.
    k : int
        How many, from 1 to C.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        What `logits` are divided by, as in `softmax`.

    Returns
    -------
    values : ndarray
        Log-probabilities in descending order, the shape of `logits` with length k along `axis`.
    indices : ndarray of int64
        Their classes, in the same shape; of equal logits the lower class comes first.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If `k` is not in [1, C], `axis` is out of range (`numpy.exceptions.AxisError`), or
        `temperature` is not positive and finite.

    Notes
    -----
    The values have the bits of ``log_softmax(logits)`` at the indices. A row with a NaN or +inf, or
    of -inf alone, has NaN for values; its indices are those of its largest entries, where a NaN is
    as small as -inf. Each row is read once more than by `logsumexp`, past a heap of its k largest
    entries so far, which lies in the result.

    Examples
    --------
    >>> from csoftmax import log_softmax_topk
    >>> values, indices = log_softmax_topk([[0.0, 1.0, 3.0, 1.0]], 3)
    >>> values
    array([[-0.27797837, -2.27797837, -2.27797837]])
    >>> indices
    array([[2, 1, 3]])
    """
    found = _direct_topk(logits, k, axis, temperature)
    if found is None:
        x, result = arguments.real(logits, "logits")
        axis = arguments.one_axis(axis, x.ndim)
        temperature = arguments.temperature(temperature, arguments.computing_dtype(result))
        classes = x.shape[axis]
        if not 1 <= arguments.integer(k, "k") <= classes:
            raise ValueError(
                f"k is {k}: expected at least 1 and at most {classes}, the number of classes"
            )
        if x.size == 0:
            shape = (*x.shape[:axis], int(k), *x.shape[axis + 1 :])
            return np.empty(shape, result), np.empty(shape, np.int64)
        found = _direct_topk(_contiguous_rows(x, axis), int(k), -1, temperature)
    else:
        result = arguments.result_dtype(logits)  # type: ignore[arg-type]
    values, indices = found
    with np.errstate(all="ignore"):
        values = values.astype(result, copy=False)
    if axis in (-1, values.ndim - 1):
        return values, indices
    return np.moveaxis(values, -1, axis), np.moveaxis(indices, -1, axis)


def sample_categorical(
    logits: ArrayLike,
    rng: Seed = None,
    size: int | tuple[int, ...] | None = None,
    axis: int = -1,
    *,
    temperature: float = 1.0,
) -> Any:
    r"""Random classes, each with its probability by softmax, which is not stored.

    Parameters
    ----------
    logits : array_like
        Unnormalized log-probabilities, with C classes along `axis`; dtypes as for `softmax`.
    rng : None, int, SeedSequence, BitGenerator or Generator, optional
        What `numpy.random.default_rng` makes a generator of; a Generator is used, and advanced.
    size : int or tuple of int, optional
        Shape of the samples of each row; None gives one.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        What `logits` are divided by, as in `softmax`.

    Returns
    -------
    ndarray of int64, or scalar
        Classes in [0, C). The shape is `size`, followed by that of `logits` without `axis`.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If a row has a NaN or +inf, or nothing but -inf; it names the first. Also if `size`, `rng`
        or `axis` is out of range, or `temperature` is not positive and finite.

    Notes
    -----
    Each sample takes a number :math:`u` of ``rng.random(shape)``, uniform in [0, 1) with 53 bits,
    and gives the first class :math:`j` with

    .. math:: \sum_{i \le j} e^{x_i - m} > u \sum_i e^{x_i - m}, \quad m = \max x

    (inverse transform), the sums in float64 or wider. There are no probabilities that must sum to
    1, and a class with probability 0 is never drawn. Samples depend on seed and logits alone, not
    on threads or memory layout. Another instruction set may round the sums otherwise, and gives
    another class if :math:`u` is as near as that to the border of two.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import sample_categorical
    >>> sample_categorical(np.log([0.1, 0.2, 0.7]), rng=0, size=8)
    array([2, 1, 0, 0, 2, 2, 2, 2])
    >>> sample_categorical([[0.0, -np.inf], [-np.inf, 5.0]], rng=0)
    array([0, 1])
    """
    x, result = arguments.real(logits, "logits")
    axis = arguments.one_axis(axis, x.ndim)
    temperature = arguments.temperature(temperature, arguments.computing_dtype(result))
    shape = _sample_shape(size)
    generator = _generator(rng)
    if not x.shape[axis]:
        raise ValueError(f"logits has shape {x.shape}: expected at least one class")
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    uniforms = np.empty((math.prod(shape), *rows))
    generator.random(out=uniforms)
    # with no sample at all, one for the check of the rows
    drawn = uniforms if len(uniforms) else np.zeros((1, *rows))
    if x.size and not _draw(x, drawn, axis, temperature):
        bad = np.argwhere(np.isnan(softmax_entropy(x, axis, temperature=temperature)))[0]
        at = f"[{', '.join(map(str, bad))}]" if rows else ""
        raise ValueError(
            f"logits{at} has no distribution: expected finite numbers or -inf, not -inf alone"
        )
    return uniforms.view(np.int64).reshape(shape + rows)[()]


# ------------------------------------------------------------------------------- common to several


def _contiguous_rows(x: Array, axis: int) -> Array:
    """A copy with the classes last, in a dtype that the kernels take."""
    return np.ascontiguousarray(np.moveaxis(x, axis, -1), arguments.result_dtype(x))


def _draw(x: Array, uniforms: Array, axis: int, temperature: float) -> bool:
    """Classes in the place of the uniforms; whether every row has a distribution."""
    good = _direct_sample(x, uniforms, axis, temperature)
    if good is None:
        good = _direct_sample(_contiguous_rows(x, axis), uniforms, -1, temperature)
    return bool(good)


def _sample_shape(size: int | tuple[int, ...] | None) -> tuple[int, ...]:
    expected = "expected None, an integer of at least 0 or a tuple of them"
    shape = () if size is None else size if isinstance(size, tuple) else (size,)
    for n in shape:
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"size is {size!r}: {expected}")
        if n < 0:
            raise ValueError(f"size is {size!r}: {expected}")
    return tuple(int(n) for n in shape)


def _generator(rng: Seed) -> np.random.Generator:
    expected = "expected None, a seed of at least 0, a SeedSequence or a Generator"
    given = (int, np.integer, np.random.SeedSequence, np.random.BitGenerator, np.random.Generator)
    if isinstance(rng, (bool, np.bool_)) or not (rng is None or isinstance(rng, given)):
        raise TypeError(f"rng is {rng!r}: {expected}")
    if isinstance(rng, (int, np.integer)) and rng < 0:
        raise ValueError(f"rng is {rng!r}: {expected}")
    return np.random.default_rng(rng)
