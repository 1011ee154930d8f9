"""Time several implementations of one thing against each other, round by round in one process.

A machine's speed drifts: other processes, clock, temperature. Within one round all implementations
meet the same machine, so the ratio of their times in that round is worth more than the times.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from time import perf_counter, sleep
from typing import Any

import numpy as np
import numpy.typing as npt

Calls = Mapping[str, Callable[[], Any]]


def timed(call: Callable[[], Any], repeats: int) -> float:
    """Seconds per call, over `repeats` calls."""
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def repeats_for(call: Callable[[], Any], sample: float) -> int:
    """Warm up, and find how many calls take at least `sample` seconds."""
    repeats = 1
    while (seconds := timed(call, repeats)) * repeats < sample:
        repeats = max(2 * repeats, int(sample / seconds))
    return repeats


def interleave(
    calls: Calls,
    *,
    seconds: float = 0.5,
    min_rounds: int = 5,
    sample: float = 5e-4,
    pause: float = 0.0,
) -> dict[str, npt.NDArray[np.float64]]:
    """Seconds per call of every implementation, one entry a round.

    Rounds go on until `seconds` have passed, and for `min_rounds` at least. A call shorter than
    `sample` seconds is repeated within its round until the clock can resolve it. If one is, every
    implementation has a call that does not count first, which brings its data back to the cache:
    who gets it must not depend on who is a little faster. `pause` seconds before each let the
    threads of the implementation before, which wait for work in a loop, go to sleep.
    """
    repeats = {name: repeats_for(call, sample) for name, call in calls.items()}
    warm = max(repeats.values()) > 1
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        deadline = perf_counter() + seconds
        rounds = 0
        while rounds < min_rounds or perf_counter() < deadline:
            shuffle(order)  # no implementation always runs in another's warm (or cold) cache
            for name in order:
                if pause:
                    sleep(pause)
                if warm:
                    calls[name]()
                times[name].append(timed(calls[name], repeats[name]))
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}
