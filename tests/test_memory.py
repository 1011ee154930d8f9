"""No hidden copy: what a call allocates beside its result, and beside nothing where out= is given.

NumPy reports its allocations to tracemalloc. The kernels' own buffers are on the stack; one test
looks at the memory of a whole process.
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from implementations import COMPILED

SMALL = 1 << 16  # bytes: a few objects and NumPy's buffers for reductions
LAYOUTS = {  # of 2 or 4 MB
    "last axis": ((100, 5000), -1),
    "axis 0": ((5000, 100), 0),
    "middle axis": ((10, 5000, 10), 1),
    "all axes": ((100, 5000), None),
}
PRODUCTS = ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"]

layouts = pytest.mark.parametrize("layout", LAYOUTS)
class_axes = pytest.mark.parametrize("layout", [k for k, v in LAYOUTS.items() if v[1] is not None])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def allocated(call):
    """Bytes at the peak of a call, after a first one that imports and caches what there is to."""
    call()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def normal(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype)


def test_a_copy_is_noticed():
    x = normal((100, 5000), "float32")
    assert x.nbytes <= allocated(lambda: x + x) < x.nbytes + SMALL
    assert allocated(lambda: np.add(x, x, out=x)) < SMALL


@dtypes
@layouts
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_forward(compiled, function, layout, dtype):
    shape, axis = LAYOUTS[layout]
    x, call = normal(shape, dtype), getattr(compiled, function)
    out, mask = np.empty_like(x), x > 0
    assert x.nbytes <= allocated(lambda: call(x, axis)) < x.nbytes + SMALL
    assert allocated(lambda: call(x, axis, out=out)) < SMALL
    assert allocated(lambda: call(x, axis, out=x)) < SMALL
    assert allocated(lambda: call(x, axis, out=x, where=mask)) < SMALL


STRIDED = {
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "reversed": lambda a: a[::-1, ..., ::-1],
    "fortran": lambda a: np.asfortranarray(a),
    "first and last swapped": lambda a: np.swapaxes(a, 0, -1).copy().swapaxes(0, -1),
    "window": lambda a: np.pad(a, 1)[(slice(1, -1),) * a.ndim],
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(100, 2000), (10, 2000, 10)])
@pytest.mark.parametrize("strides", STRIDED)
def test_in_place_in_any_strides(compiled, strides, shape, dtype):
    """And with any mask."""
    x = STRIDED[strides](normal(shape, "float32").astype(dtype))
    y, mask = STRIDED[strides](np.abs(x)), STRIDED[strides](x > 0)
    for axis in range(-1, x.ndim - 1):
        labels = np.zeros(np.delete(shape, axis), int)
        samples = SMALL + 3 * 16 * labels.size
        for function in ("softmax", "log_softmax"):
            for where in (None, mask):
                call = getattr(compiled, function)
                assert allocated(lambda: call(x, axis, out=x, where=where)) < SMALL  # noqa: B023
        for function in PRODUCTS:
            call = getattr(compiled, function)
            assert allocated(lambda: call(x, y, axis, out=x)) < SMALL  # noqa: B023
        for target in (labels, y):
            call = compiled.cross_entropy_with_grad
            assert allocated(lambda: call(x, target, axis=axis, out=x)) < samples  # noqa: B023


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@layouts
def test_masks(compiled, layout, dtype):
    """No float for each entry of the mask; a bool each if all axes are joined to one."""
    shape, axis = LAYOUTS[layout]
    x = normal(shape, "float32").astype(dtype)
    mask = x > 0
    for where in (mask, mask[:1], mask[..., :1], mask[0], True, False):
        small = SMALL + (mask.size if axis is None else 8 * (x.size // 1000))
        assert allocated(lambda: compiled.logsumexp(x, axis, where=where)) < small  # noqa: B023
        for call in (compiled.softmax, compiled.log_softmax):
            used = allocated(lambda: call(x, axis, where=where, out=x))  # noqa: B023
            assert used < small


@dtypes
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [(0, 2), (2, 0), (1, 0), None])
def test_axes_that_do_not_join(compiled, axis, order, dtype):
    x = np.asarray(normal((50, 20, 300), dtype), order=order)
    y = np.abs(x)
    assert allocated(lambda: compiled.softmax(x, axis, out=x)) < SMALL
    assert x.nbytes <= allocated(lambda: compiled.softmax(x, axis)) < x.nbytes + SMALL
    assert allocated(lambda: compiled.logsumexp(x, axis)) < SMALL
    assert allocated(lambda: compiled.softmax_vjp(y, x, axis, out=x)) < SMALL
    assert allocated(lambda: compiled.cce(y, y, axis)) < SMALL


@dtypes
@layouts
def test_logsumexp(compiled, layout, dtype):
    shape, axis = LAYOUTS[layout]
    x = normal(shape, dtype)
    assert allocated(lambda: compiled.logsumexp(x, axis)) < SMALL
    assert allocated(lambda: compiled.logsumexp(x, axis, keepdims=True, where=x > 0)) < (
        x.size + SMALL  # the mask
    )


@dtypes
@class_axes
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("strides", [None, *STRIDED])
def test_scores(compiled, strides, temperature, layout, dtype):
    """What there is for each sample counts 8 bytes in results, and in uniforms or labels."""
    shape, axis = LAYOUTS[layout]
    x, more = normal(shape, dtype), {"temperature": temperature}
    x = STRIDED[strides](x) if strides else x
    samples = x.size // shape[axis]
    labels = np.zeros(tuple(np.delete(shape, axis)), int)
    small = SMALL + 8 * samples
    assert small < x.nbytes / 4
    assert allocated(lambda: compiled.softmax_entropy(x, axis, **more)) < small
    assert allocated(lambda: compiled.log_softmax_gather(x, labels, axis, **more)) < small
    assert allocated(lambda: compiled.log_softmax_topk(x, 5, axis, **more)) < SMALL + 80 * samples
    draw = compiled.sample_categorical
    assert allocated(lambda: draw(x, 0, None, axis, **more)) < SMALL + 8 * samples
    assert allocated(lambda: draw(x, 0, 10, axis, **more)) < SMALL + 80 * samples
    assert allocated(lambda: compiled.softmax(x, axis, out=x, **more)) < SMALL
    mask = x > 0
    assert allocated(lambda: compiled.log_softmax(x, axis, out=x, where=mask, **more)) < SMALL


@dtypes
@layouts
@pytest.mark.parametrize("function", PRODUCTS)
def test_products(compiled, function, layout, dtype):
    shape, axis = LAYOUTS[layout]
    y, grad = normal(shape, dtype), normal(shape, dtype, seed=1)
    call, out = getattr(compiled, function), np.empty_like(y)
    assert y.nbytes <= allocated(lambda: call(y, grad, axis)) < y.nbytes + SMALL
    for target in (out, y, grad):
        assert allocated(lambda: call(y, grad, axis, out=target)) < SMALL  # noqa: B023


@dtypes
@layouts
def test_cce(compiled, layout, dtype):
    shape, axis = LAYOUTS[layout]
    y, yhat = normal(shape, dtype), np.abs(normal(shape, dtype, seed=1))
    assert allocated(lambda: compiled.cce(y, yhat, axis)) < SMALL
    assert y.nbytes <= allocated(lambda: compiled.cce_gradient(y, yhat)) < y.nbytes + SMALL


def options(classes, samples):
    return {
        "class_weight": np.linspace(0.5, 1, classes),
        "sample_weight": np.linspace(0.5, 1, np.prod(samples)).reshape(samples),
        "label_smoothing": 0.1,
    }


@dtypes
@class_axes
@pytest.mark.parametrize("target", ["labels", "probabilities"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(compiled, layout, dtype, target, weighted):
    """Many classes: what there is for each sample or each class (of 8 bytes) does not count."""
    shape, axis = LAYOUTS[layout]
    logits = normal(shape, dtype)
    classes, samples = shape[axis], tuple(int(n) for n in np.delete(shape, axis))
    t = np.arange(np.prod(samples)).reshape(samples) if target == "labels" else logits * logits
    more = {"axis": axis, **(options(classes, samples) if weighted else {})}
    limit = SMALL + 2 * 8 * (classes + int(np.prod(samples)))
    with_grad, size = compiled.cross_entropy_with_grad, logits.nbytes
    assert limit < size / 10
    assert allocated(lambda: compiled.cross_entropy(logits, t, **more)) < limit
    assert size <= allocated(lambda: with_grad(logits, t, **more)) < size + limit
    for out in (np.empty_like(logits), logits):
        assert allocated(lambda: with_grad(logits, t, out=out, **more)) < limit  # noqa: B023


@dtypes
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("labels", ["int32", "int64"])
def test_cross_entropy_of_many_samples(compiled, axis, labels, dtype):
    """Few classes, and nothing for each sample but the losses if they are asked for."""
    samples = 50_000
    logits = normal((samples, 20) if axis else (20, samples), dtype)
    t = (np.arange(samples) % 20).astype(labels)
    weights = {"class_weight": np.ones(20), "sample_weight": np.ones(samples)}
    in_place = compiled.cross_entropy_with_grad
    for more in ({}, {"ignore_index": 3}, weights, {"label_smoothing": 0.1}):
        used = allocated(lambda: in_place(logits, t, axis=axis, out=logits, **more))  # noqa: B023
        assert used < SMALL
    each = {"axis": axis, "reduction": "none"}
    assert allocated(lambda: in_place(logits, t, out=logits, **each)) < SMALL + 8 * samples


PEAK = """
import numpy as np, csoftmax
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) << 10
shape, axis = {shape}, {axis}
csoftmax.set_num_threads(2)
x = np.ones(shape, np.float32)              # 40 MB
y, out = np.full_like(x, 0.5), np.ones_like(x)
samples = out.sum(axis)
labels = np.zeros(samples.shape, int)
with_grad = csoftmax.cross_entropy_with_grad
for a in (np.zeros((500, 500)), np.zeros((500, 500), np.float32)):
    csoftmax.softmax(a)                     # threads and their stacks
    with_grad(a, a)
