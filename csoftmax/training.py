"""What the command line trains: split, standardise, fit by gradient descent, save and load."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csoftmax.functional import softmax
from csoftmax.layers import Dense, SoftmaxCrossEntropy
from csoftmax.losses import cross_entropy
from csoftmax.table import Dataset, InputError

__all__ = [
    "Classifier",
    "Score",
    "check_writable",
    "confusion_matrix",
    "fit",
    "stratified_split",
    "write_atomically",
]

MODEL_FORMAT = "csoftmax classifier 1"

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Score(NamedTuple):
    """Mean cross-entropy and share of samples classified right."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Classifier:
    """A softmax classifier on standardised features: ``softmax(W [(x - mean) / scale; 1])``.

    Parameters
    ----------
    feature_names, class_names : tuple of str
        F column names and C class names.
    mean, scale : ndarray, shape (F,)
        Subtracted from and divided into each feature.
    dense : Dense
        F inputs, C outputs, samples as rows.
    """

    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    mean: Floats
    scale: Floats
    dense: Dense

    @classmethod
    def untrained(cls, data: Dataset, rng: np.random.Generator) -> Classifier:
        """Return random weights, and the mean and standard deviation of `data`."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = data.X.mean(axis=0), data.X.std(axis=0)
        # Rounding can leave a constant feature a tiny deviation that would blow up other values.
        constant = data.X.min(axis=0) == data.X.max(axis=0)
        mean[constant], scale[constant] = data.X[0, constant], 1
        bad = np.flatnonzero(~np.isfinite(scale) | (scale == 0))
        if bad.size:
            raise InputError(
                f"column {data.feature_names[bad[0]]!r}: values too large or too close together "
                "to be standardised"
            )
        dense = Dense(len(data.feature_names), len(data.class_names), rng=rng, axis=-1)
        return cls(data.feature_names, data.class_names, mean, scale, dense)

    def standardise(self, X: Floats) -> Floats:
        """Return ``(X - mean) / scale`` for samples as rows."""
        with np.errstate(over="ignore"):  # logits() refuses what overflows
            return (X - self.mean) / self.scale

    def logits(self, X: Floats) -> Floats:
        """Return one score a class for samples as rows, (N, C)."""
        with np.errstate(over="ignore", invalid="ignore"):
            z = self.dense.forward(self.standardise(X))
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if bad.size:
            raise InputError(f"sample {bad[0] + 1}: values too large for this model")
        return z

    def probabilities(self, X: Floats) -> Floats:
        """Return one probability a class for samples as rows, (N, C)."""
        probabilities: Floats = softmax(self.logits(X), axis=-1)
        return probabilities

    def score(self, data: Dataset) -> Score:
        """Return loss and accuracy on labelled samples."""
        z = self.logits(data.X)
        loss = float(cross_entropy(z, data.y, axis=-1))
        return Score(loss, float((z.argmax(axis=1) == data.y).mean()))

    def to_bytes(self) -> bytes:
        """Return the model as an .npz archive without pickled objects."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            format=np.array(MODEL_FORMAT),
            feature_names=np.array(self.feature_names),
            class_names=np.array(self.class_names),
            mean=self.mean,
            scale=self.scale,
            weights=self.dense.weights,
        )
        return buffer.getvalue()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a file of what `to_bytes` returned.

        Raises
        ------
        InputError
            If the file is not such a model.
        OSError
            If it cannot be read.
        """
        content = Path(path).read_bytes()
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                if archive["format"].item() != MODEL_FORMAT:
                    raise ValueError("another format")
                features, classes = (
                    tuple(map(str, archive[name])) for name in ("feature_names", "class_names")
                )
                mean, scale = (archive[name].astype(np.float64) for name in ("mean", "scale"))
                dense = Dense(len(features), len(classes), axis=-1)
                dense.weights = archive["weights"]
            sizes_agree = mean.shape == scale.shape == (len(features),)
            finite = all(np.isfinite(values).all() for values in (mean, scale, dense.weights))
            if not (sizes_agree and finite and (scale > 0).all()):
                raise ValueError("inconsistent arrays")
        # A file that is no model fails in many ways inside zipfile, zlib and numpy.lib.format.
        except Exception as error:
            raise InputError(f"{path}: not a csoftmax model") from error
        return cls(features, classes, mean, scale, dense)


def stratified_split(
    y: Labels, fraction: float, class_names: tuple[str, ...], rng: np.random.Generator
) -> tuple[Labels, Labels]:
    """Split the samples at random, every class in about the same proportion.

    Parameters
    ----------
    y : ndarray, shape (N,)
        Labels.
    fraction : float
        Share of the test part, in (0, 1); every class keeps at least one sample in each part.
    class_names : tuple of str
        For the message of the error.
    rng : numpy.random.Generator

    Returns
    -------
    train, test : ndarray of int64
        Sample numbers, ascending.

    Raises
    ------
    InputError
        If a class has a single sample.
    """
    train, test = [], []
    for label, name in enumerate(class_names):
        members = rng.permutation(np.flatnonzero(y == label))
        if len(members) < 2:
            raise InputError(
                f"class {name!r} has a single row: expected at least 2, "
                "one to train on and one to test on"
            )
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        test.append(members[:count])
        train.append(members[count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def fit(
    classifier: Classifier,
    data: Dataset,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[int]:
    """Train in place by mini-batch gradient descent; yield the number of each finished epoch.

    Parameters
    ----------
    classifier : Classifier
    data : Dataset
        Training samples, not standardised.
    epochs, batch_size : int
    learning_rate : float
        Factor of the gradient of the mean loss of a batch.
    rng : numpy.random.Generator
        Orders the samples anew in every epoch.

    Raises
    ------
    InputError
        If the weights overflow.
    """
    X, y = classifier.standardise(data.X), data.y
    dense, loss = classifier.dense, SoftmaxCrossEntropy(axis=-1)
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(X))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                loss.forward(dense.forward(X[batch]), y[batch])
                dense.backward(loss.backward(), learning_rate)
        if not np.isfinite(dense.weights).all():
            raise InputError(
                f"the weights overflowed in epoch {epoch}: "
                f"expected a smaller learning rate than {learning_rate:g}"
            )
        yield epoch


def confusion_matrix(y: Labels, predicted: Labels, num_classes: int) -> Labels:
    """Return the (C, C) counts of samples by true class (row) and predicted class (column)."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (y, predicted), 1)
    return matrix


def check_writable(path: str) -> None:
    """Raise InputError now if `write_atomically` would fail later for want of a place."""
    if os.path.isdir(path):
        raise InputError(f"{path}: cannot be written: it is a directory")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise InputError(f"{path}: cannot be written: permission denied")
    if not os.path.exists(path) or os.path.isfile(path):
        temporary = _temporary(path)
        try:
            temporary.touch(exist_ok=False)
            temporary.unlink()
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def write_atomically(path: str, content: bytes) -> None:
    """Replace the file in one step: a failure leaves an existing file as it was."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device
        with open(path, "wb") as file:
            file.write(content)
        return
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        if os.path.exists(path):
            temporary.chmod(os.stat(path).st_mode)
        os.replace(temporary, os.path.realpath(path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(path: str) -> Path:
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")
