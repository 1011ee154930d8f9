"""Reads CSV tables for the command line; every error names the file, and row and column if any.

The first row holds the column names. Rows are counted as an editor does: the header is row 1.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "InputError", "read_dataset", "read_features"]


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line for the user."""


class Dataset(NamedTuple):
    """Labelled samples: X (N, F) float64 with samples as rows, y (N,) int64 into class_names."""

    X: NDArray[np.float64]
    y: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


def read_dataset(path: str | PathLike[str], target: str) -> Dataset:
    """Read labelled samples: column `target` names the class, all others are numeric features.

    Parameters
    ----------
    path : path
        UTF-8 CSV file, comma-separated.
    target : str
        Name of the column that holds the class.

    Returns
    -------
    Dataset
        Classes are sorted by name.

    Raises
    ------
    InputError
        If the table is malformed, a feature is not a finite number, a class is empty, or there
        are fewer than two classes.
    OSError
        If the file cannot be read.
    """
    records = _records(path)
    header = next(records)[1]
    if target not in header:
        raise InputError(f"{path}: no target column {target!r}; columns: {', '.join(header)}")
    features = tuple(name for name in header if name != target)
    if not features:
        raise InputError(f"{path}: no feature column beside the target {target!r}")
    label_position = header.index(target)
    labels: list[str] = []

    def feature_records() -> Iterator[tuple[int, list[str]]]:
        for row, cells in records:
            if not cells[label_position]:
                raise InputError(f"{path}: row {row}, column {target!r}: empty cell")
            labels.append(cells[label_position])
            yield row, cells

    X = _numbers(path, header, features, feature_records())
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise InputError(
            f"{path}: column {target!r} has one single class, {classes[0]!r}: expected at least 2"
        )
    position = {name: index for index, name in enumerate(classes)}
    y = np.array([position[label] for label in labels], np.int64)
    return Dataset(X, y, features, tuple(classes))


def read_features(path: str | PathLike[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Read the named numeric columns, in the order of `names`; other columns are ignored.

    Parameters
    ----------
    path : path
        UTF-8 CSV file, comma-separated.
    names : sequence of str
        Column names, in any order in the file.

    Returns
    -------
    ndarray, shape (N, len(names)), float64

    Raises
    ------
    InputError
        If the table is malformed, a column is missing, or a value is not a finite number.
    OSError
        If the file cannot be read.
    """
    records = _records(path)
    header = next(records)[1]
    missing = [name for name in names if name not in header]
    if missing:
        raise InputError(
            f"{path}: missing column {', '.join(map(repr, missing))}: "
            f"the model needs {', '.join(names)}"
        )
    return _numbers(path, header, names, records)


def _records(path: str | PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, stripped cells): first the checked header, then the rows, none ragged."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        try:
            for record in reader:
                if not record:  # a blank line
                    continue
                cells = [cell.strip() for cell in record]
                row = reader.line_num
                if header is None:
                    header = cells
                    _check_header(path, row, header)
                elif len(cells) != len(header):
                    raise InputError(
                        f"{path}: row {row} has {len(cells)} cells: expected {len(header)}, "
                        "as the header"
                    )
                yield row, cells
        except csv.Error as error:
            raise InputError(f"{path}: row {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a UTF-8 text file") from error
    if header is None:
        raise InputError(f"{path}: the file is empty")


def _check_header(path: str | PathLike[str], row: int, header: list[str]) -> None:
    if "" in header:
        raise InputError(f"{path}: row {row}, column {header.index('') + 1}: no column name")
    for name, count in Counter(header).items():
        if count > 1:
            raise InputError(f"{path}: row {row}: {count} columns are named {name!r}")


def _numbers(
    path: str | PathLike[str],
    header: list[str],
    names: Sequence[str],
    records: Iterator[tuple[int, list[str]]],
) -> NDArray[np.float64]:
    positions = [header.index(name) for name in names]
    values: array[Any] = array("d")
    for row, cells in records:
        for position, name in zip(positions, names, strict=True):
            cell = cells[position]
            try:
                # float() reads 1_000 as 1000; in a table that is a typing error.
                value = math.nan if "_" in cell else float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                problem = f"{cell!r} is not a finite number" if cell else "empty cell"
                raise InputError(f"{path}: row {row}, column {name!r}: {problem}")
            values.append(value)
    if not values:
        raise InputError(f"{path}: no rows below the header")
    return np.array(values, np.float64).reshape(-1, len(names))
