"""Separable operators against the dense Kronecker product of their matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_kit.contracts import GaussianNoise
from daps_kit.separable import BandedMatrix, SeparableOperator

NOISE = GaussianNoise(0.1)


def banded(rows: int, columns: int, width: float, seed: int = 0) -> np.ndarray:
    """A random matrix whose entries vanish away from the diagonal of the rectangle."""
    draw = np.random.default_rng(seed)
    away = np.abs(np.arange(rows)[:, None] / rows - np.arange(columns) / columns) * columns
    return draw.normal(size=(rows, columns)) * (away < width)


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (32, 32), (33, 70), (100, 40), (65, 64)])
@pytest.mark.parametrize("width", [0.5, 3, 1000])
def test_banded_products_are_those_of_the_matrix(shape, width):
    matrix = banded(*shape, width)
    product = BandedMatrix(matrix)
    draw = np.random.default_rng(1)
    x = torch.from_numpy(draw.normal(size=(2, 3, shape[1], 5)))
    np.testing.assert_allclose(product.columns(x), matrix @ x.numpy(), atol=1e-12)
    x = x.mT.contiguous()
    np.testing.assert_allclose(product.rows(x), x.numpy() @ matrix.T, atol=1e-12)


def test_only_the_band_is_kept():
    matrix = banded(256, 256, 2)
    kept = sum(
        (last - first) * min(32, 256 - 32 * i)
        for i, (first, last, _) in enumerate(BandedMatrix(matrix)._blocks)
    )
    assert kept < 256 * 256 / 5


@pytest.mark.parametrize("sizes", [(5, 7, 9, 8), (9, 4, 6, 6), (6, 8, 3, 10)])
def test_an_operator_is_the_product_of_its_matrices(sizes):
    h, height, w, width = sizes
    vertical, horizontal = banded(h, height, 3, seed=1), banded(w, width, 3, seed=2)
    operator = SeparableOperator((2, height, width), NOISE, vertical, horizontal)
    dense = np.kron(vertical, horizontal)
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(4, 2, height, width)), draw.normal(size=(4, 2, h, w))
    np.testing.assert_allclose(
        operator.forward(torch.from_numpy(x)).flatten(2), x.reshape(4, 2, -1) @ dense.T, atol=1e-12
    )
    np.testing.assert_allclose(
        operator.adjoint(torch.from_numpy(y)).flatten(2), y.reshape(4, 2, -1) @ dense, atol=1e-12
    )
    weights = torch.tensor([0.5, 1e-3, 2.0, 1.0], dtype=torch.float64)
    found = operator.solve_normal(torch.from_numpy(x), weights)
    for b, weight, solution in zip(x, weights.tolist(), found, strict=True):
        normal = dense.T @ dense + weight * np.eye(height * width)
        expected = np.linalg.solve(normal, b.reshape(2, -1).T).T
        np.testing.assert_allclose(solution.flatten(1), expected, rtol=1e-8, atol=1e-10)
    single = operator.solve_normal(torch.from_numpy(x).float(), 1e-2)
    torch.testing.assert_close(
        single.double(), operator.solve_normal(torch.from_numpy(x), 1e-2), rtol=1e-4, atol=1e-3
    )
