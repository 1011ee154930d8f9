"""What the tests compare with: the truth in a wider dtype, errors in ULP, the twin, same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import truth as exact
from implementations import is_twin

import csoftmax.reference as twin


def kept(case: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """A function whose last arrays are kept, read-only, for the next implementation to meet them.

    conftest.py has a test's implementations run one after the other.
    """

    @lru_cache(maxsize=1)
    def last(*parameters: Any) -> Sequence[Any]:
        arrays = case(*parameters)
        for a in arrays:
            a.flags.writeable = False
        return arrays

    return last


def wider(x: Any) -> Any:
    """x in a dtype with at least 11 more bits."""
    if np.asarray(x).dtype == np.float64 and not exact.WIDE_ENOUGH:
        pytest.skip(exact.NOT_WIDE_ENOUGH)
    return exact.wider(x)


def truth(function: str, x: Any, **options: Any) -> Any:
    """``function`` of x by the twin in the next wider dtype; test_truth.py holds it to mpmath."""
    return getattr(twin, function)(wider(x), **options)


def ulps(got: Any, want: Any) -> float:
    """The largest error of ``got`` in units of its dtype's last place at the wider ``want``."""
    return float(np.max(exact.ulps(got, want), initial=0))


def bound(csm: ModuleType, dtype: Any, spread: float = 0.0, length: int = 1) -> float:
    """ULPs allowed. The twin also loses to the rounding of x - max and to plain running sums."""
    limit = 3.0 if np.dtype(dtype) == np.float32 else 4.0
    return limit + spread + 2 * float(np.sqrt(length)) if is_twin(csm) else limit


def assert_same_bits(csm: ModuleType, got: Any, want: Any) -> None:
    """Compiled results are equal bit for bit; the twin sums in an order that depends on strides."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if is_twin(csm):
        eps = 50 * np.finfo(got.dtype).eps
        np.testing.assert_allclose(got, want, rtol=eps, atol=eps * np.max(np.abs(want), initial=0))
    else:
        np.testing.assert_array_equal(got, want)


def assert_like_twin(csm: ModuleType, function: str, *args: Any, **options: Any) -> Any:
    """Same values (to rounding), dtype, shape and kind (array or scalar) as the twin's."""
    got = getattr(csm, function)(*args, **options)
    want = getattr(twin, function)(*args, **options)
    for g, w in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, want)), strict=True):
        assert g.dtype == w.dtype
        assert g.shape == w.shape
        assert isinstance(g, np.ndarray) == isinstance(w, np.ndarray)
        eps = np.finfo(g.dtype).eps if g.dtype.kind == "f" else 0
        np.testing.assert_allclose(g, w, rtol=60 * eps, atol=8 * eps)
    return got
