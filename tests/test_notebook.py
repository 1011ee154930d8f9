"""The teaching notebook: it runs, its outputs are right, its steps give TensorFlow's numbers."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import csoftmax

HERE = Path(__file__).parent
NOTEBOOK = HERE.parent / "examples" / "softmax_classifier.ipynb"
GOLDEN = json.loads((HERE / "golden" / "notebook.json").read_text())
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")
exactly = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15)


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def words(text: str) -> str:
    """The text without its numbers and spaces, which follow the last digit and the sign of 0."""
    return "".join(NUMBER.sub("#", text).split())


def code_cells(notebook: Any) -> dict[str, Any]:
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The notebook's code cells by id, after a run from top to bottom in an empty folder."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(
        notebook,
        timeout=60,
        startup_timeout=60,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return code_cells(notebook)


def test_no_cell_writes_to_stderr(executed: dict[str, Any]) -> None:
    outputs = [output for cell in executed.values() for output in cell.outputs]
    assert outputs
    assert "stderr" not in {output.get("name") for output in outputs}


def test_loop_prints_loss_and_gradient_of_every_sample(executed: dict[str, Any]) -> None:
    lines = printed(executed["step-4"]).splitlines()
    for i, (line, label) in enumerate(zip(lines, GOLDEN["labels"], strict=True)):
        pattern = rf"Sample {i}, Cross-Entropy Loss: (\S+) and Gradient: \[(.*)\]"
        found = re.fullmatch(pattern, line)
        assert found, line
        loss, gradient = float(found[1]), np.array(found[2].split(), float)
        expected = np.zeros(3)
        expected[label] = -np.exp(loss)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_weights_gradient_agrees_and_descent_learns_the_labels(executed: dict[str, Any]) -> None:
    assert "finite differences: True" in printed(executed["check"])
    descent = dict(line.split(":") for line in printed(executed["descent"]).splitlines())
    assert float(descent["last loss"]) < 0.1 * float(descent["first loss"])
    assert descent["predicted"].split() == descent["labels"].split()
    assert re.findall("True|False", printed(executed["shortcut"])) == ["True", "True"]


def test_loss_is_plotted(executed: dict[str, Any]) -> None:
    assert ["image/png" in output.get("data", {}) for output in executed["plot"].outputs] == [True]


def test_committed_outputs_are_those_of_a_run(executed: dict[str, Any]) -> None:
    committed = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    for name, cell in executed.items():
        actual, expected = printed(cell), printed(committed[name])
        assert words(actual) == words(expected), name
        np.testing.assert_allclose(
            np.array(NUMBER.findall(actual), float),
            np.array(NUMBER.findall(expected), float),
            rtol=1e-6,
            atol=1e-12,
            err_msg=name,
        )


def test_steps_give_the_numbers_of_tensorflow() -> None:
    X, W = np.array(GOLDEN["X"]), np.array(GOLDEN["W"])
    y = csoftmax.to_categorical(GOLDEN["labels"])
    assert y.dtype == GOLDEN["one_hot_dtype"]
    assert y.tolist() == GOLDEN["one_hot"]
    X_bias = np.vstack((X, np.ones(X.shape[1])))
    assert X_bias.tolist() == GOLDEN["X_bias"]

    for i, sample in enumerate(GOLDEN["samples"]):
        z = np.dot(W, X_bias[:, i])
        exactly(z, sample["z"])
        # A vector, and the column that TensorFlow's numbers were made with.
        for shape in ((3,), (3, 1)):
            layer = csoftmax.Softmax()
            yhat = layer.forward(z.reshape(shape))
            exactly(yhat, np.reshape(sample["softmax"], shape))
            target = y[i].reshape(shape)
            exactly(csoftmax.cce(target, yhat), sample["cce"])
            gradient = csoftmax.cce_gradient(target, yhat)
            exactly(gradient, np.reshape(sample["cce_gradient"], shape))
            exactly(layer.backward(gradient, 0.1), np.reshape(sample["backward"], shape))


def test_batch_of_columns_gives_the_numbers_of_tensorflow() -> None:
    Z = np.array(GOLDEN["W"]) @ np.array(GOLDEN["X_bias"])
    Y = csoftmax.to_categorical(GOLDEN["labels"]).T
    expected = {
        name: np.array([s[name] for s in GOLDEN["samples"]]).T for name in ("cce", "backward")
    }
    layer = csoftmax.Softmax()
    yhat = layer.forward(Z)
    exactly(csoftmax.cce(Y, yhat, axis=0), expected["cce"])
    exactly(layer.backward(csoftmax.cce_gradient(Y, yhat), 0.1), expected["backward"])
    loss, gradient = csoftmax.cross_entropy_with_grad(
        Z, np.array(GOLDEN["labels"]), axis=0, reduction="none"
    )
    exactly(loss, expected["cce"])
    exactly(gradient, expected["backward"])


@pytest.mark.parametrize("sample", GOLDEN["printed_in_the_notebook"])
def test_printed_gradient_is_minus_exp_of_the_printed_loss(sample: dict[str, float]) -> None:
    """A probability exp(-loss) at the label gives both numbers; eight decimals were printed."""
    loss, gradient = sample["loss"], sample["gradient_at_label"]
    np.testing.assert_allclose(-np.exp(loss), gradient, rtol=1e-12, atol=5e-9)
    yhat = np.array([np.exp(-loss), 1 - np.exp(-loss)])
    one_hot = csoftmax.to_categorical([0], 2)[0]
    np.testing.assert_allclose(csoftmax.cce(one_hot, yhat), loss, rtol=1e-14)
    np.testing.assert_allclose(
        csoftmax.cce_gradient(one_hot, yhat), [gradient, 0.0], rtol=1e-12, atol=5e-9
    )
