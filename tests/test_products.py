"""The matrix products of linear_cross_entropy, against those of exact integers."""

import numpy as np
import pytest

LAYOUTS = {
    "rows": lambda a: a,
    "columns": np.asfortranarray,
    "padded": lambda a: np.pad(a, 3)[3:-3, 3:-3],
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    # rows that meet in one set of the first cache
    "far": lambda a: np.pad(a, ((0, 0), (0, -a.shape[1] % 1024 + 1024)))[:, : a.shape[1]],
}
# Rows and columns around those of a tile, terms around those of one pass
SHAPES = [
    (1, 1, 1), (6, 7, 8), (14, 5, 32), (15, 16, 33), (28, 64, 64), (13, 513, 31), (29, 1030, 65),
    (230, 20, 3), (3, 20, 230), (40, 512, 600), (5, 1, 3000), (250, 2, 64),
]  # fmt: skip


@pytest.fixture
def kernels(compiled):
    return compiled.linear_cross_entropy.__globals__["kernels"]


def operands(shape, dtype):
    """Matrices whose products are exact, so that no order of terms matters."""
    rows, terms, columns = shape
    rng = np.random.default_rng(0)
    return [
        rng.integers(-9, 10, size).astype(dtype)
        for size in ((rows, terms), (terms, columns), (rows, columns))
    ]


@pytest.mark.parametrize(
    ("layout_a", "layout_b"),
    [(a, b) for a in LAYOUTS for b in LAYOUTS if "rows" in (a, b) or a == b],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_layouts_and_shapes(kernels, dtype, layout_a, layout_b):
    for shape in SHAPES:
        a, b, c = operands(shape, dtype)
        product = a @ b
        a, b = LAYOUTS[layout_a](a), LAYOUTS[layout_b](b)
        for add in (False, True):
            # what lies beside out must stay
            room = np.full((shape[0] + 2, shape[2] + 5), -77, dtype)
            out = room[1:-1, 2:-3]
            out[...] = c if add else np.nan
            kernels.multiply(a, b, out, add)
            np.testing.assert_array_equal(out, product + c if add else product)
            room[1:-1, 2:-3] = -77
            assert np.all(room == -77)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads(compiled, kernels, dtype, threads):
    for shape in ((300, 200, 100), (100, 200, 300), (15, 70000, 1), (1000, 600, 33)):
        rng = np.random.default_rng(1)
        a, b = (rng.standard_normal(size).astype(dtype) for size in (shape[:2], shape[1:]))
        one, several = np.empty((2, shape[0], shape[2]), dtype)
        with compiled.threads(1):
            kernels.multiply(a, b, one, False)
        with compiled.threads(threads):
            kernels.multiply(a, b, several, False)
        np.testing.assert_array_equal(one, several)
        np.testing.assert_allclose(one, a @ b, rtol=0, atol=8 * shape[1] * np.finfo(dtype).eps)


@pytest.mark.parametrize("add", [False, True])
def test_no_terms_and_no_entries(kernels, add):
    out = np.ones((3, 4))
    kernels.multiply(np.empty((3, 0)), np.empty((0, 4)), out, add)
    assert np.all(out == (1 if add else 0))
    for rows, columns in ((0, 4), (3, 0), (0, 0)):
        kernels.multiply(np.ones((rows, 2)), np.ones((2, columns)), np.ones((rows, columns)), add)


def test_special_values_stay_in_their_rows_and_columns(kernels):
    a, b, out = np.ones((20, 3)), np.ones((3, 40)), np.empty((20, 40))
    a[4, 1], b[2, 7] = np.nan, np.inf
    kernels.multiply(a, b, out, False)
    np.testing.assert_array_equal(out, a @ b)
