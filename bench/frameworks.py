"""The peers with gradients of their own: PyTorch, JAX and TensorFlow. See peers.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cells import SCORES, SMOOTHING, Call, Cell, inputs

Calls = dict[str, Call]


class Torch:
    modules = ("torch",)
    names = ("torch", "torch fresh")

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.threads = f"torch.set_num_threads({threads})"

    def calls(self, cell: Cell) -> Calls:
        torch, arrays, axis = self.torch, inputs(cell), cell.axis
        if cell.target:
            return self.losses(cell)
        if cell.function in SCORES:
            return self.scores(cell)
        if cell.name == "softmax_vjp":
            y, grad = torch.from_numpy(arrays.y), torch.from_numpy(arrays.grad)
            out, vjp, dtype = torch.empty_like(y), torch._softmax_backward_data, y.dtype
            return {
                "torch": lambda: vjp(grad, y, axis, dtype, grad_input=out),
                "torch fresh": lambda: vjp(grad, y, axis, dtype),
            }
        x, function = torch.from_numpy(arrays.logits), getattr(torch, cell.name)
        out = torch.empty_like(function(x, axis))
        return {
            "torch": lambda: function(x, axis, out=out),
            "torch fresh": lambda: function(x, axis),
        }

    def scores(self, cell: Cell) -> Calls:
        """As its users write them, by whatever way is the fastest."""
        torch, axis, k = self.torch, cell.axis, cell.top
        x, t = torch.from_numpy(inputs(cell).logits), torch.from_numpy(inputs(cell).labels)
        if cell.temperature != 1:
            function, divisor = getattr(torch, cell.name), cell.temperature
            return {"torch fresh": lambda: function(x / divisor, axis)}

        def entropy() -> Any:
            log_p = torch.log_softmax(x, axis)
            return -(log_p.exp() * log_p).sum(axis)

        def topk() -> tuple[Any, Any]:
            values, indices = torch.topk(x, k, axis)
            return values - torch.logsumexp(x, axis, keepdim=True), indices

        at = t.unsqueeze(axis)
        calls = {
            "log_softmax_gather": lambda: torch.log_softmax(x, axis).gather(axis, at).squeeze(axis),
            "softmax_entropy": entropy,
            "log_softmax_topk": topk,
            "sample_categorical": lambda: torch.multinomial(torch.softmax(x, -1), 1)[:, 0],
        }
        if cell.name == "sample_categorical" and (axis != -1 or cell.classes > 2**24):
            return {}  # it has no axis, and no more classes
        return {"torch fresh": calls[cell.name]}

    def losses(self, cell: Cell) -> Calls:
        """By autograd; and by the operations that autograd calls, into memory given to them."""
        torch, aten, arrays, axis = self.torch, self.torch.ops.aten, inputs(cell), cell.axis
        x = torch.from_numpy(arrays.logits)
        leaf = x.detach().requires_grad_()
        options: dict[str, Any] = {}
        if cell.target == "weights and smoothing":
            options["weight"] = torch.from_numpy(arrays.class_weight)
            options["label_smoothing"] = SMOOTHING
        t = torch.from_numpy(getattr(arrays, cell.targets))
        # PyTorch's class axis is 1.
        turned, t1 = (leaf.T, t.T if t.ndim == 2 else t) if axis == 0 else (leaf, t)
        cross_entropy, grad = torch.nn.functional.cross_entropy, torch.autograd.grad

        def by_autograd() -> tuple[Any, Any]:
            loss = cross_entropy(turned, t1, **options)
            return loss.detach(), grad(loss, leaf)[0]

        log_y, inner, out = (torch.empty_like(x) for _ in range(3))
        loss, weight, one = (torch.ones((), dtype=x.dtype) for _ in range(3))
        dtype, samples = x.dtype, cell.size // cell.classes
        nll = aten.nll_loss_forward if x.ndim == 2 else aten.nll_loss2d_forward
        nll_vjp = aten.nll_loss_backward if x.ndim == 2 else aten.nll_loss2d_backward

        def of_labels() -> tuple[Any, Any]:
            torch._log_softmax(x, axis, False, out=log_y)
            nll.output(log_y, t, None, 1, -100, output=loss, total_weight=weight)
            nll_vjp.grad_input(one, log_y, t, None, 1, -100, weight, grad_input=inner)
            torch._log_softmax_backward_data(inner, log_y, axis, dtype, out=out)
            return loss, out

        def of_probabilities() -> tuple[Any, Any]:
            torch._log_softmax(x, axis, False, out=log_y)
            torch.mul(t, -1 / samples, out=inner)
            value = torch.mul(log_y, inner, out=out).sum()
            torch._log_softmax_backward_data(inner, log_y, axis, dtype, out=out)
            return value, out

        calls: Calls = {"torch fresh": by_autograd}
        if cell.target == "probabilities":
            calls["torch"] = of_probabilities
        elif cell.target == "labels" and axis != 0:  # their class axis is 1 as well
            calls["torch"] = of_labels
        return calls


class Jax:
    modules = ("jax",)
    names = ("JAX",)

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax = jax
        self.threads = f"{threads}, by the process's affinity"

    def calls(self, cell: Cell) -> Calls:
        if cell.function in SCORES:
            return {}
        jnp, x = self.jax.numpy, inputs(cell)
        compiled = self.jax.jit(self.function(cell))
        if not cell.target and cell.name != "softmax_vjp":
            logits = jnp.asarray(x.logits)
            return {"JAX": lambda: compiled(logits).block_until_ready()}
        if not cell.target:
            y, grad = jnp.asarray(x.y), jnp.asarray(x.grad)
            return {"JAX": lambda: compiled(y, grad).block_until_ready()}
        logits, t = jnp.asarray(x.logits), jnp.asarray(getattr(x, cell.targets))

        def loss_with_gradient() -> tuple[Any, Any]:
            loss, gradient = compiled(logits, t)
            return loss, gradient.block_until_ready()

        return {"JAX": loss_with_gradient}

    def function(self, cell: Cell) -> Callable[..., Any]:
        """What is compiled. Of the ways to write a loss, this one has the fastest code."""
        jax, jnp, axis = self.jax, self.jax.numpy, cell.axis
        samples = cell.size // cell.classes
        logsumexp = jax.scipy.special.logsumexp
        shape = [1] * len(cell.shape)
        shape[axis] = cell.classes
        weight = jnp.asarray(inputs(cell).class_weight).reshape(shape)

        def softmax_vjp(y: Any, grad: Any) -> Any:
            return y * (grad - jnp.sum(y * grad, axis, keepdims=True))

        def of_each(x: Any, labels: Any) -> Any:
            at_label = jnp.take_along_axis(x, jnp.expand_dims(labels, axis), axis)
            return logsumexp(x, axis) - jnp.squeeze(at_label, axis)

        def of_probabilities(x: Any, t: Any) -> Any:
            products = jnp.sum(t * x, axis)
            return jnp.sum(logsumexp(x, axis) * jnp.sum(t, axis) - products) / samples

        def with_options(x: Any, labels: Any) -> Any:
            own = weight.ravel()[labels]
            even = logsumexp(x, axis) * jnp.sum(weight) - jnp.sum(weight * x, axis)
            losses = (1 - SMOOTHING) * own * of_each(x, labels) + SMOOTHING / cell.classes * even
            return jnp.sum(losses) / jnp.sum(own)

        return {
            "softmax": lambda x: jax.nn.softmax(x, axis),
            "log_softmax": lambda x: jax.nn.log_softmax(x, axis),
            "logsumexp": lambda x: logsumexp(x, axis),
            "softmax_vjp": softmax_vjp,
            "labels": jax.value_and_grad(lambda x, labels: jnp.mean(of_each(x, labels))),
            "probabilities": jax.value_and_grad(of_probabilities),
            "weights and smoothing": jax.value_and_grad(with_options),
        }[cell.target or cell.name]


class TensorFlow:
    modules = ("tensorflow",)
    names = ("TensorFlow",)

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.get_logger().setLevel("ERROR")
        self.tf = tf
        self.threads = f"set_intra_op_parallelism_threads({threads})"

    def calls(self, cell: Cell) -> Calls:
        if cell.function in SCORES:
            return {}
        tf, x, axis = self.tf, inputs(cell), cell.axis
        if cell.name == "softmax_vjp":
            y, grad = tf.constant(x.y), tf.constant(x.grad)

            @tf.function
            def vjp(y: Any, grad: Any) -> Any:
                return y * (grad - tf.reduce_sum(y * grad, axis, keepdims=True))

            return {"TensorFlow": lambda: vjp(y, grad)}
        logits = tf.constant(x.logits)
        if not cell.target:
            names = {"logsumexp": tf.reduce_logsumexp}
            function = names.get(cell.name) or getattr(tf.nn, cell.name)
            return {"TensorFlow": lambda: function(logits, axis)}
        # One operation gives the losses and the gradient of their sum, for rows.
        if axis != -1 or cell.target == "weights and smoothing":
            return {}
        t = tf.constant(getattr(x, cell.targets))
        sparse = "Sparse" if cell.target == "labels" else ""
        both = getattr(tf.raw_ops, f"{sparse}SoftmaxCrossEntropyWithLogits")
        return {"TensorFlow": lambda: both(features=logits, labels=t)}
