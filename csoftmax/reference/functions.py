"""The twins of softmax and its relatives, of the losses and of the encodings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "cce",
    "cce_gradient",
    "cross_entropy",
    "cross_entropy_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "one_hot",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "to_categorical",
]

Array = NDArray[Any]
Out = Array | None
Maybe = ArrayLike | None
Dtype = DTypeLike | None
Axis = int | tuple[int, ...] | None
Shape = tuple[int, ...]


# ---------------------------------------------------------------- softmax and its relatives


@np.errstate(all="ignore")
def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: Maybe = None,
    out: Out = None,
    dtype: Dtype = None,
    temperature: float = 1.0,
) -> Any:
    """exp(x) / sum(exp(x)) along ``axis``, of x / temperature; what ``where`` excludes is 0."""
    a, result = _real(x, "x", dtype)
    a = _tempered(a, temperature)
    axes = _axes(axis, a.ndim)
    a, mask = _masked(a, where)
    _check_out(out, a.shape, result)
    e = np.exp(a - _max(a, axes))
    e /= e.sum(axis=axes, keepdims=True)
    return _deliver(e if mask is None else np.where(mask, e, 0), out, result)


@np.errstate(all="ignore")
def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: Maybe = None,
    out: Out = None,
    dtype: Dtype = None,
    temperature: float = 1.0,
) -> Any:
    """x - logsumexp(x) along ``axis``, of x / temperature; what ``where`` excludes is -inf."""
    a, result = _real(x, "x", dtype)
    a = _tempered(a, temperature)
    axes = _axes(axis, a.ndim)
    a, mask = _masked(a, where)
    _check_out(out, a.shape, result)
    log_p = _log_softmax(a, axes)
    return _deliver(log_p if mask is None else np.where(mask, log_p, -np.inf), out, result)


@np.errstate(all="ignore")
def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    keepdims: bool = False,
    where: Maybe = None,
    out: Out = None,
    dtype: Dtype = None,
) -> Any:
    """log(sum(exp(x))) along ``axis``; -inf for a row with nothing in it."""
    a, result = _real(x, "x", dtype)
    axes = _axes(axis, a.ndim)
    if not isinstance(keepdims, (bool, np.bool_)):
        raise TypeError(f"keepdims is {keepdims!r}: expected True or False")
    a, _ = _masked(a, where)
    shape = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    if not keepdims:
        shape = tuple(n for i, n in enumerate(shape) if i not in axes)
    _check_out(out, shape, result)
    m = _max(a, axes)
    total = np.where(np.isinf(m), m, m + _log_rest(a, m, axes))
    return _deliver(total.reshape(shape), out, result)


@np.errstate(all="ignore")
def softmax_vjp(y: ArrayLike, grad: ArrayLike, axis: Axis = -1, *, out: Out = None) -> Any:
    """y * (grad - sum(y * grad)): the gradient of softmax's input, given that of its output y."""
    p, g, result = _real_pair(y, "y", grad, "grad")
    axes = _axes(axis, p.ndim)
    _check_out(out, p.shape, result)
    return _deliver(p * (g - (p * g).sum(axis=axes, keepdims=True)), out, result)


def softmax_jvp(y: ArrayLike, grad: ArrayLike, axis: Axis = -1, *, out: Out = None) -> Any:
    """Forward-mode product, the same map as ``softmax_vjp``: the Jacobian is symmetric."""
    return softmax_vjp(y, grad, axis, out=out)


@np.errstate(all="ignore")
def log_softmax_vjp(log_y: ArrayLike, grad: ArrayLike, axis: Axis = -1, *, out: Out = None) -> Any:
    """grad - exp(log_y) * sum(grad): the same for log_softmax and its output log_y."""
    log_p, g, result = _real_pair(log_y, "log_y", grad, "grad")
    axes = _axes(axis, log_p.ndim)
    _check_out(out, log_p.shape, result)
    return _deliver(g - np.exp(log_p) * g.sum(axis=axes, keepdims=True), out, result)


@np.errstate(all="ignore")
def softmax_jacobian(y: ArrayLike, axis: int = -1) -> Any:
    """diag(y) - y yᵀ for every row of y along ``axis``: shape (..., n, n)."""
    p, result = _real(y, "y")
    p = np.moveaxis(p, _one_axis(axis, p.ndim), -1)
    diagonal = np.where(np.eye(p.shape[-1], dtype=bool), p[..., None], 0)  # not inf * 0
    return _deliver(diagonal - p[..., :, None] * p[..., None, :], None, result)


