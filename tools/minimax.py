"""Coefficients of the exp and log polynomials in csoftmax/kernels/vecmath.hpp.

    python tools/minimax.py

fits each polynomial by a weighted Remez exchange in 60-digit arithmetic (mpmath), rounds its
coefficients to the target type, and prints them as C++ hexadecimal literals with the largest
approximation error of the rounded polynomial, in ULP of a result just above 1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from mpmath import mp, mpf

mp.dps = 60

LN2 = mp.log(2)
Function = Callable[[mpf], mpf]


def round_to(x: mpf, bits: int) -> mpf:
    """Nearest number with `bits` significant bits."""
    if x == 0:
        return x
    scale = mpf(2) ** (bits - 1 - int(mp.floor(mp.log(abs(x), 2))))
    return mp.nint(x * scale) / scale


def evaluate(coefficients: Sequence[mpf], x: mpf) -> mpf:
    result = mpf(0)
    for c in reversed(coefficients):
        result = result * x + c
    return result


def remez(f: Function, weight: Function, low: mpf, high: mpf, count: int) -> tuple[list[mpf], mpf]:
    """Polynomial of `count` coefficients with the least maximum of |weight * (f - p)|.

    Returns the coefficients and the maximum.
    """
    n = count + 1
    # Chebyshev points, moved a little: none may fall on a zero of the weight.
    nodes = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + mpf("0.1")) / n) for i in range(n)
    ]
    peak = mpf(0)
    for _ in range(12):
        matrix = mp.matrix(n, n)
        right = mp.matrix(n, 1)
        for row, x in enumerate(nodes):
            for i in range(count):
                matrix[row, i] = weight(x) * x**i
            matrix[row, count] = (-1) ** row
            right[row] = weight(x) * f(x)
        *coefficients, level = mp.lu_solve(matrix, right)
        nodes, peak = extrema(
            lambda x, c=coefficients: weight(x) * (f(x) - evaluate(c, x)), low, high, n
        )
        if peak <= abs(level) * (1 + mpf(10) ** -6):
            break
    return coefficients, peak


def extrema(error: Function, low: mpf, high: mpf, n: int) -> tuple[list[mpf], mpf]:
    """The n alternating extrema of `error`, from a fine grid."""
    steps = 60 * n
    grid = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / steps) for i in range(steps + 1)
    ]
    values = [error(x) for x in grid]
    nodes: list[int] = []
    for i in range(len(grid)):
        if nodes and values[i] * values[nodes[-1]] > 0:
            if abs(values[i]) > abs(values[nodes[-1]]):
                nodes[-1] = i
        else:
            nodes.append(i)
    while len(nodes) > n:
        nodes.pop(0 if abs(values[nodes[0]]) < abs(values[nodes[-1]]) else -1)
    return [grid[i] for i in nodes], max(abs(v) for v in values)


def fit(f: Function, weight: Function, low: mpf, high: mpf, count: int, bits: int) -> None:
    exact, _ = remez(f, weight, low, high, count)
    rounded = [round_to(c, bits) for c in exact]
    _, peak = extrema(lambda x: weight(x) * (f(x) - evaluate(rounded, x)), low, high, count + 1)
    for c in rounded:
        print("   ", literal(c, bits))
    print(f"    error {mp.nstr(peak * mpf(2) ** (bits - 1), 2)} ULP")


def literal(x: mpf, bits: int) -> str:
    value = float(x)
    if bits == 24:
        value = struct.unpack("f", struct.pack("f", value))[0]
    return value.hex() + ("f" if bits == 24 else "")


def main() -> None:
    for name, bits, exp_count, log_count, ln2_bits in (
        ("float", 24, 5, 4, 13),
        ("double", 53, 10, 9, 39),
    ):
        print(f"{name}: ln 2 in two words, the first of {ln2_bits} bits")
        high_word = round_to(LN2, ln2_bits)
        print("   ", literal(high_word, bits), literal(round_to(LN2 - high_word, bits), bits))
        print(f"{name}: (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, relative to exp(r)")
        half = LN2 / 2 * mpf("1.0001")
        fit(
            lambda r: (mp.expm1(r) - r) / r**2 if abs(r) > mpf(10) ** -25 else mpf("0.5"),
            lambda r: r**2 / mp.exp(r),
            -half,
            half,
            exp_count,
            bits,
        )
        # log(1 + f) = f - f^2/2 + s (f^2/2 + R),  s = f / (2 + f),  R = s^2 L(s^2)
        print(f"{name}: L(z), log((1+s)/(1-s)) = 2s + s z L(z), z = s^2, relative to the result")
        top = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
        fit(
            lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z,
            lambda z: z / (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z)),
            mpf(10) ** -12,
            top**2 * mpf("1.0001"),
            log_count,
            bits,
        )


if __name__ == "__main__":
    main()
