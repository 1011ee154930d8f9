"""Fixtures that run a test once per implementation, and the number of hypothesis examples."""

import os
from types import ModuleType

import pytest
from hypothesis import settings
from implementations import COMPILED, IMPLEMENTATIONS

# The same examples in every run of CI, others in every run at a desk.
settings.register_profile(
    "csoftmax", max_examples=40, deadline=None, derandomize="CI" in os.environ
)
settings.load_profile("csoftmax")


@pytest.fixture(scope="session", params=list(IMPLEMENTATIONS))
def csm(request: pytest.FixtureRequest) -> ModuleType:
    """The public functions of the NumPy twin, then of the package under each instruction set."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(scope="session", params=list(COMPILED))
def compiled(request: pytest.FixtureRequest) -> ModuleType:
    """The package under each instruction set."""
    return COMPILED[request.param]
