"""Training pieces: iris data, CSV tables, split, standardising, fitting, model files, writing."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax.datasets import load_iris
from csoftmax.table import Dataset, InputError, read_dataset, read_features
from csoftmax.training import (
    Classifier,
    check_writable,
    confusion_matrix,
    fit,
    stratified_split,
    write_atomically,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def trained(data: Dataset, seed: int = 0, epochs: int = 20, learning_rate: float = 0.5) -> Any:
    rng = np.random.default_rng(seed)
    train, test = stratified_split(data.y, 0.3, data.class_names, rng)
    training = data._replace(X=data.X[train], y=data.y[train])
    classifier = Classifier.untrained(training, rng)
    options: dict[str, Any] = {"learning_rate": learning_rate, "batch_size": 16, "rng": rng}
    assert list(fit(classifier, training, epochs=epochs, **options)) == [*range(1, epochs + 1)]
    return classifier, data._replace(X=data.X[test], y=data.y[test])


# ---------------------------------------------------------------- tables


def test_iris() -> None:
    iris = load_iris()
    assert iris.X.shape == (150, 4)
    assert iris.X.dtype == np.float64
    assert iris.feature_names == ("sepal_length", "sepal_width", "petal_length", "petal_width")
    assert iris.class_names == ("setosa", "versicolor", "virginica")
    np.testing.assert_array_equal(iris.y, np.repeat([0, 1, 2], 50))
    # Fisher's table of means, and the two rows that are often mistyped.
    means = [iris.X[iris.y == label].mean(axis=0) for label in range(3)]
    want = [[5.006, 3.428, 1.462, 0.246], [5.936, 2.77, 4.26, 1.326], [6.588, 2.974, 5.552, 2.026]]
    np.testing.assert_allclose(means, want, rtol=1e-12)
    np.testing.assert_array_equal(iris.X[[34, 37]], [[4.9, 3.1, 1.5, 0.2], [4.9, 3.6, 1.4, 0.1]])


def test_table_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = '\ufeffkind, "a, b" ,c\r\n\r\n"y""s",1, 2.5 \r\nno,-1e3,.5\r\n'
    path = write(tmp_path / "t.csv", text.replace(' "a, b" ', '"a, b"'))
    data = read_dataset(path, "kind")
    assert data.feature_names == ("a, b", "c")
    assert data.class_names == ("no", 'y"s')
    np.testing.assert_array_equal(data.X, [[1, 2.5], [-1000, 0.5]])
    np.testing.assert_array_equal(data.y, [1, 0])
    np.testing.assert_array_equal(read_features(path, ["c", "a, b"]), data.X[:, ::-1])


# ---------------------------------------------------------------- split, standardise, fit


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.99])
def test_split_keeps_every_class_in_both_parts(fraction: float) -> None:
    y = np.repeat([0, 1, 2], [2, 10, 100])
    train, test = stratified_split(y, fraction, ("a", "b", "c"), np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(112))
    for label, size in enumerate((2, 10, 100)):
        want = min(max(round(fraction * size), 1), size - 1)
        assert (y[test] == label).sum() == want
        assert (y[train] == label).sum() == size - want


def test_split_refuses_a_single_row() -> None:
    with pytest.raises(InputError, match="class 'b' has a single row"):
        stratified_split(np.array([0, 0, 1]), 0.5, ("a", "b"), np.random.default_rng(0))


def test_standardised_features_and_constant_ones() -> None:
    X = np.random.default_rng(0).normal([5, -3, 0.1], [2, 1e-3, 0], (50, 3))
    data = Dataset(X, np.arange(50) % 2, ("a", "b", "constant"), ("n", "y"))
    standard = Classifier.untrained(data, np.random.default_rng(0)).standardise(X)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(standard.std(axis=0), [1, 1, 0], rtol=1e-12)
    np.testing.assert_array_equal(standard[:, 2], 0)


def test_huge_values_are_refused() -> None:
    data = Dataset(
        np.array([[1.0, 1e308], [2.0, -1e308]]), np.array([0, 1]), ("a", "b"), ("n", "y")
    )
    with pytest.raises(InputError, match="column 'b'"):
        Classifier.untrained(data, np.random.default_rng(0))


def test_iris_accuracy_over_seeds() -> None:
    scores = []
    for seed in range(10):
        classifier, test = trained(load_iris(), seed, epochs=50)
        scores.append(classifier.score(test))
    assert np.mean([score.accuracy for score in scores]) >= 0.94
    assert np.mean([score.loss for score in scores]) < 0.2


def test_score_is_that_of_the_probabilities() -> None:
    classifier, test = trained(load_iris())
    probabilities = classifier.probabilities(test.X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-14)
    score = classifier.score(test)
    right = probabilities[np.arange(len(test.y)), test.y]
    np.testing.assert_allclose(score.loss, -np.log(right).mean(), rtol=1e-12)
    assert score.accuracy == (probabilities.argmax(axis=1) == test.y).mean()


def test_confusion_matrix() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2, 0]), np.array([0, 1, 1, 2, 1]), 3)
    np.testing.assert_array_equal(matrix, [[1, 2, 0], [0, 1, 0], [0, 0, 1]])


# ---------------------------------------------------------------- model files


def test_model_file_round_trip(tmp_path: Path) -> None:
    classifier, test = trained(load_iris())
    path = tmp_path / "model.npz"
    path.write_bytes(classifier.to_bytes())
    loaded = Classifier.load(path)
    assert loaded.feature_names == classifier.feature_names
    assert loaded.class_names == classifier.class_names
    np.testing.assert_array_equal(loaded.probabilities(test.X), classifier.probabilities(test.X))


def broken_models() -> dict[str, bytes]:
    import io

    model = trained(load_iris(), epochs=1)[0].to_bytes()
    arrays = dict(np.load(io.BytesIO(model)))

    def saved(**changes: Any) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **{**arrays, **changes})
        return buffer.getvalue()

    array = io.BytesIO()
    np.save(array, np.ones(3))
    return {
        "empty": b"",
        "text": b"sepal_length,species\n1,setosa\n",
        "truncated": model[: len(model) // 2],
        "damaged": model.replace(arrays["mean"].tobytes(), bytes(32)),
        "single array": array.getvalue(),
        "other archive": saved(format=np.array("something else")),
        "pickle": saved(feature_names=arrays["feature_names"].astype(object)),
        "wrong weights": saved(weights=np.ones((3, 4))),
        "wrong mean": saved(mean=np.ones(3)),
        "zero scale": saved(scale=np.zeros(4)),
        "nan weights": saved(weights=np.full((3, 5), np.nan)),
    }


@pytest.mark.parametrize("name", broken_models())
def test_file_that_is_no_model(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(broken_models()[name])
    with pytest.raises(InputError, match=r"broken\.npz: not a csoftmax model"):
        Classifier.load(path)


# ---------------------------------------------------------------- writing


def test_write_atomically(tmp_path: Path) -> None:
    path = tmp_path / "out"
    check_writable(str(path))
    assert list(tmp_path.iterdir()) == []
    write_atomically(str(path), b"first")
    path.chmod(0o640)
    write_atomically(str(path), b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_write_atomically_follows_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(str(link), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