# ---------------------------------------------------------------- losses


@np.errstate(all="ignore")
def cce(y: ArrayLike, yhat: ArrayLike, axis: Axis = None) -> Any:
    """-sum(y * log(yhat)) over ``axis`` (None: over everything), with 0 * log(0) = 0."""
    q, p, result = _real_pair(y, "y", yhat, "yhat")
    axes = _axes(axis, q.ndim)
    terms = np.where((q == 0) & ~np.isnan(p), 0, q * np.log(p))
    return _deliver(0 - terms.sum(axis=axes), None, result)


@np.errstate(all="ignore")
def cce_gradient(y: ArrayLike, yhat: ArrayLike) -> Any:
    """-y / yhat, the gradient of ``cce`` with respect to yhat, with 0 / 0 = 0."""
    q, p, result = _real_pair(y, "y", yhat, "yhat")
    return _deliver(np.where((q == 0) & (p == 0), 0, -q / p), None, result)


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: Maybe = None,
    sample_weight: Maybe = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """-sum(t * log_softmax(logits)), with the target weights t of ``_target_weights``."""
    options = (class_weight, sample_weight, ignore_index, label_smoothing)
    return _cross_entropy(logits, target, axis, options, reduction, None, False)[0]


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    class_weight: Maybe = None,
    sample_weight: Maybe = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Out = None,
) -> tuple[Any, Any]:
    """``cross_entropy`` and its gradient softmax * sum(t) - t; "none": the gradient of the sum."""
    options = (class_weight, sample_weight, ignore_index, label_smoothing)
    return _cross_entropy(logits, target, axis, options, reduction, out, True)


@np.errstate(all="ignore")
def _cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    options: tuple[Any, Any, Any, Any],
    reduction: str,
    out: Out,
    with_grad: bool,
) -> tuple[Any, Any]:
    a, result = _real(logits, "logits")
    class_axis = _one_axis(axis, a.ndim)
    if not isinstance(reduction, str):
        raise TypeError(f'reduction is {reduction!r}: expected "mean", "sum" or "none"')
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is {reduction!r}: expected "mean", "sum" or "none"')
    z = np.moveaxis(a, class_axis, -1)
    t, y, keep, denominator = _target_weights(z, target, a.shape, class_axis, *options)
    _check_out(out, a.shape, result)

    if keep is not None:
        z = np.where(keep[..., None], z, 0)
    log_p = _log_softmax(z, (-1,))
    log_py = log_p if y is None else np.take_along_axis(log_p, y, -1)
    losses = 0 - np.where((t == 0) & (log_py == -np.inf), 0, t * log_py).sum(axis=-1)
    loss = losses if reduction == "none" else losses.sum()
    if reduction == "mean":
        loss = loss / denominator if denominator else np.zeros_like(loss)
    loss = _deliver(loss, None, result)
    if not with_grad:
        return loss, None

    # p * sum(t) - t, split where t is not 0 so that p near 1 does not cancel
    total = t.sum(axis=-1, keepdims=True)
    gradient = np.exp(log_py) * (total - t) + t * np.expm1(log_py)
    if y is not None:
        at_label, gradient = gradient, np.exp(log_p) * total
        np.put_along_axis(gradient, y, at_label, -1)
    if reduction == "mean":
        gradient = gradient / denominator if denominator else np.zeros_like(gradient)
    return loss, _deliver(np.moveaxis(gradient, -1, class_axis), out, result)