before = peak()
csoftmax.softmax(x, axis, out=out)
csoftmax.softmax(x, axis, out=x)
csoftmax.log_softmax(x, axis, out=x)
csoftmax.logsumexp(x, axis, out=samples)
csoftmax.softmax_vjp(y, x, axis, out=x)
csoftmax.log_softmax_vjp(y, x, axis, out=y)
with_grad(x, labels, axis=axis, sample_weight=samples, label_smoothing=0.1, out=out)
with_grad(x, y, axis=axis, out=x)
csoftmax.softmax(x, axis, out=x, temperature=0.7)
more = peak() - before
for temperature in (1.0, 0.7):
    csoftmax.log_softmax_gather(x, labels, axis, temperature=temperature)
    csoftmax.softmax_entropy(x, axis, temperature=temperature)
    csoftmax.log_softmax_topk(x, 1, axis, temperature=temperature)
    csoftmax.sample_categorical(x, 0, None, axis, temperature=temperature)
results = 12 * samples.size                 # at most, of a call
print(before, max(more, peak() - before - results))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system has no /proc/self/status"
)
@pytest.mark.parametrize("instruction_set", list(COMPILED))
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1000, 10000), -1),
        ((3_333_333, 3), -1),
        ((1000, 10000), 0),
        ((10000, 1000), 0),
        ((3, 3_333_333), 0),
        ((100, 1000, 100), 1),
    ],
)
def test_peak_of_a_process(instruction_set, shape, axis, monkeypatch):
    """At most 1 MB, and 64 KB a thread, beside the arguments; also where NumPy cannot see."""
    # Not ru_maxrss: a child process inherits it from its parent.
    monkeypatch.setenv("CSOFTMAX_ISA", instruction_set)
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(shape=shape, axis=axis)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    before, more = (int(word) for word in done.stdout.split())
    assert before > 120_000_000
    assert more <= (1 << 20) + 2 * (1 << 16)
