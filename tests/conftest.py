"""Fixtures that run a test once per implementation, and the number of hypothesis examples."""

from types import ModuleType

import pytest
from hypothesis import settings
from implementations import COMPILED, IMPLEMENTATIONS

settings.register_profile("csoftmax", max_examples=40, deadline=None)
settings.load_profile("csoftmax")


@pytest.fixture(scope="session", params=list(IMPLEMENTATIONS))
def csm(request: pytest.FixtureRequest) -> ModuleType:
    """The public functions of the NumPy twin, then of the package under each instruction set."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(scope="session", params=list(COMPILED))
def compiled(request: pytest.FixtureRequest) -> ModuleType:
    """The package under each instruction set."""
    return COMPILED[request.param]
