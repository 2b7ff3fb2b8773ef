"""Matrices as operators and covariances."""

from __future__ import annotations

import torch

from daps_kit.compare.matrix import Dense, Matrix, Squares, Transmission
from daps_kit.contracts import GaussianNoise, PoissonNoise


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_operator_solves_its_normal_equations() -> None:
    operator, b = Matrix(normal(5, 3, 6), 0.1), normal(6, 2, 1, 1, 6)
    x = operator.solve_normal(b, 0.2)
    torch.testing.assert_close(operator.adjoint(operator.forward(x)) + 0.2 * x, b)


def test_a_covariance_for_each_sample() -> None:
    roots, v = normal(1, 2, 3, 3), normal(2, 2, 1, 1, 3)
    matrices = roots @ roots.mT
    found = Dense(matrices)
    torch.testing.assert_close(
        found.multiply(v).flatten(1), torch.einsum("bij,bj->bi", matrices, v.flatten(1))
    )
    torch.testing.assert_close(found.precision(found.multiply(v)), v)
    torch.testing.assert_close(found.sqrt(found.sqrt(v)), found.multiply(v))


def test_operators_that_are_not_linear() -> None:
    matrix, x = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).double(), torch.tensor([[[[1.0, -2.0]]]]).double()
    squares = Squares(matrix, GaussianNoise(0.1)).forward(x)
    torch.testing.assert_close(squares, torch.tensor([[9.0, 25.0]]).double())
    light = Transmission(matrix, 1.0, PoissonNoise(10)).forward(x)
    torch.testing.assert_close(light, torch.tensor([[0.0, -7.0]]).double().exp())
