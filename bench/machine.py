"""The machine of a measurement: its name, versions of what runs on it, and how much of it may run.

Imports nothing that starts threads, so that `limit` can come before anything that does.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

# Processes that were running before this one, a mean over a minute.
LOAD = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """Sizes of the first processor's data caches, as the system gives them: {"L1": "32K", ...}."""
    found = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (cache / "type").read_text().strip() != "Instruction":
            found[f"L{(cache / 'level').read_text().strip()}"] = (
                (cache / "size").read_text().strip()
            )
    return found


def usable_cpus() -> list[int]:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def limit(threads: str) -> int:
    """Bind this process to so many processors ("all": as it is), and return their number.

    Before NumPy or any peer is imported: some have no other setting of their threads (JAX), some
    read it once, when they are imported.
    """
    cpus = usable_cpus()
    count = len(cpus) if threads == "all" else int(threads) if threads.isdecimal() else 0
    if not 1 <= count <= len(cpus):
        raise SystemExit(f"--threads {threads}: expected all, or a number from 1 to {len(cpus)}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus[-count:])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(count)
    return count


def describe(modules: Iterable[str]) -> dict[str, Any]:
    """Machine and versions, as the JSON files have them."""
    from csoftmax import dispatch

    return {
        "cpu": cpu_model(),
        "caches": caches(),
        "cores": os.cpu_count(),
        "load": LOAD,
        "system": platform.system(),
        "instruction set": dispatch.name,
        "versions": {
            "Python": platform.python_version(),
            **{name: import_module(name).__version__ for name in ("numpy", *modules)},
        },
    }
