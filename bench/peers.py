"""Who is measured: csoftmax and its peers, each with its setting of threads and its calls.

A peer takes the inputs as its own arrays, and writes into memory that it has from the start where
it can; "fresh" in a name says that it does not though it could. A peer that does not compute a
cell has no call for it. Where a peer has several ways, the one of its users that is the fastest.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from cells import SCORES, Call, Cell, inputs, numpy_call
from frameworks import Jax, TensorFlow, Torch

import csoftmax
from csoftmax import reference

Calls = dict[str, Call]
SERIAL = 65_536  # entries, up to which csoftmax uses one thread


class Peer(Protocol):
    modules: tuple[str, ...]  # that it must import
    names: tuple[str, ...]  # of its calls, as the tables have them
    threads: str  # how their number was set

    def __init__(self, threads: int) -> None: ...
    def calls(self, cell: Cell) -> Calls: ...


class Csoftmax:
    """With more than one thread also its own call with one, where that can make a difference."""

    modules = ()

    def __init__(self, threads: int) -> None:
        csoftmax.set_num_threads(threads)
        self.threads = f"csoftmax.set_num_threads({threads})"
        self.n = threads
        one = ("csoftmax one thread",) if threads > 1 else ()
        self.names = ("csoftmax", "csoftmax fresh", *one)

    def calls(self, cell: Cell) -> Calls:
        call, n = numpy_call(csoftmax, cell, preallocated=True), self.n
        calls = {
            "csoftmax": call,
            "csoftmax fresh": numpy_call(csoftmax, cell, preallocated=False),
        }

        def with_one_thread() -> Any:
            csoftmax.set_num_threads(1)
            result = call()
            csoftmax.set_num_threads(n)
            return result

        if n > 1 and cell.size > SERIAL:
            calls["csoftmax one thread"] = with_one_thread
        return calls


class Twin:
    modules = ()
    names = ("twin",)
    threads = "one, being NumPy"

    def __init__(self, threads: int) -> None:
        pass

    def calls(self, cell: Cell) -> Calls:
        return {"twin": numpy_call(reference, cell, preallocated=False)}


class SciPy:
    modules = ("scipy",)
    names = ("SciPy",)
    threads = "one, being NumPy"

    def __init__(self, threads: int) -> None:
        from scipy import special

        self.special = special

    def calls(self, cell: Cell) -> Calls:
        if cell.function in SCORES:
            return self.scores(cell)
        function = getattr(self.special, cell.function, None)
        x, axis = inputs(cell).logits, cell.axis
        return {"SciPy": lambda: function(x, axis=axis)} if function else {}

    def scores(self, cell: Cell) -> Calls:
        special, x, axis = self.special, inputs(cell).logits, cell.axis
        labels, temperature = np.expand_dims(inputs(cell).labels, axis), cell.temperature
        if temperature != 1:
            function = getattr(special, cell.name)
            return {"SciPy": lambda: function(x / temperature, axis)}

        def gather() -> Any:
            return np.take_along_axis(special.log_softmax(x, axis), labels, axis).squeeze(axis)

        def entropy() -> Any:
            return special.entr(special.softmax(x, axis)).sum(axis)

        calls = {"log_softmax_gather": gather, "softmax_entropy": entropy}
        return {"SciPy": calls[cell.name]} if cell.name in calls else {}


class ScikitLearn:
    modules = ("sklearn",)
    names = ("scikit-learn",)

    def __init__(self, threads: int) -> None:
        from sklearn._loss import HalfMultinomialLoss
        from sklearn.utils import extmath

        self.softmax, self.loss, self.n = extmath.softmax, HalfMultinomialLoss, threads
        self.threads = f"loss_gradient(n_threads={threads}); softmax one, being NumPy"

    def calls(self, cell: Cell) -> Calls:
        x, n, softmax = inputs(cell), self.n, self.softmax
        logits = x.logits
        if cell.function == "softmax" and cell.axis == -1:
            return {"scikit-learn": lambda: softmax(logits)}
        if cell.target != "labels" or logits.ndim != 2:
            return {}
        gradient = np.empty_like(logits)
        rows, out = (logits, gradient) if cell.axis == -1 else (logits.T, gradient.T)
        labels = x.labels.astype(x.dtype)
        losses = np.empty(len(rows), x.dtype)
        both = self.loss(n_classes=cell.classes).loss_gradient

        def loss_gradient() -> tuple[Any, Any]:
            both(labels, rows, loss_out=losses, gradient_out=out, n_threads=n)
            return losses, gradient

        return {"scikit-learn": loss_gradient}


class OnnxRuntime:
    """Graphs of its operators, bound to memory of NumPy's; there is none for a loss's gradient."""

    modules = ("onnxruntime", "onnx")
    names = ("ONNX Runtime",)

    def __init__(self, threads: int) -> None:
        import onnx
        import onnxruntime

        self.helper, self.types, self.ort = onnx.helper, onnx.TensorProto, onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        # Else its threads go on waiting in a loop while the others are measured.
        self.options.add_session_config_entry("session.force_spinning_stop", "1")
        self.threads = f"intra_op_num_threads={threads}"

    def calls(self, cell: Cell) -> Calls:
        if cell.target or cell.function in SCORES:
            return {}
        x, node = inputs(cell), self.helper.make_node
        arrays = {"y": x.y, "grad": x.grad} if cell.name == "softmax_vjp" else {"logits": x.logits}
        nodes = {
            "softmax": [node("Softmax", ["logits"], ["out"], axis=cell.axis)],
            "log_softmax": [node("LogSoftmax", ["logits"], ["out"], axis=cell.axis)],
            "logsumexp": [node("ReduceLogSumExp", ["logits", "axes"], ["out"], keepdims=0)],
            "softmax_vjp": [
                node("Mul", ["y", "grad"], ["products"]),
                node("ReduceSum", ["products", "axes"], ["sums"]),
                node("Sub", ["grad", "sums"], ["differences"]),
                node("Mul", ["y", "differences"], ["out"]),
            ],
        }[cell.name]
        out = np.empty(cell.result_shape, cell.dtype)
        session = self.session(nodes, arrays, out, cell.axis)
        binding, run = session.io_binding(), session.run_with_iobinding
        for name, array in arrays.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.bind_output("out", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def call(kept: Any = arrays) -> Any:  # the bound arrays, which it does not keep
            run(binding)
            return out

        return {"ONNX Runtime": call}

    def session(self, nodes: list[Any], arrays: Any, out: Any, axis: int) -> Any:
        info, types = self.helper.make_tensor_value_info, self.types
        kind = types.FLOAT if out.dtype == np.float32 else types.DOUBLE
        axes = self.helper.make_tensor("axes", types.INT64, [1], [axis])
        graph = self.helper.make_graph(
            nodes,
            "cell",
            [info(name, kind, array.shape) for name, array in arrays.items()],
            [info("out", kind, out.shape)],
            [axes] if any("axes" in node.input for node in nodes) else [],
        )
        opset = self.helper.make_opsetid("", 18)
        model = self.helper.make_model(graph, opset_imports=[opset], ir_version=10)
        return self.ort.InferenceSession(
            model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
        )


class Numba:
    """Loops over rows, so for the last axis alone."""

    modules = ("numba",)
    names = ("numba",)

    def __init__(self, threads: int) -> None:
        import numba
        import numba_rows

        numba.set_num_threads(threads)
        names = ("softmax", "log_softmax", "logsumexp", "softmax_vjp", "cross_entropy_with_grad")
        compiled = numba.njit(parallel=threads > 1)
        self.functions = {name: compiled(getattr(numba_rows, name)) for name in names}
        self.threads = f"numba.set_num_threads({threads})"

    def calls(self, cell: Cell) -> Calls:
        if cell.axis != -1 or cell.target not in ("", "labels") or cell.function in SCORES:
            return {}
        x, function = inputs(cell), self.functions[cell.name]
        out = np.empty(cell.result_shape, cell.dtype)
        if cell.name == "softmax_vjp":
            y, grad = x.y, x.grad
            return {"numba": lambda: function(y, grad, out)}
        logits = x.logits
        if cell.target:
            labels = x.labels
            return {"numba": lambda: function(logits, labels, out)}
        return {"numba": lambda: function(logits, out)}


PEERS: dict[str, type[Peer]] = {
    "twin": Twin,
    "scipy": SciPy,
    "sklearn": ScikitLearn,
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "jax": Jax,
    "tensorflow": TensorFlow,
    "numba": Numba,
}


def installed() -> list[str]:
    """The peers that can be imported; none is imported for that."""
    return [name for name, peer in PEERS.items() if all(map(find_spec, peer.modules))]


def chosen_peers(names: list[str], threads: int) -> dict[str, Peer]:
    """csoftmax and the peers of these names."""
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"--peers: no {name!r}: expected some of {', '.join(PEERS)}")
    return {"csoftmax": Csoftmax(threads), **{name: PEERS[name](threads) for name in names}}
