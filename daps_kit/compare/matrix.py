"""Operators and covariances that are matrices, for problems small enough to be solved exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, GaussianNoise, LinearOperator, Noise, Operator

__all__ = ["Dense", "Matrix", "Squares", "Transmission"]


class Matrix(LinearOperator):
    """y = A x for images [1, 1, d] and a matrix [m, d], in double precision."""

    def __init__(self, matrix: Tensor, sigma: float) -> None:
        super().__init__((1, 1, matrix.shape[1]), GaussianNoise(sigma))
        self.matrix, self.sigma = matrix.double(), sigma
        self._values, self._vectors = torch.linalg.eigh(self.matrix.T @ self.matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, [B, m]."""
        return x.flatten(1) @ self.matrix.T.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, [B, 1, 1, d]."""
        return (y @ self.matrix.to(y)).reshape(-1, *self.shape)

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return (A^T A + weight I)^{-1} b."""
        scale = torch.as_tensor(weight, dtype=torch.float64, device=b.device).reshape(-1, 1)
        vectors = self._vectors.to(b.device)
        solved: Tensor = (b.flatten(1).double() @ vectors) / (self._values.to(b.device) + scale) @ vectors.T
        return solved.to(b).reshape(b.shape)


class Squares(Operator):
    """y = (A x)^2, phase retrieval of real numbers, for images [1, 1, d] and a matrix [m, d]."""

    multimodal = True
    black = 0.0

    def __init__(self, matrix: Tensor, noise: Noise) -> None:
        super().__init__((1, 1, matrix.shape[1]), noise)
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        """Return (A x)^2, [B, m]."""
        return (x.flatten(1) @ self.matrix.T.to(x)).square()


class Transmission(Operator):
    """y = exp(-A (x + b)), the light that passes, for images [1, 1, d], a matrix [m, d] and a number b."""

    black = 0.0

    def __init__(self, matrix: Tensor, offset: float, noise: Noise) -> None:
        super().__init__((1, 1, matrix.shape[1]), noise)
        self.matrix, self.offset = matrix, offset

    def forward(self, x: Tensor) -> Tensor:
        """Return exp(-A (x + b)), [B, m]."""
        return ((x.flatten(1) + self.offset) @ -self.matrix.T.to(x)).exp()


class Dense(Covariance):
    """Covariances given as matrices, [d, d] or one a sample [B, d, d], of images [1, 1, d]."""

    def __init__(self, matrices: Tensor) -> None:
        values, self._vectors = torch.linalg.eigh(matrices)
        self._values = values.clamp_min(1e-12)

    def _power(self, v: Tensor, exponent: float) -> Tensor:
        vectors, values = self._vectors.to(v), self._values.to(v)
        flat = v.reshape(len(v), -1, 1)
        product: Tensor = vectors @ (values.unsqueeze(-1) ** exponent * (vectors.mT @ flat))
        return product.reshape(v.shape)

    def sqrt(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v."""
        return self._power(v, 0.5)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v."""
        return self._power(v, -1.0)

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v."""
        return self._power(v, 1.0)
