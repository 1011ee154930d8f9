"""The exact answers, and errors in units of the last place (ULP).

Everything is computed in the next wider dtype, with x - max in two words, the sum without the
maximum, and the gap 1 - p from the other terms: nothing cancels, so a result is wrong by some
thousandths of an ULP of the dtype of x. Only logsumexp near 0 needs mpmath. test_truth.py holds all
of it to mpmath's 50 digits, by ``Digits``. The classes lie on the last axis.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import mpmath
import numpy as np

WIDER = {"float16": np.float64, "float32": np.float64, "float64": np.longdouble}
WIDE_ENOUGH = np.finfo(np.longdouble).nmant >= 63
NOT_WIDE_ENOUGH = "longdouble is no wider than float64 here"
MP = mpmath.MPContext()
MP.dps = 50


def wider(x: Any) -> Any:
    """x in a dtype with at least 11 more bits."""
    return np.asarray(x).astype(WIDER[np.asarray(x).dtype.name])


class Rows:
    """Rows of logits, and what the functions of csoftmax give for them."""

    def __init__(self, x: Any) -> None:
        self.given = x
        x = wider(x)
        self.max = x.max(-1, keepdims=True)
        # x - max = gap + lost, exactly (Knuth's TwoSum)
        self.gap = x - self.max
        part = self.gap - x
        lost = (x - (self.gap - part)) - (self.max + part)
        self.term = np.exp(self.gap)
        self.term += self.term * lost
        self.top = self.gap.argmax(-1)[..., None]  # one of the maxima
        below = self.term.copy()
        np.put_along_axis(below, self.top, 0, -1)
        self.rest = below.sum(-1, keepdims=True)

    @cached_property
    def softmax(self) -> Any:
        return self.term / (1 + self.rest)

    @cached_property
    def others(self) -> Any:
        """1 - softmax: the sum of the other terms, over that of all."""
        others = (1 + self.rest) - self.term
        np.put_along_axis(others, self.top, self.rest, -1)
        return others / (1 + self.rest)

    @cached_property
    def log_softmax(self) -> Any:
        return self.gap - np.log1p(self.rest)

    @cached_property
    def logsumexp(self) -> Any:
        log_rest = np.log1p(self.rest)[..., 0]
        result = self.max[..., 0] + log_rest
        # where too many of the bits cancel that the wider dtype has more
        spare = np.finfo(result.dtype).nmant - np.finfo(self.given.dtype).nmant
        for i in np.argwhere(np.abs(result) < np.ldexp(log_rest, 8 - spare)):
            exact = Digits(self.given[tuple(i)]).logsumexp
            high = float(exact)
            result[tuple(i)] = result.dtype.type(high) + float(exact - high)
        return result

    @cached_property
    def entropy(self) -> Any:
        mean = (self.term * -self.gap).sum(-1, keepdims=True) / (1 + self.rest)
        return (np.log1p(self.rest) + mean)[..., 0]

    def cross_entropy(self, weights: Any) -> Any:
        """-sum(weights * log_softmax), the loss of each row."""
        return -(weights * self.log_softmax).sum(-1)

    def gradient(self, weights: Any) -> tuple[Any, Any]:
        """Gradient of the loss, softmax * sum(weights) - weights, and the size of its terms.

        Where a class has all the weight nothing need cancel: there the size is the gradient's own.
        """
        total = weights.sum(-1, keepdims=True)
        gradient = self.softmax * (total - weights) - weights * self.others
        own = np.abs(gradient)
        return gradient, np.where(weights == total, own, self.softmax * total + weights)


def softmax_vjp(y: Any, grad: Any) -> tuple[Any, Any]:
    """y * (grad - sum(y * grad)), and the size of its terms."""
    y, grad = wider(y), wider(grad)
    product = y * grad
    size = np.abs(y) * (np.abs(grad) + np.abs(product).sum(-1, keepdims=True))
    return y * (grad - product.sum(-1, keepdims=True)), size


def log_softmax_vjp(log_y: Any, grad: Any) -> tuple[Any, Any]:
    """grad - exp(log_y) * sum(grad), and the size of its terms."""
    y, grad = np.exp(wider(log_y)), wider(grad)
    size = np.abs(grad) + y * np.abs(grad).sum(-1, keepdims=True)
    return grad - y * grad.sum(-1, keepdims=True), size


def target_weights(
    target: Any, x: Any, *, class_weight: Any = None, label_smoothing: float = 0.0
) -> Any:
    """Weight of each class in the loss of each row of x, for labels or probabilities."""
    x, target = wider(x), np.asarray(target)
    classes, dtype = x.shape[-1], x.dtype
    c = np.ones(classes, dtype) if class_weight is None else wider(class_weight)
    if target.dtype.kind == "f":
        q = wider(target)
    else:
        q = np.zeros_like(x)
        np.put_along_axis(q, target[..., None], 1, -1)
    smoothing = dtype.type(label_smoothing)
    return c * ((1 - smoothing) * q + smoothing / classes)


def ulps(got: Any, want: Any, size: Any = None) -> Any:
    """Errors of ``got`` in units of the last place of its dtype at ``size``, or else at ``want``.

    The unit is that of the binade which holds the exact value, and below the smallest normal number
    the smallest subnormal one. A NaN is infinitely wrong.
    """
    got, want = np.asarray(got), np.asarray(want)
    size = want if size is None else size
    info = np.finfo(got.dtype)
    exponent = np.where(size == 0, info.minexp, np.frexp(size)[1] - 1)
    unit = np.maximum(exponent, info.minexp) - info.nmant
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.ldexp(np.abs(got.astype(want.dtype) - want), -unit)
    return np.where(np.isnan(error), np.inf, error)


class Digits:
    """One row with 50 digits, by the definitions, but for log1p and 1 - p."""

    def __init__(self, row: Any) -> None:
        self.x = [mpf(v) for v in row]
        self.max = max(self.x)
        self.top = self.x.index(self.max)
        self.term = [MP.exp(v - self.max) for v in self.x]
        self.rest = MP.fsum(t for i, t in enumerate(self.term) if i != self.top)
        self.log_rest = MP.log1p(self.rest)

    @property
    def softmax(self) -> list[Any]:
        return [t / (1 + self.rest) for t in self.term]

    @property
    def others(self) -> list[Any]:
        others = [1 + self.rest - t for t in self.term]
        others[self.top] = self.rest
        return [t / (1 + self.rest) for t in others]

    @property
    def log_softmax(self) -> list[Any]:
        return [v - self.max - self.log_rest for v in self.x]

    @property
    def logsumexp(self) -> Any:
        return self.max + self.log_rest

    @property
    def entropy(self) -> Any:
        mean = MP.fsum(t * (self.max - v) for t, v in zip(self.term, self.x, strict=True))
        return self.log_rest + mean / (1 + self.rest)


def mpf(value: Any) -> Any:
    """A NumPy number of any floating dtype, exactly."""
    numerator, denominator = value.as_integer_ratio()
    return MP.mpf(numerator) / denominator


def digits_ulps(got: Any, want: Any, dtype: Any, size: Any = None) -> float:
    """``ulps`` of one number against an mpmath number."""
    info = np.finfo(dtype)
    size = abs(want if size is None else size)
    exponent = MP.frexp(size)[1] - 1 if size else info.minexp
    unit = MP.ldexp(1, int(max(exponent, info.minexp) - info.nmant))
    return float(abs(mpf(got) - want) / unit)