def _target_weights(
    z: Array,
    target: ArrayLike,
    shape: Shape,
    class_axis: int,
    class_weight: Maybe,
    sample_weight: Maybe,
    ignore_index: int | None,
    label_smoothing: float,
) -> tuple[Array, Array | None, NDArray[np.bool_] | None, Any]:
    """t with loss = -sum(t * log_p), where t is, which samples count, the mean's denominator.

    t has a weight for each class, or (labels without smoothing) one at y, being 0 elsewhere.
    s = sample weight, w = class weight, e = label smoothing, C = number of classes:
    label y:          t_c = s * ((1 - e) * w_y * [c == y] + e / C * w_c),   denominator sum(s * w_y)
    probabilities q:  t_c = s * w_c * ((1 - e) * q_c + e / C),              denominator sum(s)
    """
    classes, samples = z.shape[-1], z.shape[:-1]
    w = np.ones(classes, z.dtype)
    if class_weight is not None:
        w = _real(class_weight, "class_weight")[0].astype(z.dtype)
        if w.shape != (classes,):
            raise ValueError(
                f"class_weight has shape {w.shape}: expected ({classes},), one weight a class"
            )
    s = np.ones(samples, z.dtype)
    if sample_weight is not None:
        s = _broadcast(_real(sample_weight, "sample_weight")[0], samples, "sample_weight")
        s = s.astype(z.dtype)
    if ignore_index is not None:
        _integer(ignore_index, "ignore_index", "an integer or None")
    smoothing = np.longdouble(_fraction(label_smoothing, "label_smoothing"))
    hard, spread = z.dtype.type(1 - smoothing), z.dtype.type(smoothing / max(classes, 1))

    q = np.asarray(target)
    keep = None
    if _kind(q.dtype) in "iu":
        if q.shape != samples:
            raise ValueError(
                f"target has shape {q.shape}: expected {samples} for labels, "
                "the shape of logits without the class axis"
            )
        good = (q >= 0) & (q < classes)
        labels = q.astype(np.int64)
        if ignore_index is not None:
            keep = np.asarray(q != ignore_index)
            good |= ~keep
            labels = np.where(keep, labels, 0)
            s = np.where(keep, s, 0)
        _check_labels(q, good, 0, classes, "target")
        if not classes:
            return np.zeros_like(z), None, keep, 0
        y, t = labels[..., None], (s * w[labels])[..., None]
        denominator = t.sum()
        if smoothing:
            at_label, t = hard * t, spread * (s[..., None] * w)
            np.put_along_axis(t, y, np.take_along_axis(t, y, -1) + at_label, -1)
            return t, None, keep, denominator
        return t, y, keep, denominator
    if _kind(q.dtype) == "f":
        if q.shape != shape:
            raise ValueError(
                f"target has shape {q.shape}: expected {shape} for probabilities, the shape of "
                "logits (labels must have an integer dtype)"
            )
        if ignore_index is not None:
            raise ValueError(
                f"ignore_index is {ignore_index}: expected None, as target holds probabilities"
            )
        q = np.moveaxis(q, class_axis, -1).astype(z.dtype)
        t = s[..., None] * w * (hard * q + spread)
        return t, None, None, s.sum()
    raise TypeError(
        f"target has dtype {q.dtype}: expected integers (labels) or floats (probabilities)"
    )


def linear_cross_entropy(
    x: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: Maybe = None,
    axis: int = -1,
    class_weight: Maybe = None,
    sample_weight: Maybe = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    block_size: int | None = None,
) -> Any:
    """``cross_entropy`` of x @ weight.T + bias; there are no blocks here."""
    return linear_cross_entropy_with_grad(
        x,
        weight,
        target,
        bias=bias,
        axis=axis,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        wrt=(),
        block_size=block_size,
    )[0]


@np.errstate(all="ignore")
def linear_cross_entropy_with_grad(
    x: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: Maybe = None,
    axis: int = -1,
    class_weight: Maybe = None,
    sample_weight: Maybe = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    wrt: str | Collection[str] = ("x", "weight", "bias"),
    block_size: int | None = None,
) -> tuple[Any, tuple[Any, Any, Any]]:
    """The same and its gradients (dx, dweight, dbias), None for what ``wrt`` does not name."""
    operands = [_real(x, "x"), _real(weight, "weight")]
    if bias is not None:
        operands.append(_real(bias, "bias"))
    (a, result), (w, _) = operands[:2]
    compute = np.result_type(*(operand for operand, _ in operands))
    if len({dtype for _, dtype in operands}) > 1:
        result = compute
    axis = _one_axis(axis, a.ndim)
    rows = np.moveaxis(a, axis, -1).astype(compute, copy=False)
    if w.ndim != 2 or w.shape[1] != rows.shape[-1]:
        raise ValueError(
            f"weight has shape {w.shape}: expected (C, {rows.shape[-1]}), "
            f"as x has {rows.shape[-1]} features along axis {axis}"
        )
    if bias is not None and operands[2][0].shape != w.shape[:1]:
        raise ValueError(
            f"bias has shape {operands[2][0].shape}: expected {w.shape[:1]}, one number a class"
        )
    if block_size is not None and _integer(block_size, "block_size", "an integer or None") < 1:
        raise ValueError(f"block_size is {block_size}: expected at least 1")
    names = (wrt,) if isinstance(wrt, str) else wrt
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise TypeError(f'wrt is {wrt!r}: expected some of "x", "weight" and "bias"')
    if not set(names) <= {"x", "weight", "bias"}:
        raise ValueError(f'wrt is {wrt!r}: expected some of "x", "weight" and "bias"')

    logits = rows @ w.T if bias is None else rows @ w.T + operands[2][0]
    loss, gradient = _cross_entropy(
        np.moveaxis(logits, -1, axis),
        target,
        axis,
        (class_weight, sample_weight, ignore_index, label_smoothing),
        reduction,
        None,
        True,
    )
    gradient = np.moveaxis(gradient, axis, -1)
    counts = gradient.any(axis=-1, keepdims=True)  # 0 * NaN is no zero
    count = int(np.prod(rows.shape[:-1]))
    flat = gradient.reshape(count, len(w))
    dx = dweight = dbias = None
    if "x" in names:
        dx = np.moveaxis(np.where(counts, gradient @ w, 0), -1, axis)
        dx = _deliver(dx, None, result)
    if "weight" in names:
        dweight = flat.T @ np.where(counts, rows, 0).reshape(count, rows.shape[-1])
        dweight = _deliver(dweight, None, result)
    if "bias" in names and bias is not None:
        dbias = _deliver(flat.sum(axis=0), None, result)
    return _deliver(loss, None, result), (dx, dweight, dbias)


