"""The implementations under test: the NumPy twin, and the package under each instruction set."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import csoftmax.reference
from csoftmax.dispatch import available


def _load(instruction_set: str) -> ModuleType:
    """A second copy of the package, bound to ``instruction_set``; compiled modules are shared."""
    kept = {name: sys.modules[name] for name in _python_modules()}
    before = os.environ.get("CSOFTMAX_ISA")
    for name in kept:
        del sys.modules[name]
    os.environ["CSOFTMAX_ISA"] = instruction_set
    try:
        return importlib.import_module("csoftmax")
    finally:
        if before is None:
            del os.environ["CSOFTMAX_ISA"]
        else:
            os.environ["CSOFTMAX_ISA"] = before
        for name in _python_modules():
            del sys.modules[name]
        sys.modules.update(kept)


def _python_modules() -> list[str]:
    return [
        name
        for name in sys.modules
        if name == "csoftmax"
        or (name.startswith("csoftmax.") and not name.startswith("csoftmax.kernels"))
    ]


COMPILED = {name: _load(name) for name in available()}
IMPLEMENTATIONS = {"reference": csoftmax.reference, **COMPILED}


def is_twin(csm: ModuleType) -> bool:
    return csm is csoftmax.reference
