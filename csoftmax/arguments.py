"""Checks and conversions of arguments, before anything is computed or written.

Every error names the argument, its value and what was expected.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = "np.dtype[Any]"
Axis: TypeAlias = int | tuple[int, ...] | None

DOUBLE = np.dtype(np.float64)
USER_DEFINED = 256  # numbers of dtypes from here on are other packages' (NPY_USERDEF)


def kind(dtype: DType) -> str:
    """Kind of a dtype of NumPy's own; "f" for bfloat16, "V" for any other."""
    if 0 <= dtype.num < USER_DEFINED:
        return dtype.kind
    return "f" if dtype.name == "bfloat16" else "V"


def array(x: Any, name: str) -> Array:
    """`x` as a NumPy array; a CPU tensor of another library and a buffer are not copied."""
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    try:
        # What speaks DLPack alone would become an array that holds one object.
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
            return np.from_dlpack(x)
        return np.asarray(x)
    except (BufferError, RuntimeError, TypeError) as error:  # a gradient, a GPU, a layout
        raise TypeError(
            f"{name} is a {type(x).__name__}: expected one that NumPy can read ({error})"
        ) from error


def real(x: ArrayLike, name: str, dtype: DTypeLike | None = None) -> tuple[Array, DType]:
    """`x` as real numbers, cast to `dtype` if that is given, and the dtype of the result.

    bfloat16 comes as float32, since no kernel takes it; the result is cast back.
    """
    a = x if type(x) is np.ndarray else array(x, name)
    if kind(a.dtype) not in "fiub":
        raise TypeError(f"{name} has dtype {a.dtype}: expected real numbers")
    if dtype is not None:
        with np.errstate(all="ignore"):
            a = a.astype(numeric_dtype(dtype, "f", "a floating dtype"), copy=False)
    result = result_dtype(a)
    return (a.astype(np.float32) if result.kind == "V" else a), result


def real_pair(x: ArrayLike, x_name: str, y: ArrayLike, y_name: str) -> tuple[Array, Array, DType]:
    """Two arrays of one shape, in the dtype that the kernel takes, and the dtype of the result."""
    (a, result), (b, other) = real(x, x_name), real(y, y_name)
    if a.shape != b.shape:
        raise ValueError(f"{y_name} has shape {b.shape}: expected {a.shape}, the shape of {x_name}")
    if result != other:  # NumPy knows no common dtype of float16 and bfloat16
        result = np.result_type(computing_dtype(result), computing_dtype(other))
    dtype = computing_dtype(result) if result.kind == "V" else result
    if a.dtype != dtype or b.dtype != dtype:
        with np.errstate(invalid="ignore"):  # casts of signalling NaNs
            a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    return a, b, result


def result_dtype(a: Array) -> DType:
    """Floats keep their dtype, in native byte order; anything else becomes float64."""
    return a.dtype.newbyteorder("=") if kind(a.dtype) == "f" else DOUBLE


def computing_dtype(result: DType) -> DType:
    """float16 and bfloat16 are computed in float32."""
    return np.result_type(result, np.float32)


def numeric_dtype(dtype: DTypeLike, kinds: str, expected: str) -> DType:
    """`dtype` in native byte order, if its kind is among `kinds`."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}: expected {expected}") from None
    if kind(found) not in kinds:
        raise TypeError(f"dtype is {found}: expected {expected}")
    return found.newbyteorder("=")


def integer(value: Any, name: str, expected: str = "an integer") -> int:
    """`value` as an int; a bool or a float is none."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}: expected {expected}")
    return int(value)


def fraction(value: Any, name: str) -> float:
    """`value` as a float in [0, 1]."""
    expected = "a real number in [0, 1]"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}: expected {expected}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}: expected {expected}")
    return float(value)


def temperature(value: Any, dtype: DType) -> float:
    """`value` as a float that is positive and finite in `dtype`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"temperature is {value!r}: expected a positive finite number")
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    with np.errstate(all="ignore"):
        rounded = np.asarray(number).astype(dtype)
    if not 0 < rounded < np.inf:
        raise ValueError(f"temperature is {value!r}: expected a positive finite number in {dtype}")
    return number


def one_axis(axis: int, ndim: int, expected: str = "an integer") -> int:
    """`axis` counted from 0."""
    number = integer(axis, "axis", expected)
    if not -ndim <= number < ndim:
        raise AxisError(number, ndim)
    return number % ndim


def axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """All of `axis`, counted from 0; None is every axis."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        return (one_axis(axis, ndim, "an integer, a tuple of integers or None"),)
    numbers = tuple(one_axis(a, ndim) for a in axis)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"axis is {axis}: expected each axis once")
    return numbers


def out_array(out: Array | None, shape: tuple[int, ...], dtype: DType) -> None:
    """Refuses an `out` that cannot take the result as it is."""
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}: expected a NumPy array")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}: expected {shape}")
    if out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {out.dtype}: expected {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only: expected a writeable array")


def broadcast(a: Array, shape: tuple[int, ...], name: str) -> Array:
    """A view of `a` in that shape."""
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise ValueError(
            f"{name} has shape {a.shape}: expected one that broadcasts to {shape}"
        ) from None


def mask(where: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """`where` as bools of that shape, or None where everything counts."""
    if where is None:
        return None
    a = array(where, "where")
    if a.dtype != np.bool_:
        raise TypeError(f"where has dtype {a.dtype}: expected bool")
    return broadcast(a, shape, "where")


def labels(y: Array, low: int, high: int, name: str, ignore: int | None = None) -> None:
    """Refuses a label outside [low, high) that is not `ignore`, naming its position."""
    if y.size == 0 or (low <= y.min() and y.max() < high):
        return
    bad = (y < low) | (y >= high)
    if ignore is not None:
        bad &= y != ignore
    where = np.argwhere(bad)
    if len(where):
        at = tuple(int(i) for i in where[0])
        index = f"[{', '.join(map(str, at))}]" if at else ""
        raise IndexError(f"{name}{index} is {y[at]}: expected a label in [{low}, {high})")
