"""Threads: their number, the same bits for any of it, the GIL, concurrent callers, and forks."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from implementations import COMPILED

needs_openmp = pytest.mark.skipif(
    not all(csm.dispatch.kernels.openmp for csm in COMPILED.values()),
    reason="built without OpenMP",
)
needs_task_list = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system lists no threads in /proc"
)
needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)


@pytest.fixture(autouse=True)
def _openmp_decides():
    """Each test starts as a fresh process does, and leaves no number of threads behind."""
    all_kernels = [csm.dispatch.kernels for csm in COMPILED.values()]
    former = [kernels.set_num_threads(0) for kernels in all_kernels]
    yield
    for kernels, number in zip(all_kernels, former, strict=True):
        kernels.set_num_threads(number)


def normal(shape, dtype="float64", seed=0):
    return 3 * np.random.default_rng(seed).standard_normal(shape, dtype)


def bits(result):
    """What is compared bit for bit: every array of a result."""
    parts = result if isinstance(result, tuple) else (result,)
    return [(part.dtype, part.shape, part.tobytes()) for part in map(np.asarray, parts)]


# ------------------------------------------------------------------------------ number of threads


@needs_openmp
def test_round_trip(compiled):
    for n in (1, 2, 3, np.int8(4)):
        assert compiled.set_num_threads(n) is None
        number = compiled.get_num_threads()
        assert number == n
        assert type(number) is int


@needs_openmp
def test_context_nests_and_restores(compiled):
    compiled.set_num_threads(5)
    with compiled.threads(2) as target:
        assert target is None
        assert compiled.get_num_threads() == 2
        with compiled.threads(3):
            assert compiled.get_num_threads() == 3
        assert compiled.get_num_threads() == 2
    assert compiled.get_num_threads() == 5


@needs_openmp
def test_context_restores_after_an_exception(compiled):
    compiled.set_num_threads(5)
    with pytest.raises(ZeroDivisionError), compiled.threads(2):
        raise ZeroDivisionError
    assert compiled.get_num_threads() == 5
    with pytest.raises(ValueError, match="n is 0"), compiled.threads(0):
        pytest.fail("the block ran")
    assert compiled.get_num_threads() == 5


@needs_openmp
def test_threadpoolctl_counts_until_a_number_is_set(compiled):
    for n in (3, 1):
        with threadpoolctl.threadpool_limits(n, user_api="openmp"):
            assert compiled.get_num_threads() == n
            with compiled.threads(2):
                assert compiled.get_num_threads() == 2
            assert compiled.get_num_threads() == n
    compiled.set_num_threads(2)
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert compiled.get_num_threads() == 2


# OpenMP keeps the threads that it has started, so that in a fresh process they can be counted.
STARTED = """
import os, numpy as np, csoftmax
def started(shape, axis):
    x = np.zeros(shape)
    before = len(os.listdir("/proc/self/task"))
    csoftmax.softmax(x, axis, out=x)
    return len(os.listdir("/proc/self/task")) - before
{setting}
print(csoftmax.get_num_threads(), started((100, 100), 0), started({shape}, {axis}))
"""
SETTINGS = {  # OMP_NUM_THREADS, code, number of threads
    "OMP_NUM_THREADS=1": ("1", "", 1),
    "OMP_NUM_THREADS=3": ("3", "", 3),
    "set_num_threads": ("3", "csoftmax.set_num_threads(2)", 2),
    "set_num_threads(1)": ("3", "csoftmax.set_num_threads(1)", 1),
    "threadpoolctl": ("3", "import threadpoolctl; threadpoolctl.threadpool_limits(2)", 2),
}


@needs_openmp
@needs_task_list
@pytest.mark.parametrize("instruction_set", list(COMPILED))
@pytest.mark.parametrize(
    ("setting", "shape", "axis"),
    [
        *((setting, (500, 400), -1) for setting in SETTINGS),
        ("OMP_NUM_THREADS=3", (500, 400), 0),
        ("OMP_NUM_THREADS=3", (1, 200_000), -1),
    ],
)
def test_threads_that_a_call_starts(instruction_set, setting, shape, axis):
    """A large call uses what was asked for, one of 10,000 elements no second thread."""
    omp_num_threads, code, n = SETTINGS[setting]
    environment = {"OMP_NUM_THREADS": omp_num_threads, "CSOFTMAX_ISA": instruction_set}
    done = subprocess.run(
        [sys.executable, "-c", STARTED.format(setting=code, shape=shape, axis=axis)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [int(word) for word in done.stdout.split()] == [n, 0, n - 1]


# -------------------------------------------------------------------------- bits and concurrency


def all_calls(csm, x, other, axis):
    """Every function that goes parallel, of two arrays: name -> result."""
    classes, samples = x.shape[axis], np.delete(x.shape, axis)
    generator = np.random.default_rng(2)
    labels = generator.integers(0, classes, samples)
    weighted = {
        "axis": axis,
        "class_weight": generator.random(classes),
        "sample_weight": generator.random(samples),
        "label_smoothing": 0.1,
    }
    positive = np.abs(other) + 1
    mask = other > 0
    calls = {
        "softmax": lambda: csm.softmax(x, axis),
        "softmax where": lambda: csm.softmax(x, axis, where=mask),
        "log_softmax": lambda: csm.log_softmax(x, axis),
        "logsumexp": lambda: csm.logsumexp(x, axis),
        "softmax_vjp": lambda: csm.softmax_vjp(x, other, axis),
        "log_softmax_vjp": lambda: csm.log_softmax_vjp(-positive, x, axis),
        "cce": lambda: csm.cce(x, positive, axis),
        "cce_gradient": lambda: csm.cce_gradient(x, positive),
        "cross_entropy": lambda: csm.cross_entropy(x, labels, axis=axis, reduction="none"),
        "labels": lambda: csm.cross_entropy_with_grad(x, labels, axis=axis),
        "labels, weighted": lambda: csm.cross_entropy_with_grad(x, labels, **weighted),
        "probabilities": lambda: csm.cross_entropy_with_grad(x, positive, **weighted),
        "gather": lambda: csm.log_softmax_gather(x, labels, axis),
        "entropy": lambda: csm.softmax_entropy(x, axis),
        "topk": lambda: csm.log_softmax_topk(x, 3, axis, temperature=0.5),
        "samples": lambda: csm.sample_categorical(x, 0, 3, axis),
        "temperature": lambda: csm.softmax(x, axis, temperature=0.5),
    }
    return {name: bits(call()) for name, call in calls.items()}


@needs_openmp
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1, 2_100_000), -1),
        ((2, 50_001), -1),
        ((5000, 64), -1),
        ((5000, 64), 0),
        ((30_000, 10), -1),
        ((210_000, 10), 0),
        ((10, 210_000), 0),
        ((70, 40, 70), 1),
    ],
)
def test_number_of_threads_changes_no_bit(compiled, shape, axis, dtype):
    x, other = normal(shape, dtype, seed=0), normal(shape, dtype, seed=1)
    with compiled.threads(1):
        want = all_calls(compiled, x, other, axis)
    for n in (2, 3):
        with compiled.threads(n):
            got = all_calls(compiled, x, other, axis)
        assert [name for name in want if got[name] != want[name]] == []


@needs_openmp
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [8, 12, 16, 24, 40])
@pytest.mark.parametrize("first", [0, 1, 4], ids="{} behind a line".format)
def test_threads_leave_out_no_column(compiled, lanes, first, dtype):
    """Groups of columns may be narrower than a line of the cache, and begin anywhere in one."""

    def behind_line(values, shape=(9000, lanes)):
        memory = np.empty(np.prod(shape) + 128, dtype)
        start = -memory.ctypes.data % 64 // memory.itemsize + first
        array = memory[start : start + np.prod(shape)].reshape(shape)
        array[...] = values
        return array

    x, grad = (behind_line(normal((9000, lanes), dtype, seed)) for seed in (0, 1))
    labels = np.arange(lanes)
    calls = {
        "softmax": lambda out: compiled.softmax(x, 0, out=out),
        "log_softmax": lambda out: compiled.log_softmax(x, 0, out=out),
        "softmax_vjp": lambda out: compiled.softmax_vjp(x, grad, 0, out=out),
        "labels": lambda out: compiled.cross_entropy_with_grad(x, labels, axis=0, out=out)[1],
    }
    for name, call in calls.items():
        with compiled.threads(1):
            want = call(behind_line(np.nan))
        assert not np.isnan(want).any()
        for n in (2, 3):
            with compiled.threads(n):
                assert bits(call(behind_line(np.nan))) == bits(want), name


def test_concurrent_callers(compiled):
    """Four Python threads at once, each of them with OpenMP threads of its own."""
    arrays = [(normal((400, 300), seed=i), normal((400, 300), seed=i + 4)) for i in range(4)]
    want = [all_calls(compiled, *pair, axis=-1) for pair in arrays]
    start = threading.Barrier(4)

    def work(pair):
        start.wait(60)
        return [all_calls(compiled, *pair, axis=-1) for _ in range(3)]

    with compiled.threads(2), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, arrays)) == [[w] * 3 for w in want]


@pytest.mark.parametrize(
    "call",
    [
        lambda csm, x: csm.softmax(x, out=x),
        lambda csm, x: csm.logsumexp(x),
        lambda csm, x: csm.cce(x, x, axis=-1),
        lambda csm, x: csm.cross_entropy(x, [0]),
        lambda csm, x: csm.cross_entropy_with_grad(x, [0], out=x),
        lambda csm, x: csm.log_softmax_topk(x, 2),
        lambda csm, x: csm.sample_categorical(x, 0),
    ],
    ids=["softmax", "logsumexp", "cce", "cross_entropy", "with_grad", "topk", "sample"],
)
def test_kernels_release_the_gil(compiled, call):
    """Without forced switches, another thread runs only while this one lets the GIL go."""
    x = normal((1, 2_000_000))
    ticks, stop = 0, threading.Event()

    def tick():
        nonlocal ticks
        while not stop.wait(0.0005):
            ticks += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        deadline = time.monotonic() + 5
        with compiled.threads(1):
            before = ticks
            while ticks < before + 3 and time.monotonic() < deadline:
                call(compiled, x)
            assert ticks >= before + 3
    finally:
        stop.set()
        ticker.join()
        sys.setswitchinterval(interval)


# ------------------------------------------------------------------------------------------ forks


def in_fork(function, limit):
    """What ``function`` returns in a forked child, which is killed after ``limit`` seconds."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function()))
    with warnings.catch_warnings():
        # "multi-threaded, use of fork() may lead to deadlocks": that it does not is the point.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            raise TimeoutError(f"the forked child has not answered in {limit} s")
        return receiver.recv()
    finally:
        process.kill()
        process.join()
        receiver.close()


