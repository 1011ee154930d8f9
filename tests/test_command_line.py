"""python -m csoftmax: what train, predict and info print and write, and every error they report."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax.__main__ import main
from csoftmax.datasets import IRIS_PATH

TIME_LIMIT = 60  # seconds for one subprocess
COMMAND = [sys.executable, "-m", "csoftmax"]
TABLE = "a,b,kind\n0.01,5,x\n0.02,6,x\n0.03,1,y\n0.04,2,y\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory but for a good table, good.csv."""
    monkeypatch.chdir(tmp_path)
    Path("good.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def ok(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    return out


def fails(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    """The command ends with status 2 and one line on standard error that holds the message."""
    status, out, err = run(capsys, *arguments.split())
    assert status == 2
    assert out == ""
    assert err.startswith("csoftmax: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert message in err


# ---------------------------------------------------------------- what works


def test_main_job_in_a_pipe() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=TIME_LIMIT, check=True)
    assert done.stderr == ""
    assert "\r" not in done.stdout
    assert len(re.findall(r"^epoch \d+/100: train loss", done.stdout, re.M)) == 6
    scores = re.findall(r"^(train|test) +([\d.]+) +([\d.]+)$", done.stdout, re.M)
    assert [name for name, _, _ in scores] == ["train", "test"]
    assert all(float(loss) < 0.2 for _, loss, _ in scores)
    assert all(float(accuracy) >= 0.93 for _, _, accuracy in scores)
    rows = re.findall(r"^(setosa|versicolor|virginica) +(\d+) +(\d+) +(\d+)$", done.stdout, re.M)
    assert [name for name, *_ in rows] == ["setosa", "versicolor", "virginica"]
    counts = np.array([row[1:] for row in rows], int)
    np.testing.assert_array_equal(counts.sum(axis=1), 15)
    assert f"{np.trace(counts) / 45:.4f}" == scores[1][2]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_progress_bar_on_a_terminal() -> None:
    import pty

    controller, terminal = pty.openpty()
    with subprocess.Popen(COMMAND, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while block := os.read(controller, 65536):
                shown += block
        except OSError:  # Linux reports the end of a pseudo-terminal in this way
            pass
        os.close(controller)
        assert process.wait(TIME_LIMIT) == 0
    assert b"100/100" in shown
    assert b"\r" in shown.replace(b"\r\n", b"")
    assert b"epoch 1/100" not in shown
    assert b"confusion matrix" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["train", "--epochs", "3"]) == 0
    assert shown.getvalue().count("epoch ") == 3


def test_same_seed_same_output(capsys: pytest.CaptureFixture[str]) -> None:
    first = ok(capsys, "train", "--epochs", "3")
    assert ok(capsys, "train", "--epochs", "3", "--seed", "0") == first
    assert ok(capsys, "train", "--epochs", "3", "--seed", "1") != first


def test_train_then_predict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ok(capsys, "train", str(IRIS_PATH), "--target", "species", "--save", "iris.npz")
    assert "wrote iris.npz" in out
    out = ok(capsys, "predict", "iris.npz", str(IRIS_PATH))
    rows = list(csv.DictReader(io.StringIO(out)))
    classes = ["setosa", "versicolor", "virginica"]
    assert list(rows[0]) == ["predicted", *(f"p_{name}" for name in classes)]
    with IRIS_PATH.open(encoding="utf-8", newline="") as file:
        samples = list(csv.DictReader(file))
    hits = sum(r["predicted"] == s["species"] for r, s in zip(rows, samples, strict=True))
    assert hits >= 0.93 * 150
    for row in rows:
        probabilities = [float(row[f"p_{name}"]) for name in classes]
        assert abs(sum(probabilities) - 1) < 1e-8
        assert row["predicted"] == classes[int(np.argmax(probabilities))]

    # Columns are matched by name: another order and further columns change nothing.
    names = ["petal_width", "note", "sepal_length", "petal_length", "sepal_width"]
    with open("shuffled.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="any text", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(samples)
    assert ok(capsys, "predict", "iris.npz", "shuffled.csv", "--output", "predictions.csv") == ""
    assert Path("predictions.csv").read_text(encoding="utf-8") == out


def test_loss_curve(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok(capsys, "train", "--epochs", "3", "--plot", "loss.png")
    content = Path("loss.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) > 5000


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    import csoftmax

    out = ok(capsys, "info")
    csoftmax.show_config()
    assert capsys.readouterr().out == out
    for fact in (csoftmax.__version__, str(csoftmax.get_num_threads()), "OpenMP"):
        assert fact in out


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    options = "target epochs learning-rate batch-size test-fraction seed save plot"
    assert all(f"--{option}" in out for option in options.split())


# ---------------------------------------------------------------- what is refused

BAD_TABLES = {
    "no target column": ("a,b\n1,2\n", "no target column 'kind'; columns: a, b"),
    "no feature column": ("kind\nx\ny\n", "no feature column"),
    "text": ("a,b,kind\n1,5,x\n2,six,y\n", "row 3, column 'b': 'six' is not a finite number"),
    "nan": ("a,b,kind\n1,NaN,x\n2,6,y\n", "row 2, column 'b': 'NaN' is not a finite number"),
    "infinite": ("a,b,kind\n1,1e999,x\n2,6,y\n", "row 2, column 'b': '1e999' is not a finite"),
    "underscore": ("a,b,kind\n1,1_0,x\n2,6,y\n", "row 2, column 'b': '1_0' is not a finite number"),
    "empty cell": ("a,b,kind\n1,5,x\n ,6,y\n", "row 3, column 'a': empty cell"),
    "empty class": ("a,b,kind\n1,5,x\n2,6,\n", "row 3, column 'kind': empty cell"),
    "one class": ("a,b,kind\n1,5,x\n2,6,x\n", "column 'kind' has one single class, 'x'"),
    "single row": ("a,b,kind\n1,5,x\n2,6,x\n3,7,y\n", "class 'y' has a single row"),
    "duplicate": ("a,a,kind\n1,5,x\n2,6,y\n", "row 1: 2 columns are named 'a'"),
    "unnamed": (",b,kind\n1,5,x\n2,6,y\n", "row 1, column 1: no column name"),
    "short row": ("a,b,kind\n1,5,x\n\n2,y\n", "row 4 has 2 cells: expected 3"),
    "long row": ("a,b,kind\n1,5,x,9\n2,6,y\n", "row 2 has 4 cells: expected 3"),
    "open quote": ('a,b,kind\n1,5,x\n2,6,"y\n', "row 3: unexpected end of data"),
    "no rows": ("a,b,kind\n", "no rows below the header"),
    "empty file": ("", "the file is empty"),
    "blank file": ("\n\n", "the file is empty"),
    "not text": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a UTF-8 text file"),
    "huge values": ("a,b,kind\n" + "1,1e308,x\n2,-1e308,y\n" * 4, "column 'b': values too large"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_table(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = BAD_TABLES[name]
    Path("bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    Path("model.npz").write_bytes(b"as it was")
    fails(capsys, "train bad.csv --target kind --save model.npz", message)
    assert Path("model.npz").read_bytes() == b"as it was"
    assert sorted(os.listdir()) == ["bad.csv", "good.csv", "model.npz"]


BAD_OPTIONS = [
    ("train missing.csv --target kind", "missing.csv: No such file"),
    ("train good.csv", "data file and --target"),
    ("train --target species", "data file and --target"),
    ("train good.csv --target kind --epochs 0", "argument --epochs: '0' is not an integer of at"),
    ("train good.csv --target kind --epochs 1.5", "argument --epochs: '1.5'"),
    ("train good.csv --target kind --batch-size -1", "argument --batch-size: '-1'"),
    ("train good.csv --target kind --seed x", "argument --seed: 'x'"),
    ("train good.csv --target kind --learning-rate 0", "argument --learning-rate: '0'"),
    ("train good.csv --target kind --learning-rate nan", "argument --learning-rate: 'nan'"),
    ("train good.csv --target kind --learning-rate inf", "argument --learning-rate: 'inf'"),
    ("train good.csv --target kind --test-fraction 1", "'1' is not a number between 0 and 1"),
    ("train good.csv --target kind --test-fraction 0", "'0' is not a number between 0 and 1"),
    ("train good.csv --target kind --bogus", "unrecognized arguments: --bogus"),
    ("train good.csv --target kind --save nowhere/model.npz", "cannot be written: No such file"),
    ("train good.csv --target kind --save .", ".: cannot be written: it is a directory"),
    ("train good.csv --target kind --save good.csv/model.npz", "cannot be written"),
    ("train good.csv --target kind --save good.csv", "good.csv: is both an output and"),
    ("train good.csv --target kind --save x.png --plot x.png", "x.png: is both an output and"),
    ("train good.csv --target kind --plot loss.pdf", "expected a name that ends in .png"),
    ("fly", "invalid choice: 'fly'"),
    ("predict model.npz", "required: data"),
    ("predict missing.npz good.csv", "missing.npz: No such file"),
    ("predict good.csv good.csv", "good.csv: not a csoftmax model"),
    ("predict model.npz missing.csv", "missing.csv: No such file"),
    ("predict model.npz other.csv", "other.csv: missing column 'b': the model needs a, b"),
    ("predict model.npz text.csv", "text.csv: row 2, column 'b': 'six' is not a finite number"),
    ("predict model.npz good.csv --output nowhere/p.csv", "cannot be written: No such file"),
    ("predict model.npz good.csv --output model.npz", "model.npz: is both an output and"),
    ("predict model.npz far.csv", "sample 1: values too large"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIONS)
def test_bad_option(
    arguments: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ok(capsys, "train", "good.csv", "--target", "kind", "--epochs", "1", "--save", "model.npz")
    for name, text in {
        "other.csv": "a,c\n1,2\n",
        "text.csv": "a,b\n1,six\n",
        "far.csv": "a,b\n1e308,-1e308\n",
    }.items():
        Path(name).write_text(text, encoding="utf-8")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    fails(capsys, arguments, message)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_overflowing_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "train", "--learning-rate", "1e308", "--save", "model.npz")
    assert status == 2
    assert re.fullmatch("csoftmax: error: the weights overflowed in epoch .*1e\\+308\n", err)
    assert os.listdir() == ["good.csv"]


def test_plot_without_matplotlib(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    fails(capsys, "train --plot loss.png", 'pip install "csoftmax[train]"')
    assert os.listdir() == ["good.csv"]


def test_error_of_the_process(folder: Path) -> None:
    done: Any = subprocess.run(
        [*COMMAND, "train", "missing.csv", "--target", "kind"],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "csoftmax: error: missing.csv: No such file or directory\n"


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_interrupt(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "train", "--epochs", "1000000", "--save", "model.npz"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A parent in the background ignores the signal, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch 1/"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == 130
    assert err == "csoftmax: interrupted\n"
    assert os.listdir() == ["good.csv"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_closed_pipe() -> None:
    with subprocess.Popen(
        [*COMMAND, "train", "--epochs", "200"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIME_LIMIT) == 141
