"""A problem where all is Gaussian and known, and the random numbers that a sampler draws on it, drawn again."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from daps_kit.contracts import GaussianNoise, RandomStreams, Sampler
from daps_kit.testing.base import orthogonal, tensor
from daps_kit.testing.problems import SHAPE, SIZE, DenseOperator, DensePrior

SIGMA_Y = 0.3


@dataclass
class Gaussian:
    """x0 ~ N(mu, C) of 16 numbers and y = A x0 + noise, A of 8 rows and singular values from 0.2 to 1.5.

    Images are rows of 16 numbers here; samplers see them as 1 x 4 x 4.
    """

    sigma_range: tuple[float, float] = (0.0, float("inf"))
    sigma_y: float = SIGMA_Y
    mu: Tensor = field(default_factory=lambda: 0.3 * tensor(41, (SIZE,), torch.float64))

    def __post_init__(self) -> None:
        basis = orthogonal(40, SIZE)
        variances = torch.linspace(0.1, 0.6, SIZE, dtype=torch.float64)
        self.covariance = basis * variances @ basis.T
        self.prior = DensePrior(self.mu, self.covariance, SHAPE, self.sigma_range)
        u, v = orthogonal(42, 8), orthogonal(43, SIZE)[:8]
        self.a = u * torch.linspace(0.2, 1.5, 8, dtype=torch.float64) @ v
        self.operator = DenseOperator(self.a, GaussianNoise(self.sigma_y))
        self.y = self.a @ (self.mu + tensor(44, (SIZE,), torch.float64)) + self.sigma_y * tensor(
            45, (8,), torch.float64
        )

    def with_parts(self, a: Tensor) -> Gaussian:
        """Return the problem with its covariance as it is now and another operator."""
        self.prior = DensePrior(self.mu, self.covariance, SHAPE, self.sigma_range)
        self.a, self.operator = a, DenseOperator(a, GaussianNoise(self.sigma_y))
        self.y = a @ (self.mu + tensor(44, (SIZE,), torch.float64)) + self.sigma_y * tensor(
            45, (len(a),), torch.float64
        )
        return self

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Return E[x0 | x] by a dense solve."""
        gain = self.gain(sigma)
        return self.mu + (x - self.mu) @ gain.T

    def gain(self, sigma: float) -> Tensor:
        """Return C (C + sigma^2)^{-1}, the Jacobian of the denoiser."""
        return torch.linalg.solve(
            self.covariance + sigma**2 * torch.eye(SIZE, dtype=torch.float64), self.covariance
        ).T

    def sample(self, sampler: Sampler, *seeds: int) -> Tensor:
        """Return samples, [B, 16]."""
        y = self.y.reshape(1, 1, 1, -1).repeat(len(seeds), 1, 1, 1)
        assert not sampler.refusal(self.prior, self.operator)
        *_, last = sampler.sample(self.prior, self.operator, y, RandomStreams(seeds))
        return last.x0y.flatten(1)

    def numbers(self, seed: int):
        """Return a function that draws the standard normal numbers of a stream again, 16 at a time."""
        streams = RandomStreams([seed])
        return lambda: streams.normal(SHAPE, torch.float64).flatten()


def assert_close(got: Tensor, wanted: Tensor) -> None:
    """Assert that numbers agree to 1e-5."""
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