def large_calls(csm):
    x = normal((600, 500))
    labels = np.arange(600) % 500
    return [
        bits(csm.softmax(x)),
        bits(csm.softmax(x, axis=0)),
        bits(csm.logsumexp(x.reshape(1, -1))),
        bits(csm.cross_entropy_with_grad(x, labels)),
        bits(csm.linear_cross_entropy(x[:, :2], normal((5000, 2)), labels)),
    ]


def as_child(csm):
    """What a forked child sees: the results, and threads before and after it asks for two."""
    first = csm.get_num_threads()
    csm.set_num_threads(2)
    return large_calls(csm), first, csm.get_num_threads()


@needs_fork
@pytest.mark.parametrize("number_set", [True, False], ids=["set_num_threads", "OpenMP's number"])
def test_forked_child(compiled, number_set):
    if number_set:
        compiled.set_num_threads(2)
    want = large_calls(compiled)  # OpenMP has threads from here on
    before = compiled.get_num_threads()
    assert in_fork(lambda: as_child(compiled), limit=30) == (want, 1, 1)
    assert compiled.get_num_threads() == before
    assert large_calls(compiled) == want


@needs_fork
def test_forked_grandchild(compiled):
    compiled.set_num_threads(2)
    want = large_calls(compiled)

    def child():
        return as_child(compiled), in_fork(lambda: as_child(compiled), limit=20)

    assert in_fork(child, limit=40) == ((want, 1, 1), (want, 1, 1))


@needs_fork
def test_fork_while_another_thread_computes(compiled):
    compiled.set_num_threads(2)
    want = large_calls(compiled)
    stop = threading.Event()

    def compute():
        x = normal((600, 500))
        while not stop.is_set():
            compiled.softmax(x)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for _ in range(3):
            assert in_fork(lambda: as_child(compiled), limit=30) == (want, 1, 1)
    finally:
        stop.set()
        thread.join()


AFTER_A_SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import numpy as np, csoftmax
interpreters.destroy(interpreters.create())
csoftmax.set_num_threads(2)
for shape in ((1, 300000), (300, 1000), (100000, 10)):
    for axis in (0, 1):
        csoftmax.softmax(np.zeros(shape), axis)
        csoftmax.logsumexp(np.zeros(shape), axis)
"""


@pytest.mark.parametrize("instruction_set", COMPILED)
def test_process_with_a_subinterpreter(instruction_set):
    """It makes PyGILState_Check() say yes without the GIL; giving that up would abort."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AFTER_A_SUBINTERPRETER],
        env={**os.environ, "CSOFTMAX_ISA": instruction_set},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
