"""The functions as one writes them for numba: loops over rows, IEEE arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange


def softmax(x: Any, out: Any) -> Any:
    rows, classes = x.shape
    for i in prange(rows):
        largest = x[i, 0]
        for j in range(1, classes):
            largest = max(largest, x[i, j])
        total = 0.0
        for j in range(classes):
            out[i, j] = np.exp(x[i, j] - largest)
            total += out[i, j]
        for j in range(classes):
            out[i, j] /= total
    return out


def log_softmax(x: Any, out: Any) -> Any:
    rows, classes = x.shape
    for i in prange(rows):
        largest = x[i, 0]
        for j in range(1, classes):
            largest = max(largest, x[i, j])
        total = 0.0
        for j in range(classes):
            total += np.exp(x[i, j] - largest)
        log = largest + np.log(total)
        for j in range(classes):
            out[i, j] = x[i, j] - log
    return out


def logsumexp(x: Any, out: Any) -> Any:
    rows, classes = x.shape
    for i in prange(rows):
        largest = x[i, 0]
        for j in range(1, classes):
            largest = max(largest, x[i, j])
        total = 0.0
        for j in range(classes):
            total += np.exp(x[i, j] - largest)
        out[i] = largest + np.log(total)
    return out


def softmax_vjp(y: Any, grad: Any, out: Any) -> Any:
    rows, classes = y.shape
    for i in prange(rows):
        product = 0.0
        for j in range(classes):
            product += y[i, j] * grad[i, j]
        for j in range(classes):
            out[i, j] = y[i, j] * (grad[i, j] - product)
    return out


def cross_entropy_with_grad(x: Any, labels: Any, out: Any) -> Any:
    rows, classes = x.shape
    loss = 0.0
    for i in prange(rows):
        largest = x[i, 0]
        for j in range(1, classes):
            largest = max(largest, x[i, j])
        total = 0.0
        for j in range(classes):
            out[i, j] = np.exp(x[i, j] - largest)
            total += out[i, j]
        for j in range(classes):
            out[i, j] /= total * rows
        out[i, labels[i]] -= 1 / rows
        loss += np.log(total) + largest - x[i, labels[i]]
    return loss / rows, out
