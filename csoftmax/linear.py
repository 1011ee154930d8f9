"""Cross-entropy of a linear classifier, and its gradients, without the logits of all samples.

Samples are taken in blocks, and their classes in pieces that stay in the cache: a matrix product
makes the logits of a piece in a buffer of the block, and a kernel adds them to its sums. After the
last piece there are the losses; then the kernel turns piece after piece into the gradient, in
place, and further products turn that into the gradients of the operands.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from csoftmax import arguments
from csoftmax.arguments import Array, DType
from csoftmax.dispatch import kernels
from csoftmax.losses import Problem

__all__ = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]

OPERANDS = ("x", "weight", "bias")

CACHE = 5 << 20  # bytes of samples and a piece of logits that a block should have: read often
LOGITS = 24 << 20  # bytes of logits that it may have in order to have
GOOD_ROWS = 192  # samples: with fewer, products wait for the memory of weight and its gradient
LEAST_ROWS = 48  # and never fewer than these: 49 MB of logits for 256,000 classes in float32
WHOLE_ROWS = 32  # samples in a multiple of these leave no lanes of the products empty


def linear_cross_entropy(
    x: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    block_size: int | None = None,
) -> Any:
    r"""Cross-entropy of the logits ``x @ weight.T + bias``, which are never stored as a whole.

    Parameters
    ----------
    x : array_like
        Samples with D features along `axis`: shape (N, D), or any other with one axis of D. Dtypes
        as for `csoftmax.softmax`.
    weight : array_like, shape (C, D)
        A row of weights for each class.
    target : array_like
        Labels in [0, C), of any integer dtype and the shape of `x` without `axis`; or
        probabilities, of a floating dtype and the shape of `x` with C in place of D.
    bias : array_like, shape (C,), optional
        Added to the logits.
    axis : int, default -1
        Axis of the features in `x`, and of the classes in target probabilities; 0 if samples are
        columns.
    class_weight, sample_weight, ignore_index, label_smoothing, reduction
        As in `csoftmax.cross_entropy`.
    block_size : int, optional
        Number of samples that are taken at a time. By default so many that they and their logits,
        up to 4096 classes, take 5 MB, but at least 192 samples; fewer if the logits of a block
        would take more than 25 MB, and 48 in any case. Target probabilities that are to be
        converted count as much as logits.

    Returns
    -------
    scalar or ndarray
        The loss, as `csoftmax.cross_entropy` returns it, in the common dtype of the operands.

    Raises
    ------
    TypeError
        If an argument has an unsuitable type or dtype.
    ValueError
        If an argument has a wrong shape or an option an unknown value.
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; it names the label and its position.

    Notes
    -----
    .. math:: L = \operatorname{cross\_entropy}(X W^\top + b,\ \text{target})

    Beside its operands it needs memory for the logits of one block and about 1 MB a thread.
    Operands of other dtypes than float32, float64 and longdouble, or of different ones, are
    converted: `weight` as a whole, samples block by block. Results have the same bits for any
    number of threads. Ignored samples take no time.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import linear_cross_entropy
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> weight = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> float(linear_cross_entropy(x, weight, [0, 1]).round(6))
    0.239545
    """
    linear = _Linear.of(x, weight, bias, axis, block_size)
    problem = linear.problem(
        target, class_weight, sample_weight, ignore_index, label_smoothing, reduction
    )
    return linear.evaluate(problem, ())[0]


def linear_cross_entropy_with_grad(
    x: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    wrt: str | Collection[str] = OPERANDS,
    block_size: int | None = None,
) -> tuple[Any, tuple[Array | None, Array | None, Array | None]]:
    r"""Cross-entropy of the logits ``x @ weight.T + bias`` and its gradients, in one pass.

    Parameters
    ----------
    x, weight, target, bias, axis, class_weight, sample_weight, ignore_index, label_smoothing,
    reduction, block_size
        As in `linear_cross_entropy`.
    wrt : {"x", "weight", "bias"} or several of them, default all
        With respect to what gradients are computed.

    Returns
    -------
    loss : scalar or ndarray
        As `linear_cross_entropy` returns it.
    gradients : tuple of three
        Gradients with respect to `x`, `weight` and `bias`, of their shapes and in the dtype of the
        loss; None for what `wrt` does not name and for a bias that there is not. For reduction
        "none" those of the sum of the losses.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `linear_cross_entropy` does, and for an unsuitable `wrt`.

    Notes
    -----
    With the gradient :math:`G` of `csoftmax.cross_entropy_with_grad` with respect to the logits, of
    shape (N, C), they are

    .. math:: \frac{\partial L}{\partial X} = G W, \quad
       \frac{\partial L}{\partial W} = G^\top X, \quad
       \frac{\partial L}{\partial b} = \sum_i G_i

    An ignored sample contributes nothing to any, and its own is 0, even where it holds NaN. Beside
    operands and gradients there are in memory the logits of one block and about 1 MB a thread.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax import linear_cross_entropy_with_grad
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> weight = np.zeros((2, 2))
    >>> loss, (dx, dweight, dbias) = linear_cross_entropy_with_grad(x, weight, [0, 1], wrt="weight")
    >>> dweight
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    >>> dx is None and dbias is None
    True
    """
    linear = _Linear.of(x, weight, bias, axis, block_size)
    problem = linear.problem(
        target, class_weight, sample_weight, ignore_index, label_smoothing, reduction
    )
    return linear.evaluate(problem, _names(wrt))


class _Linear(NamedTuple):
    """Checked operands."""

    x: Array  # (N, D), in the dtype that it came in
    weight: Array  # (C, D), with whole entries as strides, in the dtype to compute in
    bias: Array | None  # (C,), in that dtype
    result: DType
    samples: tuple[int, ...]  # shape of the samples, N in all
    axis: int
    block_size: int | None

    @classmethod
    @np.errstate(all="ignore")
    def of(
        cls,
        x: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None,
        axis: int,
        block_size: int | None,
    ) -> _Linear:
        a, result = arguments.real(x, "x")
        w, other = arguments.real(weight, "weight")
        result = _common(result, other)
        b = None
        if bias is not None:
            b, other = arguments.real(bias, "bias")
            result = _common(result, other)
        axis = arguments.one_axis(axis, a.ndim)
        features = a.shape[axis]
        if w.ndim != 2 or w.shape[1] != features:
            raise ValueError(
                f"weight has shape {w.shape}: expected (C, {features}), "
                f"as x has {features} features along axis {axis}"
            )
        if b is not None and b.shape != w.shape[:1]:
            raise ValueError(
                f"bias has shape {b.shape}: expected {w.shape[:1]}, one number a class"
            )
        dtype = arguments.computing_dtype(result)
        if block_size is not None:
            block_size = arguments.integer(block_size, "block_size", "an integer or None")
            if block_size < 1:
                raise ValueError(f"block_size is {block_size}: expected at least 1")
        samples = a.shape[:axis] + a.shape[axis + 1 :]
        return cls(
            np.moveaxis(a, axis, -1).reshape(int(np.prod(samples)), features),
            _entries(w, dtype),
            None if b is None else b.astype(dtype, copy=False),
            result,
            samples,
            axis,
            block_size,
        )

    def problem(self, target: ArrayLike, *options: Any) -> Problem:
        """That of logits which are not there, in the shape that target and options must fit."""
        shape = (*self.samples[: self.axis], len(self.weight), *self.samples[self.axis :])
        logits = np.broadcast_to(np.zeros((), self.weight.dtype), shape)
        return Problem.of(logits, target, self.axis, *options)

    @np.errstate(all="ignore")
    def evaluate(
        self, problem: Problem, wrt: Collection[str]
    ) -> tuple[Any, tuple[Array | None, Array | None, Array | None]]:
        """The loss, and the gradients that are named."""
        count, dtype = len(self.x), self.weight.dtype
        losses = np.zeros(count, dtype)
        dx = np.zeros_like(self.x, dtype, subok=False) if "x" in wrt else None
        dweight = np.zeros(self.weight.shape, dtype) if "weight" in wrt else None
        dbias = np.zeros_like(self.bias) if self.bias is not None and "bias" in wrt else None
        if not problem.empty:
            self._add_blocks(problem, bool(wrt), losses, dx, dweight, dbias)
        if dx is not None:
            dx = np.moveaxis(dx.reshape(*self.samples, self.x.shape[1]), -1, self.axis)
        loss = problem._replace(result=self.result).reduce(losses.reshape(self.samples))
        return loss, (self._deliver(dx), self._deliver(dweight), self._deliver(dbias))

    def _add_blocks(
        self,
        problem: Problem,
        with_grad: bool,
        losses: Array,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        target, scale = problem.target, problem.scale
        classes, features = self.weight.shape
        kept = None
        if target.dtype.kind == "i":
            target = target.reshape(-1)
            counts = target != problem.ignore_index
            if not counts.all():
                kept = np.flatnonzero(counts)
        else:
            target = np.moveaxis(target, self.axis, -1).reshape(len(self.x), classes)
        scale = scale.reshape(-1) if scale.ndim else np.broadcast_to(scale, len(self.x))
        count = len(self.x) if kept is None else len(kept)
        dtype = self.weight.dtype
        converted = target.dtype.kind != "i" and target.dtype != dtype
        size = self.block_size or _block_size(classes, features, dtype.itemsize * (1 + converted))
        size = max(1, min(size, count))
        buffer = np.empty((classes, size), dtype)

        for start in range(0, count, size):
            chosen: Any = slice(start, min(start + size, count))
            logits = buffer[:, : chosen.stop - start].T
            if kept is not None:
                chosen = kept[chosen]
            x = _entries(self.x[chosen], dtype)
            part = problem._replace(
                logits=logits, target=target[chosen], scale=scale[chosen], axis=1, reduction="none"
            )
            product = None
            if dx is not None:
                product = dx[chosen] if kept is None else np.zeros((len(x), features), dtype)
            losses[chosen] = self._add_block(x, part, with_grad, product, dweight, dbias)
            if dx is not None and kept is not None:
                dx[chosen] = product

    def _add_block(
        self,
        x: Array,
        problem: Problem,
        with_grad: bool,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> Array:
        """Losses of some samples; their gradients are added to those that are given."""
        logits, classes = problem.logits, len(self.weight)
        starts = range(0, classes, kernels.PIECE)
        pieces = [(first, min(first + kernels.PIECE, classes)) for first in starts]
        losses: Array
        by_features, sweeps = x, None
        if len(pieces) > 1:
            by_features, sweeps = np.asfortranarray(x), problem.piecewise()

        for first, last in pieces:
            piece = logits[:, first:last]
            if self.bias is not None:
                piece[...] = self.bias[first:last]
            _multiply(by_features, self.weight[first:last].T, piece, add=self.bias is not None)
            if sweeps is not None:
                sweeps.add(first, last)
        if sweeps is not None:
            losses = sweeps.losses()
        elif with_grad:
            losses, _ = problem.loss_and_gradient(logits)
        else:
            losses = problem.loss()
        if not with_grad:
            return losses

        for first, last in reversed(pieces):  # the last ones are still in the cache
            if sweeps is not None:
                sweeps.write_gradient(first, last)
            gradient = logits[:, first:last]
            if dx is not None:
                _multiply(gradient, self.weight[first:last], dx, add=True)
            if dweight is not None:
                _multiply(gradient.T, x, dweight[first:last], add=True)
            if dbias is not None:
                dbias[first:last] += gradient.sum(axis=0)
        return losses

    def _deliver(self, gradient: Array | None) -> Array | None:
        return None if gradient is None else gradient.astype(self.result, copy=False)


def _block_size(classes: int, features: int, itemsize: int) -> int:
    # `itemsize`: bytes for a sample and a class
    in_cache = CACHE // max(1, (min(classes, kernels.PIECE) + features) * itemsize)
    allowed = LOGITS // max(1, classes * itemsize)
    rows = min(max(in_cache, GOOD_ROWS), allowed)
    return max(LEAST_ROWS, rows // WHOLE_ROWS * WHOLE_ROWS)


def _common(a: DType, b: DType) -> DType:
    """The dtype of results of both; NumPy knows none of float16 and bfloat16."""
    if a == b:
        return a
    return np.result_type(arguments.computing_dtype(a), arguments.computing_dtype(b))


def _entries(a: Array, dtype: DType) -> Array:
    """A matrix in that dtype, copied if need be so that all bytes between entries make entries."""
    a = a.astype(dtype, copy=False)
    whole = a.flags.aligned and not any(stride % dtype.itemsize for stride in a.strides)
    return a if whole else a.copy()


def _multiply(a: Array, b: Array, out: Array, add: bool) -> None:
    """out = a @ b, or out += a @ b, where `out` is contiguous along its rows or its columns."""
    if out.strides[1] == out.itemsize:
        kernels.multiply(a, b, out, add)
    else:
        kernels.multiply(b.T, a.T, out.T, add)


def _names(wrt: str | Collection[str]) -> Collection[str]:
    names = (wrt,) if isinstance(wrt, str) else wrt
    expected = 'some of "x", "weight" and "bias"'
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"wrt is {wrt!r}: expected {expected}")
    if not set(names) <= set(OPERANDS):
        raise ValueError(f"wrt is {wrt!r}: expected {expected}")
    return names
