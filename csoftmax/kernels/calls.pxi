# calls.pxi - the public functions as they are called: compiled, in front of those of the same name in Python.
#
# A call on NumPy arrays that need no conversion goes straight to the kernels. The Python function, which also has
# the documentation and the signature, gets what they give None for.
from functools import update_wrapper


def compiled(function):
    """Decorator of a public function: the compiled one of its name, with `function` behind it."""
    return update_wrapper(in_front_of[function.__name__](function), function)


def in_front_of_softmax(function):
    def softmax(x, axis=-1, *, where=None, out=None, dtype=None, temperature=1.0):
        y = direct(SOFTMAX, x, None, axis, out, temperature) if where is None and dtype is None else None
        if y is not None:
            return y
        return function(x, axis, where=where, out=out, dtype=dtype, temperature=temperature)
    return softmax


def in_front_of_log_softmax(function):
    def log_softmax(x, axis=-1, *, where=None, out=None, dtype=None, temperature=1.0):
        y = direct(LOG_SOFTMAX, x, None, axis, out, temperature) if where is None and dtype is None else None
        if y is not None:
            return y
        return function(x, axis, where=where, out=out, dtype=dtype, temperature=temperature)
    return log_softmax


def in_front_of_logsumexp(function):
    def logsumexp(x, axis=-1, *, keepdims=False, where=None, out=None, dtype=None):
        if where is None and dtype is None and keepdims is False:
            total = direct(LOGSUMEXP, x, None, axis, out, 1.0)
            if total is not None:
                return total
        return function(x, axis, keepdims=keepdims, where=where, out=out, dtype=dtype)
    return logsumexp


def in_front_of_softmax_vjp(function):
    def softmax_vjp(y, grad, axis=-1, *, out=None):
        product = None if grad is None else direct(SOFTMAX_VJP, y, grad, axis, out, 1.0)
        return function(y, grad, axis, out=out) if product is None else product
    return softmax_vjp


def in_front_of_log_softmax_vjp(function):
    def log_softmax_vjp(log_y, grad, axis=-1, *, out=None):
        product = None if grad is None else direct(LOG_SOFTMAX_VJP, log_y, grad, axis, out, 1.0)
        return function(log_y, grad, axis, out=out) if product is None else product
    return log_softmax_vjp


def in_front_of_softmax_entropy(function):
    def softmax_entropy(logits, axis=-1, *, temperature=1.0):
        entropy = direct(ENTROPY, logits, None, axis, None, temperature)
        return function(logits, axis, temperature=temperature) if entropy is None else entropy
    return softmax_entropy


def in_front_of_log_softmax_gather(function):
    def log_softmax_gather(logits, target, axis=-1, *, temperature=1.0):
        gathered = direct_gather(logits, target, axis, temperature)
        return function(logits, target, axis, temperature=temperature) if gathered is None else gathered
    return log_softmax_gather


def in_front_of_cross_entropy(function):
    def cross_entropy(logits, target, *, axis=-1, class_weight=None, sample_weight=None, ignore_index=None,
                      label_smoothing=0.0, reduction="mean"):
        loss = direct_cross_entropy(logits, target, axis, class_weight, sample_weight, ignore_index, label_smoothing,
                                    reduction, False, None, 1, 1)
        if loss is not None:
            return loss
        return function(logits, target, axis=axis, class_weight=class_weight, sample_weight=sample_weight,
                        ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
    return cross_entropy


def in_front_of_cross_entropy_with_grad(function):
    def cross_entropy_with_grad(logits, target, *, axis=-1, class_weight=None, sample_weight=None, ignore_index=None,
                                label_smoothing=0.0, reduction="mean", out=None):
        both = direct_cross_entropy(logits, target, axis, class_weight, sample_weight, ignore_index, label_smoothing,
                                    reduction, True, out, 1, 1)
        if both is not None:
            return both
        return function(logits, target, axis=axis, class_weight=class_weight, sample_weight=sample_weight,
                        ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction, out=out)
    return cross_entropy_with_grad


in_front_of = {
    "softmax": in_front_of_softmax,
    "log_softmax": in_front_of_log_softmax,
    "logsumexp": in_front_of_logsumexp,
    "softmax_vjp": in_front_of_softmax_vjp,
    "log_softmax_vjp": in_front_of_log_softmax_vjp,
    "softmax_entropy": in_front_of_softmax_entropy,
    "log_softmax_gather": in_front_of_log_softmax_gather,
    "cross_entropy": in_front_of_cross_entropy,
    "cross_entropy_with_grad": in_front_of_cross_entropy_with_grad,
}
