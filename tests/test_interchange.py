"""Arrays of other libraries: CPU tensors of PyTorch and JAX, DLPack alone, the buffer protocol."""

from __future__ import annotations

import array
import tracemalloc

import numpy as np
import pytest
from checks import assert_same_bits

from csoftmax import arguments

RNG = np.random.default_rng(6)
X = RNG.normal(size=(6, 8)).astype("f4")
P = np.abs(X) / np.abs(X).sum(1, keepdims=True)
LABELS = RNG.integers(0, 8, 6, dtype=np.int32)
WEIGHTS = RNG.random(6).astype("f4")
CALLS = {
    "softmax": {"x": X, "where": X > -1},
    "log_softmax": {"x": X},
    "logsumexp": {"x": X},
    "softmax_vjp": {"y": P, "grad": X},
    "softmax_jvp": {"y": P, "grad": X},
    "log_softmax_vjp": {"log_y": np.log(P), "grad": X},
    "softmax_jacobian": {"y": P},
    "cce": {"y": P, "yhat": P},
    "cce_gradient": {"y": P, "yhat": P},
    "cross_entropy": {"logits": X, "target": LABELS, "sample_weight": WEIGHTS},
    "cross_entropy_with_grad": {"logits": X, "target": P, "class_weight": P[0]},
    "linear_cross_entropy": {
        "x": X,
        "weight": P[:5],
        "target": LABELS % 5,
        "bias": P[:5, 0].copy(),
    },
    "linear_cross_entropy_with_grad": {"x": X, "weight": P[:5], "target": LABELS % 5},
    "log_softmax_gather": {"logits": X, "target": LABELS},
    "softmax_entropy": {"logits": X},
    "log_softmax_topk": {"logits": X, "k": 3},
    "sample_categorical": {"logits": X, "rng": 0},
    "one_hot": {"labels": LABELS},
    "to_categorical": {"y": LABELS},
}


def flat(result):
    if not isinstance(result, tuple):
        return [] if result is None else [result]
    return [part for item in result for part in flat(item)]


class DLPack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **options):
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


def torch_tensor(a):
    return pytest.importorskip("torch").from_numpy(a)


def jax_array(a):
    return pytest.importorskip("jax.numpy").asarray(a)


