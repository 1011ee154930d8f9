"""exp and log of the kernels, element by element, against a wider type; their coefficients.

Two public functions give them bare: of a row whose only gradient is a 1 at its end, log_softmax_vjp
is -exp(x), and of a target of 1, cce is -log(x).
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from checks import wider

HERE = Path(__file__).parent
HEADER = HERE.parent / "csoftmax" / "kernels" / "coefficients.hpp"
LN2 = np.log(2.0)
BLOCK = 1 << 20


def exp(csm, x):
    x = np.append(x, x.dtype.type(0))
    one_at_end = np.zeros_like(x)
    one_at_end[-1] = 1
    return -csm.log_softmax_vjp(x, one_at_end)[:-1]


def log(csm, x):
    return -csm.cce(np.ones((x.size, 1), x.dtype), x[:, None], axis=-1)


def binade(x):
    """The power of two at or below each x > 0."""
    if x.dtype == np.float64:  # its bits are faster
        return (x.view(np.int64) & np.int64(0x7FF << 52)).view(np.float64)
    return np.ldexp(x.dtype.type(0.5), np.frexp(x)[1])


def worst(got, want):
    """Largest error in ULP of the dtype of `got`, for normal results."""
    return float(np.max(np.abs(got - want) / binade(np.abs(want)))) / np.finfo(got.dtype).eps


def bound(dtype):
    """The largest error of exp with all roundings, as tools/minimax.py has printed it."""
    found = re.findall(r"less than ([\d.]+) ULP \(([\d.]+) without", HEADER.read_text())
    return max(map(float, dict(zip(("float32", "float64"), found, strict=True))[dtype]))


def floats(low, high, step):
    """Blocks of every step-th float32 from low to high, of one sign."""
    first, last = (int(np.abs(np.float32(v)).view(np.uint32)) for v in (low, high))
    sign = np.uint32(np.signbit(low)) << np.uint32(31)
    for start in range(min(first, last), max(first, last) + 1, BLOCK * step):
        stop = min(start + BLOCK * step, max(first, last) + 1)
        yield (np.arange(start, stop, step, dtype=np.uint32) | sign).view(np.float32)


def worst_exp(csm, low, high, step=1):
    def error(x):
        return worst(exp(csm, x), np.exp(x.astype(np.float64)))

    with ThreadPoolExecutor(2) as pool:  # NumPy and the kernels give up the GIL
        return max(pool.map(error, floats(low, high, step)))


@pytest.mark.parametrize("sign", [-1, 1])
def test_exp_of_every_float32_in_the_reduced_range(compiled, sign):
    """Below 2^-26 it is 1, by any rounding."""
    assert worst_exp(compiled, sign * 2.0**-26, sign * LN2 / 2) <= bound("float32")
    tiny = np.float32(sign * 2.0**-26) * np.linspace(0, 1, 1000, dtype=np.float32)
    np.testing.assert_array_equal(exp(compiled, tiny), np.float32(1))


@pytest.mark.parametrize("limit", [-87.3, 88.7])
def test_exp_of_float32_beyond(compiled, limit):
    assert worst_exp(compiled, np.sign(limit) * LN2 / 2, limit, step=7) <= bound("float32")


@pytest.mark.parametrize("high", [LN2 / 2, 1, 708])
def test_exp_of_float64(compiled, high):
    x = np.random.default_rng(0).uniform(-high, high, 1_000_000)
    assert worst(exp(compiled, x), np.exp(wider(x))) <= bound("float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_beyond_the_normal_range(compiled, dtype):
    limits = np.finfo(dtype)
    tiny, least = np.log(limits.tiny), np.log(limits.smallest_subnormal)
    x = np.random.default_rng(0).uniform(least, tiny, 100_000).astype(dtype)
    error = np.abs(exp(compiled, x) - np.exp(wider(x))) / limits.smallest_subnormal
    assert np.max(error) <= 1
    x = np.array([-np.inf, 1.01 * least, -limits.max, np.inf, np.nan, 0, -0.0], dtype)
    np.testing.assert_array_equal(exp(compiled, x), np.array([0, 0, 0, np.inf, np.nan, 1, 1]))
    assert exp(compiled, np.array([np.log(limits.max) * (1 + 2 * limits.eps)], dtype)) == np.inf


def test_log_of_every_float32_between_two_powers_of_two(compiled):
    """All mantissas, next to 1 and far away."""
    mantissas = np.arange(1 << 23, 1 << 24, dtype=np.float32) * np.float32(2.0**-23)
    for exponent in (-126, -1, 0, 127):
        x = np.ldexp(mantissas, exponent)
        x = x[x != 1]
        assert worst(log(compiled, x), np.log(x.astype(np.float64))) <= 1


def test_log_of_float64(compiled):
    rng = np.random.default_rng(0)
    for x in (rng.uniform(0.4, 2.5, 500_000), np.exp(rng.uniform(-745, 709, 500_000))):
        assert worst(log(compiled, x), np.log(wider(x))) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_at_the_ends(compiled, dtype):
    limits = np.finfo(dtype)
    x = np.array([0, -0.0, np.inf, -1, -limits.tiny, np.nan, 1], dtype)
    want = np.array([-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan, 0])
    np.testing.assert_array_equal(log(compiled, x), want)
    least = np.array([limits.smallest_subnormal], dtype)
    assert worst(log(compiled, least), np.log(wider(least))) <= 1


def test_coefficients_are_those_of_the_script():
    script = HERE.parent / "tools" / "minimax.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == HEADER.read_text()
