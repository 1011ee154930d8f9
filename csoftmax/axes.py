"""Applies a kernel, which takes its classes along one axis, along any axis or several."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from csoftmax.arguments import Array, DType
from csoftmax.dispatch import kernels


def as_rows(a: Array, axes: tuple[int, ...]) -> Array:
    """`a` with `axes` as its last one: a view, unless several axes cannot be joined in place."""
    if len(axes) == 1:
        return np.moveaxis(a, axes[0], -1)
    lead = [n for i, n in enumerate(a.shape) if i not in axes]
    classes = math.prod(a.shape[i] for i in axes)
    moved = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
    return moved.reshape(*lead, classes)


def joins(a: Array, axes: tuple[int, ...]) -> bool:
    """Whether one stride leads through all of `axes`."""
    sides = [(a.shape[i], a.strides[i]) for i in axes if a.shape[i] != 1]
    return all(before == n * after for (_, before), (n, after) in itertools.pairwise(sides))


def along(
    name: str,
    operands: tuple[Array, ...],
    axes: tuple[int, ...],
    out: Array | None,
    dtype: DType,
    temperature: float = 1.0,
) -> Any:
    """The kernel `name` of the operands -> `out`, all of one shape, with classes along `axes`.

    The first operand is divided by `temperature`.
    """
    if out is None:
        out = np.empty_like(operands[0], dtype=dtype, subok=False)
        along(name, operands, axes, out, dtype, temperature)
        return out if out.ndim else out[()]
    first, *others = operands
    cast = first.dtype != dtype and (first.dtype.kind in "iub" or not first.dtype.isnative)
    if cast and not any(np.may_share_memory(out, other) for other in others):
        with np.errstate(all="ignore"):  # a cast in `out` itself, not beside it
            np.copyto(out, first, casting="unsafe")
        operands = (out, *others)
    number = kernels.numbers.get(name)
    if number is not None:
        second = operands[1] if len(operands) == 2 else None
        if kernels.direct(number, operands[0], second, axes, out, temperature) is not None:
            return out
    kernel, divisor = _tempered(name, temperature)
    if len(axes) == 1:
        kernel(*operands, *divisor, out=out, axis=axes[0])
        return out
    rows = [as_rows(operand, axes) for operand in operands]
    if out.size == 0 or joins(out, axes):
        kernel(*rows, *divisor, out=as_rows(out, axes))
    else:
        copied = rows[0].dtype == dtype and not np.may_share_memory(rows[0], operands[0])
        result = kernel(*rows, *divisor, out=rows[0] if copied else None)
        order = [i for i in range(out.ndim) if i not in axes] + list(axes)
        out[...] = result.reshape([out.shape[i] for i in order]).transpose(np.argsort(order))
    return out


def reduced(
    name: str,
    operands: tuple[Array, ...],
    axes: tuple[int, ...],
    shape: tuple[int, ...],
    dtype: DType,
    temperature: float = 1.0,
) -> Array:
    """The kernel `name` of operands of one shape, without `axes`: an array of `shape`."""
    first = operands[0]
    if len(operands) < 3 and first.dtype == dtype and name in kernels.numbers:
        second = operands[1] if len(operands) == 2 else None
        keep = len(axes) > 1
        kept = [1 if i in axes else n for i, n in enumerate(first.shape) if keep or i not in axes]
        total = np.empty(kept, dtype)
        number = kernels.numbers[name]
        if kernels.direct(number, first, second, axes, total, temperature) is not None:
            return total.reshape(shape)
    kernel, divisor = _tempered(name, temperature)
    return np.reshape(kernel(*(as_rows(a, axes) for a in operands), *divisor), shape)


def _tempered(name: str, temperature: float) -> tuple[Any, tuple[Any, ...]]:
    """The kernel `name`, and what it takes beside its operands."""
    if temperature == 1:
        return getattr(kernels, name), ()
    # a NumPy scalar: a plain number would make NumPy pick the float64 loop
    return getattr(kernels, f"{name}_tempered"), (np.float64(temperature),)