# ---------------------------------------------------------------- encoding


def one_hot(
    labels: ArrayLike, num_classes: int | None = None, *, dtype: DTypeLike = float, axis: int = -1
) -> Array:
    """1 at each label, 0 elsewhere, with the classes on a new ``axis``; a bad label raises."""
    y = np.asarray(labels)
    if _kind(y.dtype) not in "iu":
        raise TypeError(f"labels has dtype {y.dtype}: expected integers")
    result = _dtype(dtype, "biufc", "a numeric dtype")
    position = _one_axis(axis, y.ndim + 1)
    if num_classes is None:
        if y.size == 0:
            raise ValueError("num_classes is None: expected a number, as labels is empty")
        num_classes = max(int(y.max()) + 1, 0)
    elif _integer(num_classes, "num_classes") < 1:
        raise ValueError(f"num_classes is {num_classes}: expected at least 1")
    _check_labels(y, (y >= 0) & (y < num_classes), 0, num_classes, "labels")
    return np.moveaxis((y[..., None] == np.arange(num_classes)).astype(result), -1, position)


@np.errstate(all="ignore")
def to_categorical(y: ArrayLike, num_classes: int | None = None) -> NDArray[np.float64]:
    """Keras' one-hot: truncates to integers, drops a last axis of 1, wraps negative labels."""
    given = np.asarray(y)
    if _kind(given.dtype) not in "biuf":
        raise TypeError(f"y has dtype {given.dtype}: expected real numbers")
    if given.ndim > 1 and given.shape[-1] == 1:
        given = given[..., 0]
    labels = given.astype(np.int64)
    if num_classes is not None:
        num_classes = _integer(num_classes, "num_classes")
        if num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}: expected at least 1")
    if not num_classes:  # Keras takes 0 for None
        if labels.size == 0:
            raise ValueError(f"num_classes is {num_classes}: expected a number, as y is empty")
        num_classes = max(int(labels.max()) + 1, 0)
    good = (labels >= -num_classes) & (labels < num_classes)
    _check_labels(given, good, -num_classes, num_classes, "y")
    wrapped = np.where(labels < 0, labels + num_classes, labels)[..., None]
    encoded: NDArray[np.float64] = (wrapped == np.arange(num_classes)).astype(np.float64)
    return encoded


# ---------------------------------------------------------------- shared arithmetic


def _max(a: Array, axes: Shape) -> Any:
    return a.max(axis=axes, keepdims=True, initial=-np.inf)


def _log_rest(a: Array, m: Array, axes: Shape) -> Any:
    """logsumexp(a) - m: log1p of the sum without one maximum, which is right for tiny sums too."""
    top = a == m
    rest = np.where(top, 0, np.exp(a - m)).sum(axis=axes, keepdims=True)
    return np.log1p(rest + (top.sum(axis=axes, keepdims=True) - 1).astype(a.dtype))


def _log_softmax(a: Array, axes: Shape) -> Any:
    m = _max(a, axes)
    m = np.where(m == np.inf, np.nan, m)  # a row with +inf has no softmax
    return (a - m) - _log_rest(a, m, axes)


