"""python -m csoftmax: train a softmax classifier on a CSV table (or on iris), predict, info."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

import csoftmax
from csoftmax.datasets import IRIS_PATH, IRIS_TARGET
from csoftmax.table import Dataset, InputError, read_dataset, read_features
from csoftmax.training import (
    Classifier,
    Score,
    check_writable,
    confusion_matrix,
    fit,
    stratified_split,
    write_atomically,
)

INSTALL_TRAIN = 'pip install "csoftmax[train]"'
PLAIN_LINES = 5  # epochs printed where there is no terminal for a progress bar

History = list[tuple[Score, Score]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, 0, or 2 after a one-line error."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["train"]
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except InputError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("csoftmax: interrupted", file=sys.stderr)
        return 130
    return 0


def train(options: argparse.Namespace) -> None:
    """Train on a table, write what was asked for, print the scores and the confusion matrix."""
    if (options.data is None) != (options.target is None):
        raise InputError("train needs a data file and --target, or neither of them for iris")
    path, target = options.data or str(IRIS_PATH), options.target or IRIS_TARGET
    _check_outputs([options.save, options.plot], inputs=[path])
    if options.plot is not None:
        _check_plot(options.plot)

    data = read_dataset(path, target)
    rng = np.random.default_rng(options.seed)
    rows, test_rows = stratified_split(data.y, options.test_fraction, data.class_names, rng)
    training = data._replace(X=data.X[rows], y=data.y[rows])
    test = data._replace(X=data.X[test_rows], y=data.y[test_rows])
    classifier = Classifier.untrained(training, rng)
    print(
        f"{os.path.basename(path)}: {len(rows)} rows to train on, {len(test_rows)} to test on, "
        f"{len(data.feature_names)} features, {len(data.class_names)} classes",
        flush=True,
    )

    def scores() -> Iterator[tuple[Score, Score]]:
        for _ in fit(
            classifier,
            training,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            batch_size=options.batch_size,
            rng=rng,
        ):
            yield classifier.score(training), classifier.score(test)

    history = list(_shown(scores(), options.epochs))
    contents = {}
    if options.save is not None:
        contents[options.save] = classifier.to_bytes()
    if options.plot is not None:
        contents[options.plot] = _plot(history)
    for output, content in contents.items():
        write_atomically(output, content)
    _report(classifier, history[-1], test)
    for output in contents:
        print(f"wrote {output}")


def predict(options: argparse.Namespace) -> None:
    """Write the predicted class of every row and the probability of each class, as CSV."""
    if options.output is not None:
        _check_outputs([options.output], inputs=[options.model, options.data])
    classifier = Classifier.load(options.model)
    X = read_features(options.data, classifier.feature_names)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["predicted", *(f"p_{name}" for name in classifier.class_names)])
    for row in classifier.probabilities(X):
        writer.writerow([classifier.class_names[row.argmax()], *(f"{p:.9g}" for p in row)])
    if options.output is None:
        sys.stdout.write(text.getvalue())
    else:
        write_atomically(options.output, text.getvalue().encode())


def info(options: argparse.Namespace) -> None:
    """Print version, instruction sets, threads and OpenMP."""
    csoftmax.show_config()


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are reported like all others: in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m csoftmax",
        description="Train a softmax classifier and predict with it. "
        "Without arguments: train on Fisher's iris data, which the package ships.",
    )
    commands = parser.add_subparsers(required=True, metavar="train|predict|info")

    command = commands.add_parser("train", help="train on a CSV table", description=train.__doc__)
    command.set_defaults(run=train)
    command.add_argument("data", nargs="?", help="CSV table with a header (default: iris)")
    command.add_argument("--target", help="column that holds the class; all others are features")
    for flag, kind, default, text in (
        ("--epochs", _integer(1), 100, "passes over the training rows"),
        ("--learning-rate", _number(0, math.inf), 0.5, "step of the gradient descent"),
        ("--batch-size", _integer(1), 16, "rows a step"),
        ("--test-fraction", _number(0, 1), 0.3, "share of the rows held out for the test"),
        ("--seed", _integer(0), 0, "of the split, the first weights and the order of rows"),
    ):
        command.add_argument(
            flag, type=kind, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    command.add_argument("--save", metavar="MODEL.npz", help="write the trained model")
    command.add_argument("--plot", metavar="LOSS.png", help="draw the loss over the epochs")

    command = commands.add_parser(
        "predict", help="classify the rows of a CSV table", description=predict.__doc__
    )
    command.set_defaults(run=predict)
    command.add_argument("model", metavar="MODEL.npz", help="what train --save wrote")
    command.add_argument("data", help="CSV table that has the columns of the model, in any order")
    command.add_argument("--output", metavar="PREDICTIONS.csv", help="default: standard output")

    command = commands.add_parser(
        "info", help="show how csoftmax runs here", description=info.__doc__
    )
    command.set_defaults(run=info)
    return parser


def _integer(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not an integer of at least {minimum}"
            ) from None
        return value

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number between {low} and {high}")
        return value

    return parse


def _check_outputs(outputs: Sequence[str | None], inputs: Sequence[str]) -> None:
    """Refuse, before any work, an output that cannot be written or would destroy a file in use."""
    used = {os.path.realpath(path) for path in inputs}
    for output in outputs:
        if output is None:
            continue
        if os.path.realpath(output) in used:
            raise InputError(f"{output}: is both an output and another file of this command")
        used.add(os.path.realpath(output))
        check_writable(output)


def _shown(scores: Iterator[tuple[Score, Score]], total: int) -> Iterator[tuple[Score, Score]]:
    """Pass the scores on, showing them as a progress bar on a terminal, else as a few lines."""
    bar: Any = None
    if sys.stdout.isatty():
        try:
            from tqdm import tqdm
        except ImportError:  # an extra: plain lines do without
            pass
        else:
            # Left to itself, tqdm shows nothing on a terminal that does not tell its size.
            width, height = shutil.get_terminal_size()
            form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            bar = tqdm(
                scores, total=total, file=sys.stdout, ncols=width, nrows=height, bar_format=form
            )
    lines = {1, *(total * part // PLAIN_LINES for part in range(1, PLAIN_LINES + 1))}
    for epoch, (train_score, test_score) in enumerate(scores if bar is None else bar, start=1):
        text = f"train loss {train_score.loss:.4f}, test loss {test_score.loss:.4f}"
        if bar is not None:
            bar.set_postfix_str(text, refresh=epoch == total)
        elif epoch in lines:
            print(f"epoch {epoch}/{total}: {text}", flush=True)
        yield train_score, test_score


def _report(classifier: Classifier, last: tuple[Score, Score], test: Dataset) -> None:
    print(f"\n{'':5} {'loss':>8} {'accuracy':>8}")
    for name, score in zip(("train", "test"), last, strict=True):
        print(f"{name:5} {score.loss:8.4f} {score.accuracy:8.4f}")
    names = classifier.class_names
    counts = confusion_matrix(test.y, classifier.logits(test.X).argmax(axis=1), len(names))
    width = max(map(len, (*names, str(counts.max()))))
    print("\nconfusion matrix of the test rows (down: true class, across: predicted class)")
    print(" " * width, *(f"{name:>{width}}" for name in names))
    for name, row in zip(names, counts, strict=True):
        print(f"{name:<{width}}", *(f"{count:>{width}}" for count in row))


def _check_plot(path: str) -> None:
    if not path.lower().endswith(".png"):
        raise InputError(f"--plot {path}: expected a name that ends in .png")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError(f"--plot needs matplotlib: {INSTALL_TRAIN}") from None


def _plot(history: History) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="mean cross-entropy", title="Loss")
    epochs = range(1, len(history) + 1)
    for part, label in enumerate(("train", "test")):
        axes.plot(epochs, [scores[part].loss for scores in history], label=label, marker=".")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _fail(message: str) -> int:
    print("csoftmax: error:", " ".join(message.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):  # class names that the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
