"""Prints the coefficients of exp and log in csoftmax/kernels/vecmath.hpp.

    python tools/minimax.py > csoftmax/kernels/coefficients.hpp

fits each polynomial by a weighted Remez exchange in 60-digit arithmetic (mpmath), rounds its
coefficients to the target type, and prints them as C++ hexadecimal literals with the largest
approximation error of the rounded polynomial, and a bound on the error of exp with all roundings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

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


def fit(f: Function, weight: Function, low: mpf, high: mpf, count: int, bits: int) -> list[mpf]:
    """The rounded coefficients, and behind them the error in ULP of a result just above 1."""
    exact, _ = remez(f, weight, low, high, count)
    rounded = [round_to(c, bits) for c in exact]
    _, peak = extrema(lambda x: weight(x) * (f(x) - evaluate(rounded, x)), low, high, count + 1)
    return [*rounded, peak * mpf(2) ** (bits - 1)]


def exp_bound(coefficients: Sequence[mpf], error: mpf, bits: int, fused: bool) -> mpf:
    """Largest error of reduce_exp in vecmath.hpp, in ULP of its result: all roundings added up."""

    def half_ulp(x: mpf) -> mpf:
        return mpf(2) ** (mp.floor(mp.log(abs(x), 2)) - bits) if x else mpf(0)

    worst = mpf(0)
    for i in range(-1000, 1001):
        r = LN2 / 2 * i / 1000
        h, lost = coefficients[-1], mpf(0)
        for c in [*reversed(coefficients[:-1]), mpf(1)]:
            lost = lost * abs(r) + (0 if fused else half_ulp(h * r))
            h = h * r + c
            lost += half_ulp(h)
        result = mp.exp(r)
        total = error * 2 * half_ulp(mpf(1)) * result + half_ulp(result) + half_ulp(r) * result
        total += lost * abs(r)
        if not fused:
            total += half_ulp(h * r) + half_ulp(mpf(2) ** (3 - bits // 2)) * result  # k LN2[1]
        worst = max(worst, total / (2 * half_ulp(result)))
    return worst


def literal(x: mpf, bits: int) -> str:
    """A C++ hexadecimal literal."""
    digits, exponent = float(x).hex().split("p")
    return f"{digits.rstrip('0').rstrip('.')}p{exponent}" + ("f" if bits == 24 else "")


def split(x: mpf, bits: int, first: int) -> list[mpf]:
    """x in three words, the first of `first` bits."""
    words = [round_to(x, first)]
    words += [round_to(x - words[0], bits)]
    return [*words, round_to(x - words[0] - words[1], bits)]


class Format(NamedTuple):
    """A floating type, and how many coefficients it gets."""

    name: str
    bits: int
    exp: int
    log: int
    ln2_bits: int  # of the first word of ln 2: k times it is exact
    factorials: int
    second_words: int  # of them that have one


FORMATS = (Format("float", 24, 5, 4, 13, 14, 8), Format("double", 53, 10, 9, 39, 24, 14))


def print_table(comment: str, name: str, values: Sequence[mpf], form: Format) -> None:
    print(f"    // {comment}")
    items = ", ".join(literal(v, form.bits) for v in values)
    line = f"static constexpr {form.name} {name}[] = {{{items}}};"
    print(textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="        "))


def print_coefficients(form: Format) -> None:
    bits, half = form.bits, LN2 / 2 * mpf("1.0001")
    *exp, exp_error = fit(
        lambda r: (mp.expm1(r) - r) / r**2 if abs(r) > mpf(10) ** -25 else mpf("0.5"),
        lambda r: r**2 / mp.exp(r),
        -half,
        half,
        form.exp,
        bits,
    )
    # log(1 + f) = f - f^2/2 + s (f^2/2 + R),  s = f / (2 + f),  R = s^2 L(s^2)
    top = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    *log, log_error = fit(
        lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z,
        lambda z: z / (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z)),
        mpf(10) ** -12,
        top**2 * mpf("1.0001"),
        form.log,
        bits,
    )
    factorials = [split(1 / mp.factorial(n), bits, bits) for n in range(form.factorials)]
    fused, unfused = (mp.nstr(exp_bound(exp, exp_error, bits, f), 3) for f in (True, False))
    print(f"template <> struct Coefficients<{form.name}> {{")
    print_table(
        f"ln 2 in three words, the first of {form.ln2_bits} bits", "LN2",
        split(LN2, bits, form.ln2_bits), form,
    )  # fmt: skip
    print_table(
        f"(exp(r) - 1 - r) / r^2, |r| <= ln(2)/2: error {mp.nstr(exp_error, 2)} ULP of exp(r), "
        f"with all\n    // roundings less than {fused} ULP ({unfused} without fused products)",
        "EXP", exp, form,
    )  # fmt: skip
    print_table(
        f"L(z) in log((1+s)/(1-s)) = 2s + s z L(z), z = s^2: error {mp.nstr(log_error, 2)} ULP",
        "LOG", log, form,
    )  # fmt: skip
    print_table("1/n!, n = 0, 1, ...", "FACTORIAL", [first for first, *_ in factorials], form)
    seconds = [second for _, second, _ in factorials[: form.second_words]]
    print_table(
        "and what their rounding lost, where that matters", "FACTORIAL_ERROR", seconds, form
    )
    print("};")


def main() -> None:
    print("// coefficients.hpp - printed by tools/minimax.py, which says how they are found.")
    print("#pragma once\n\nnamespace csoftmax {\n\ntemplate <class T> struct Coefficients;")
    for form in FORMATS:
        print_coefficients(form)
    print("\n}  // namespace csoftmax")


if __name__ == "__main__":
    main()