def _deliver(value: Any, out: Out, dtype: np.dtype[Any]) -> Any:
    """Round to the result's dtype: into ``out``, or as a new array (a scalar if 0-d)."""
    if out is None:
        return np.asarray(value).astype(dtype, copy=False)[()]
    out[...] = value
    return out


# ---------------------------------------------------------------- checks of the arguments


def _kind(dtype: np.dtype[Any]) -> str:
    """Kind of a dtype of NumPy's own (below NPY_USERDEF); "f" for bfloat16, "V" for any other."""
    if 0 <= dtype.num < 256:
        return dtype.kind
    return "f" if dtype.name == "bfloat16" else "V"


def _dtype(dtype: DTypeLike, kinds: str, expected: str) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}: expected {expected}") from None
    if _kind(found) not in kinds:
        raise TypeError(f"dtype is {found}: expected {expected}")
    return found.newbyteorder("=")


def _real(x: ArrayLike, name: str, dtype: Dtype = None) -> tuple[Array, np.dtype[Any]]:
    """x in the dtype to compute in, and the dtype of the result."""
    a = np.asarray(x)
    if _kind(a.dtype) not in "biuf":
        raise TypeError(f"{name} has dtype {a.dtype}: expected real numbers")
    if dtype is not None:
        result = _dtype(dtype, "f", "a floating dtype")
    else:
        result = a.dtype.newbyteorder("=") if _kind(a.dtype) == "f" else np.dtype(np.float64)
    a = a.astype(result, copy=False)  # float16 and bfloat16 are computed in float32
    return a.astype(np.result_type(result, np.float32), copy=False), result


def _real_pair(
    x: ArrayLike, x_name: str, y: ArrayLike, y_name: str
) -> tuple[Array, Array, np.dtype[Any]]:
    """Two arrays of one shape in the dtype to compute in, and the dtype of the result."""
    (a, a_result), (b, b_result) = _real(x, x_name), _real(y, y_name)
    if a.shape != b.shape:
        raise ValueError(f"{y_name} has shape {b.shape}: expected {a.shape}, the shape of {x_name}")
    compute = np.result_type(a, b)
    return (
        a.astype(compute, copy=False),
        b.astype(compute, copy=False),
        a_result if a_result == b_result else compute,
    )


def _integer(value: Any, name: str, expected: str = "an integer") -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}: expected {expected}")
    return int(value)


def _fraction(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}: expected a real number in [0, 1]")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}: expected a real number in [0, 1]")
    return float(value)


def _tempered(a: Array, temperature: float) -> Array:
    """a / temperature, rounded once."""
    number = (int, float, np.integer, np.floating)
    if isinstance(temperature, bool) or not isinstance(temperature, number):
        raise TypeError(f"temperature is {temperature!r}: expected a positive finite number")
    try:
        divisor = a.dtype.type(float(temperature))
    except OverflowError:
        divisor = a.dtype.type(np.inf)
    if not 0 < divisor < np.inf:
        raise ValueError(
            f"temperature is {temperature!r}: expected a positive finite number in {a.dtype}"
        )
    quotient: Array = a / divisor
    return quotient


def _one_axis(axis: int, ndim: int) -> int:
    number = _integer(axis, "axis", "an integer")
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(number, ndim)
    return number % ndim


def _axes(axis: Axis, ndim: int) -> Shape:
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        _integer(axis, "axis", "an integer, a tuple of integers or None")
        axis = (axis,)
    axes = tuple(_one_axis(a, ndim) for a in axis)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis is {axis}: expected each axis once")
    return axes


def _broadcast(a: Array, shape: Shape, name: str) -> Array:
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise ValueError(
            f"{name} has shape {a.shape}: expected one that broadcasts to {shape}"
        ) from None


def _masked(a: Array, where: Maybe) -> tuple[Array, Any]:
    """a with -inf where ``where`` is False, and ``where`` as an array of a's shape (or None)."""
    if where is None:
        return a, None
    mask = np.asarray(where)
    if mask.dtype != bool:
        raise TypeError(f"where has dtype {mask.dtype}: expected bool")
    mask = _broadcast(mask, a.shape, "where")
    return np.where(mask, a, -np.inf), mask


def _check_labels(y: Array, good: Any, low: int, high: int, name: str) -> None:
    bad = np.argwhere(~np.asarray(good))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        index = f"[{', '.join(map(str, at))}]" if at else ""
        raise IndexError(f"{name}{index} is {y[at]}: expected a label in [{low}, {high})")


def _check_out(out: Out, shape: Shape, dtype: np.dtype[Any]) -> None:
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
