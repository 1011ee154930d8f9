"""CSOFTMAX_ISA forces an instruction set; a wrong one is a one-line error."""

import os
import subprocess
import sys

import pytest
from implementations import COMPILED


def python(code, instruction_set):
    environment = {**os.environ, "CSOFTMAX_ISA": instruction_set}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", list(COMPILED))
def test_instruction_set_is_honoured(name):
    code = (
        "import csoftmax, csoftmax.dispatch; print(csoftmax.dispatch.name, csoftmax.softmax([0]))"
    )
    done = python(code, name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name, "[1.]"]


@pytest.mark.parametrize("name", list(COMPILED))
def test_implementations_are_what_they_say(name):
    assert COMPILED[name].dispatch.name == name


@pytest.mark.parametrize("name", ["avx9000", "reference"])
def test_unknown_instruction_set_is_a_one_line_error(name):
    done = python("import csoftmax", name)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert repr(name) in last
    for available in COMPILED:
        assert available in last