# How an array becomes one of another library, and how that tells where its memory is.
LIBRARIES = {
    "torch": (torch_tensor, lambda t: t.data_ptr()),
    "jax": (jax_array, lambda t: t.unsafe_buffer_pointer()),
    "DLPack": (DLPack, lambda t: t.a.ctypes.data),
    "memoryview": (memoryview, lambda t: np.asarray(t).ctypes.data),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def test_every_public_function_is_here(compiled):
    functions = {name for name in compiled.__all__ if callable(getattr(compiled, name))}
    settings = {"get_num_threads", "set_num_threads", "show_config", "threads"}
    layers = {"Dense", "Layer", "Softmax", "SoftmaxCrossEntropy"}
    assert set(CALLS) == functions - settings - layers


@pytest.mark.parametrize("function", CALLS)
def test_same_results(compiled, library, function):
    call, (convert, _) = getattr(compiled, function), library
    want = call(**CALLS[function])
    got = call(
        **{
            name: convert(a) if isinstance(a, np.ndarray) else a
            for name, a in CALLS[function].items()
        }
    )
    for g, w in zip(flat(got), flat(want), strict=True):
        assert type(g) is type(w)
        assert g.dtype == w.dtype
        assert_same_bits(compiled, g, w)


def test_layers(compiled, library):
    convert, _ = library
    for layer in (compiled.Softmax(axis=-1), compiled.Dense(8, 3, rng=0, axis=-1)):
        got, want = layer.forward(convert(X)), layer.forward(X)
        assert_same_bits(compiled, got, want)
        gradient = want.astype("f4")
        results = [layer.backward(g, 0.0) for g in (convert(gradient), gradient)]
        assert_same_bits(compiled, *results)
    loss = compiled.SoftmaxCrossEntropy(axis=-1)
    assert loss.forward(convert(X), convert(LABELS)) == loss.forward(X, LABELS)


def test_no_copy(library):
    convert, address = library
    for a in (X, LABELS, np.float64(X), X > 0):
        given = convert(a)
        got = arguments.array(given, "x")
        assert got.ctypes.data == address(given)
        np.testing.assert_array_equal(got, a.astype(got.dtype))  # JAX has no float64 by default


def test_strides_are_kept():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(24.0).reshape(4, 6).T[::2]
    got = arguments.array(tensor, "x")
    assert got.ctypes.data == tensor.data_ptr()
    np.testing.assert_array_equal(got, np.arange(24.0).reshape(4, 6).T[::2])


MORE = {  # than the logits
    "cross_entropy": [np.zeros(2000, np.int64)],
    "log_softmax_gather": [np.zeros(2000, np.int64)],
    "log_softmax_topk": [2],
}


@pytest.mark.parametrize(
    "function",
    ["softmax", "log_softmax", "logsumexp", "softmax_entropy", "sample_categorical", *MORE],
)
def test_no_memory_for_the_input(compiled, library, function):
    """On the whole way to the kernel."""
    convert, _ = library
    x = np.zeros((2000, 100), "f4")
    args = [convert(x), *MORE.get(function, [])]
    call = getattr(compiled, function)
    result = call(*args)
    size = sum(np.asarray(part).nbytes for part in flat(result) or [result])
    tracemalloc.start()
    try:
        call(*args)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size + x.nbytes / 4


def test_array_of_the_standard_library(compiled):
    values = array.array("d", [1.0, 2.0, 3.0])
    assert arguments.array(values, "x").ctypes.data == values.buffer_info()[0]
    np.testing.assert_array_equal(compiled.softmax(values), compiled.softmax([1.0, 2.0, 3.0]))


def test_jax_bfloat16(compiled):
    jnp = pytest.importorskip("jax.numpy")
    got = compiled.softmax(jnp.asarray(X, jnp.bfloat16))
    assert got.dtype == jnp.bfloat16


# What NumPy cannot read: a module, how to make it, and the reason in the message.
UNREADABLE = {
    "gradient": ("torch", lambda m: m.zeros(3, requires_grad=True), "requires grad"),
    "bfloat16": ("torch", lambda m: m.zeros(3, dtype=m.bfloat16), "BFloat16"),
    "sparse": ("torch", lambda m: m.zeros(3).to_sparse(), "Sparse"),
    "device": ("torch", lambda m: m.zeros(3, device="meta"), "meta"),
    "DLPack": ("numpy", lambda m: DLPack(m.zeros(3, m.dtype(m.float32).newbyteorder())), "byte"),
}


@pytest.mark.parametrize(("module", "make", "reason"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("softmax", "x"),
        ("softmax_vjp", "grad"),
        ("cce", "yhat"),
        ("cross_entropy", "target"),
        ("log_softmax_gather", "target"),
        ("log_softmax_topk", "logits"),
        ("sample_categorical", "logits"),
        ("one_hot", "labels"),
    ],
)
def test_unreadable(compiled, function, name, module, make, reason):
    bad = make(pytest.importorskip(module))
    with pytest.raises(TypeError, match=f"{name} is a {type(bad).__name__}: .*{reason}"):
        getattr(compiled, function)(**{**CALLS[function], name: bad})


def test_traced_array(compiled):
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError, match=r"x is a .*Tracer: expected one that NumPy can read"):
        jax.jit(compiled.softmax)(X)


def test_out_is_no_tensor(compiled):
    out = pytest.importorskip("torch").zeros(6, 8)
    with pytest.raises(TypeError, match="out is a Tensor: expected a NumPy array"):
        compiled.softmax(X, out=out)
