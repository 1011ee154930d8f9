"""The data set that csoftmax ships; README.md beside it states source and licence."""

from __future__ import annotations

from pathlib import Path

from csoftmax.table import Dataset, read_dataset

__all__ = ["IRIS_PATH", "IRIS_TARGET", "load_iris"]

IRIS_PATH = Path(__file__).with_name("iris.csv")
IRIS_TARGET = "species"


def load_iris() -> Dataset:
    """Return Fisher's iris data: 150 samples (rows), 4 features, 3 classes.

    Returns
    -------
    Dataset
        Named tuple of X (150, 4) float64, y (150,) int64, feature_names and class_names.

    Examples
    --------
    >>> from csoftmax.datasets import load_iris
    >>> iris = load_iris()
    >>> iris.X.shape, iris.y.shape
    ((150, 4), (150,))
    >>> iris.class_names
    ('setosa', 'versicolor', 'virginica')
    """
    return read_dataset(IRIS_PATH, IRIS_TARGET)
