"""Fixtures that run a test once per implementation, the order of tests, and the number of
hypothesis examples."""

import os
from types import ModuleType

import pytest
from hypothesis import settings

# Tests run side by side: a thread that waits leaves its processor to them. OpenMP reads this when
# the kernels are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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


@pytest.hookimpl(trylast=True)  # after pytest has put those of one implementation together
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every case under all implementations in turn, so that one can leave what it expects to the
    next."""
    place: dict[str, int] = {}
    items.sort(key=lambda item: place.setdefault(_case(item), len(place)))


def _case(item: pytest.Item) -> str:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    implementation = params.get("csm", params.get("compiled"))
    return item.nodeid.replace(f"[{implementation}", "[", 1)
