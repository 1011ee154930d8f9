"""The twins of the scores: log-probabilities at labels, entropies, the largest, and samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax.reference.functions import (
    Array,
    Axis,
    _axes,
    _check_labels,
    _deliver,
    _integer,
    _kind,
    _log_rest,
    _log_softmax,
    _max,
    _one_axis,
    _real,
    _tempered,
)


@np.errstate(all="ignore")
def log_softmax_gather(
    logits: ArrayLike, target: ArrayLike, axis: int = -1, *, temperature: float = 1.0
) -> Any:
    """log_softmax at the labels."""
    z, result, _ = _rows(logits, axis, temperature)
    y = np.asarray(target)
    if _kind(y.dtype) not in "iu":
        raise TypeError(f"target has dtype {y.dtype}: expected integers (labels)")
    if y.shape != z.shape[:-1]:
        raise ValueError(
            f"target has shape {y.shape}: expected {z.shape[:-1]}, "
            "the shape of logits without the class axis"
        )
    _check_labels(y, (y >= 0) & (y < z.shape[-1]), 0, z.shape[-1], "target")
    labels = y.astype(np.int64)[..., None]
    return _deliver(np.take_along_axis(_log_softmax(z, (-1,)), labels, -1)[..., 0], None, result)


@np.errstate(all="ignore")
def softmax_entropy(logits: ArrayLike, axis: Axis = -1, *, temperature: float = 1.0) -> Any:
    """-sum(p log p): log(sum(e)) + sum(p (max - x)), all terms of which are positive."""
    a, result = _real(logits, "logits")
    axes = _axes(axis, a.ndim)
    a = _tempered(a, temperature)
    m = _max(a, axes)
    m = np.where(np.isinf(m), np.nan, m)
    e = np.exp(a - m)
    mean = np.where(e == 0, 0, e * (m - a)).sum(axis=axes) / e.sum(axis=axes)
    return _deliver(_log_rest(a, m, axes).reshape(mean.shape) + mean, None, result)


@np.errstate(all="ignore")
def log_softmax_topk(
    logits: ArrayLike, k: int, axis: int = -1, *, temperature: float = 1.0
) -> tuple[Any, NDArray[np.int64]]:
    """log_softmax of the k largest logits, and where they are; a NaN is as small as -inf."""
    z, result, class_axis = _rows(logits, axis, temperature)
    if not 1 <= _integer(k, "k") <= z.shape[-1]:
        raise ValueError(
            f"k is {k}: expected at least 1 and at most {z.shape[-1]}, the number of classes"
        )
    largest_first = np.argsort(-np.where(np.isnan(z), -np.inf, z), axis=-1, kind="stable")
    indices = largest_first[..., :k].astype(np.int64)
    values = np.take_along_axis(_log_softmax(z, (-1,)), indices, -1)
    return (
        _deliver(np.moveaxis(values, -1, class_axis), None, result),
        np.moveaxis(indices, -1, class_axis),
    )


@np.errstate(all="ignore")
def sample_categorical(
    logits: ArrayLike,
    rng: Any = None,
    size: int | tuple[int, ...] | None = None,
    axis: int = -1,
    *,
    temperature: float = 1.0,
) -> Any:
    """The first class whose cumulated term is over u * (sum of all), u being uniform."""
    z, _, _ = _rows(logits, axis, temperature)
    shape = _sample_shape(size)
    generator = _generator(rng)
    samples = z.shape[:-1]
    if not z.shape[-1]:
        raise ValueError(f"logits has shape {np.shape(logits)}: expected at least one class")
    e = np.exp(z - _max(z, (-1,)))
    cumulated = e.cumsum(-1, np.result_type(e, np.float64))
    total = cumulated[..., -1]
    bad = np.argwhere(~(total > 0))
    if len(bad):
        at = f"[{', '.join(map(str, bad[0]))}]" if samples else ""
        raise ValueError(
            f"logits{at} has no distribution: expected finite numbers or -inf, not -inf alone"
        )
    uniforms = np.empty((math.prod(shape), *samples))
    generator.random(out=uniforms)
    drawn = np.empty(uniforms.shape, np.int64)
    for i, u in enumerate(uniforms):
        drawn[i] = (cumulated <= (u * total)[..., None]).sum(-1)
    return drawn.reshape(shape + samples)[()]


def _rows(logits: ArrayLike, axis: int, temperature: float) -> tuple[Array, np.dtype[Any], int]:
    """logits / temperature with the classes last, the dtype of results, and the axis."""
    a, result = _real(logits, "logits")
    class_axis = _one_axis(axis, a.ndim)
    return np.moveaxis(_tempered(a, temperature), class_axis, -1), result, class_axis


def _sample_shape(size: int | tuple[int, ...] | None) -> tuple[int, ...]:
    expected = "expected None, an integer of at least 0 or a tuple of them"
    shape = () if size is None else size if isinstance(size, tuple) else (size,)
    for n in shape:
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"size is {size!r}: {expected}")
        if n < 0:
            raise ValueError(f"size is {size!r}: {expected}")
    return tuple(int(n) for n in shape)


def _generator(rng: Any) -> np.random.Generator:
    expected = "expected None, a seed of at least 0, a SeedSequence or a Generator"
    given = (int, np.integer, np.random.SeedSequence, np.random.BitGenerator, np.random.Generator)
    if isinstance(rng, (bool, np.bool_)) or not (rng is None or isinstance(rng, given)):
        raise TypeError(f"rng is {rng!r}: {expected}")
    if isinstance(rng, (int, np.integer)) and rng < 0:
        raise ValueError(f"rng is {rng!r}: {expected}")
    return np.random.default_rng(rng)
