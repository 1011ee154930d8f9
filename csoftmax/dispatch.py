"""Picks the instruction set once, at import: ``kernels`` is the compiled module in use.

The environment variable ``CSOFTMAX_ISA`` forces one that this machine can run.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csoftmax.kernels import baseline as kernels

__all__ = ["available", "kernels", "name"]


def available() -> tuple[str, ...]:
    """Names of the instruction sets that are built in and that this machine runs, best first."""
    try:
        cpu = importlib.import_module("csoftmax.kernels.cpu")
    except ModuleNotFoundError:
        raise ImportError(
            "csoftmax is not built here: its compiled kernels are missing; "
            "run `pip install -e .` in its folder, or start Python elsewhere"
        ) from None
    return tuple(n for n in cpu.supported() if importlib.util.find_spec(f"csoftmax.kernels.{n}"))


def _choose() -> str:
    names = available()
    if not names:
        raise ImportError("csoftmax: this processor is older than x86-64-v2, which NumPy 2 needs")
    wanted = os.environ.get("CSOFTMAX_ISA") or names[0]
    if wanted not in names:
        raise ImportError(f"CSOFTMAX_ISA is {wanted!r}: expected one of {', '.join(names)}")
    return wanted


name = _choose()
if not TYPE_CHECKING:
    kernels = importlib.import_module(f"csoftmax.kernels.{name}")
