r"""Problems whose answers are known, for the checks of kernels and samplers.

With x0 ~ N(mu, C), y = A x0 + noise of variance v, A and C dense matrices on images of d = 16 numbers,

    P = C^{-1} + A^T A / v,      p(x0 | y) = N(mu + P^{-1} A^T (y - A mu) / v, P^{-1}).

Chains are compared in the whitened coordinates w = P^{1/2} (x0 - mean), in which the posterior is N(0, I).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.contracts import (
    Covariance,
    GaussianNoise,
    LinearOperator,
    Noise,
    Prior,
    RandomStreams,
    Shape,
    Target,
)
from daps_kit.linalg import inner, per_sample

from .base import Z_LIMIT, expect, orthogonal, tensor

__all__ = ["DenseCovariance", "DenseOperator", "DensePrior", "DenseTarget", "Moments", "Posterior"]

SHAPE: Shape = (1, 4, 4)
SIZE = 16


def matrix_times(matrix: Tensor, x: Tensor) -> Tensor:
    """Return M x for each flattened sample, with the shape of x where the size stays."""
    product = x.flatten(1) @ matrix.to(x).T
    return product.reshape(x.shape) if product.shape[1] == x[0].numel() else product.reshape(len(x), 1, 1, -1)


def power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors * values**exponent @ vectors.T
    return result


class DenseCovariance(Covariance):
    """A covariance given as a matrix [d, d] on flattened samples."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self._root, self._inverse = power(matrix, 0.5), power(matrix, -1.0)

    def sqrt(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v."""
        return matrix_times(self._root, v)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v."""
        return matrix_times(self._inverse, v)


class DenseOperator(LinearOperator):
    """y = A x with a matrix [m, d] on flattened images; y is [B, 1, 1, m], or an image where m = d."""

    def __init__(self, matrix: Tensor, noise: Noise, shape: Shape = SHAPE) -> None:
        super().__init__(shape, noise)
        self.matrix = matrix
        self._normal = matrix.T @ matrix

    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""
        return matrix_times(self.matrix, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y."""
        return matrix_times(self.matrix.T, y).reshape(len(y), *self.shape)

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return (A^T A + w I)^{-1} b."""
        values, vectors = (t.to(b) for t in torch.linalg.eigh(self._normal))
        scale = per_sample(weight, b).reshape(-1, 1) if isinstance(weight, Tensor) and weight.ndim else weight
        solution = (b.flatten(1) @ vectors) / (values + scale) @ vectors.T
        return torch.reshape(solution, b.shape)


class DensePrior(Prior):
    """x0 ~ N(mu, C) with its denoiser, exact samples and exact denoising covariance.

    Attributes:
        asked: the noise levels at which it was asked to denoise.
    """

    def __init__(
        self,
        mean: Tensor,
        covariance: Tensor,
        shape: Shape = SHAPE,
        sigma_range: tuple[float, float] = (0.0, float("inf")),
    ) -> None:
        self.mean, self.matrix, self.shape, self.sigma_range = mean, covariance, shape, sigma_range
        self.asked: list[float] = []
        self._values, self._vectors = torch.linalg.eigh(covariance)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return mu + C (C + sigma^2 I)^{-1} (x - mu)."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        self.asked += level.reshape(-1).tolist()
        values, vectors, mean = self._values.to(x), self._vectors.to(x), self.mean.to(x).reshape(1, -1)
        shrink = values / (values + level.reshape(-1, 1) ** 2)
        denoised = mean + ((x.flatten(1) - mean) @ vectors * shrink) @ vectors.T
        return torch.reshape(denoised, x.shape)

    def denoising_covariance(self, sigma: float) -> Covariance:
        """Return C sigma^2 (C + sigma^2 I)^{-1}."""
        values = self._values * sigma**2 / (self._values + sigma**2)
        return DenseCovariance(self._vectors * values @ self._vectors.T)

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw exactly."""
        noise = streams.normal(shape)
        return matrix_times(power(self.matrix, 0.5), noise) + self.mean.to(noise).reshape(1, *shape)


@dataclass(frozen=True)
class Posterior:
    """p(x0 | y) = N(mean, P^{-1}) of a Gaussian prior N(mu, C) and a linear operator."""

    mean: Tensor
    precision: Tensor

    @classmethod
    def of(
        cls, mu: Tensor, covariance: Tensor, operator: DenseOperator, y: Tensor, variance: float
    ) -> Posterior:
        """Return the posterior for one measurement y and likelihood variance v; flattened, in double precision."""
        a, mu = operator.matrix.double(), mu.double().flatten()
        precision = power(covariance.double(), -1.0) + a.T @ a / variance
        pull = a.T @ (y.double().flatten() - a @ mu) / variance
        return cls(mu + torch.linalg.solve(precision, pull), precision)

    def draw(self, streams: RandomStreams, shape: Shape = SHAPE) -> Tensor:
        """Draw exactly, [B, *shape]."""
        noise = streams.normal((len(self.mean),), torch.float64)
        return (self.mean + noise @ power(self.precision, -0.5)).float().reshape(-1, *shape)

    def whiten(self, x: Tensor) -> Tensor:
        """Return w = P^{1/2} (x - mean) for samples [B, ...], [B, d]."""
        return (x.double().flatten(1) - self.mean) @ power(self.precision, 0.5)


class DenseTarget(Target):
    """p(x0 | x_t, y) of a Gaussian N(centre, C) and a linear operator: Gaussian, and known."""

    def __init__(
        self, centre: Tensor, covariance: Covariance, operator: DenseOperator, y: Tensor, variance: float
    ) -> None:
        self.centre, self.covariance, self.operator, self.y = centre, covariance, operator, y
        self.sigma, self.level, self.levels, self.likelihood_variance = 1.0, 0, 1, variance

    @property
    def has_density(self) -> bool:
        """Always."""
        return True

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p up to a constant, [B]."""
        return self.log_density_grad(x)[0]

    def log_density_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p up to a constant [B] and its gradient [B, ...]."""
        loss, gradient = self.operator.loss_grad(x, self.y)
        difference = self.centre - x
        pull = self.covariance.precision(difference)
        half = 0.5 / self.likelihood_variance
        return -half * loss - inner(pull, difference) / 2, pull - half * gradient


@dataclass(frozen=True)
class GaussianProblem:
    """A posterior with eigenvalues of its covariance from `variance` to 4 `variance`, and what it is made of."""

    operator: DenseOperator
    covariance: DenseCovariance
    centre: Tensor
    y: Tensor
    posterior: Posterior
    likelihood_variance: float

    @classmethod
    def of(cls, variance: float, likelihood_variance: float, seed: int = 0) -> GaussianProblem:
        """Return a problem: C^{-1} has eigenvalues in [1/4, 1/2] / variance, A^T A / v in [0, 1/2] / variance."""
        one, other = orthogonal(seed, SIZE), orthogonal(seed + 1, SIZE)
        inverse = torch.linspace(0.25, 0.5, SIZE, dtype=torch.float64) / variance
        gains = (torch.linspace(0, 0.5, SIZE, dtype=torch.float64) * likelihood_variance / variance).sqrt()
        covariance = one / inverse @ one.T
        noise = GaussianNoise(likelihood_variance**0.5)
        operator = DenseOperator(gains[:, None] * other.T, noise)
        centre = tensor(seed + 2, (1, *SHAPE)) * variance**0.5
        truth = centre + tensor(seed + 3, (1, *SHAPE)) * (2 * variance) ** 0.5
        y = operator.forward(truth) + likelihood_variance**0.5 * tensor(seed + 4, (1, *SHAPE))
        posterior = Posterior.of(centre, covariance, operator, y, likelihood_variance)
        return cls(operator, DenseCovariance(covariance), centre, y, posterior, likelihood_variance)

    def target(self, count: int, dtype: torch.dtype = torch.float32) -> DenseTarget:
        """Return it as the target of that many chains."""
        centre, y = (t.to(dtype).repeat(count, 1, 1, 1) for t in (self.centre, self.y))
        return DenseTarget(centre, self.covariance, self.operator, y, self.likelihood_variance)


@dataclass(frozen=True)
class Moments:
    """Moments of whitened samples [B, d], with their standard errors if they are N(0, I)."""

    w: Tensor

    def expect_mean(self, allowance: float, what: str) -> None:
        """Expect every component of the mean to be 0, within standard errors plus an allowance (in deviations)."""
        limit = Z_LIMIT / len(self.w) ** 0.5 + allowance
        worst = float(self.w.mean(0).abs().max())
        expect(
            worst <= limit, f"{what}: the mean is {worst:.3f} posterior deviations off, allowed {limit:.3f}"
        )

    def expect_covariance(self, allowance: float, what: str) -> None:
        """Expect the covariance to be I: its trace, and each entry, within standard errors plus an allowance."""
        count, size = self.w.shape
        covariance = torch.cov(self.w.T)
        spread = float(covariance.diagonal().mean())
        limit = Z_LIMIT * (2 / (count * size)) ** 0.5 + allowance
        expect(
            abs(spread - 1) <= limit,
            f"{what}: the variance is {spread:.3f} of the posterior's, allowed 1 +- {limit:.3f}",
        )
        limit = Z_LIMIT * (2 / count) ** 0.5 + allowance
        worst = float((covariance - torch.eye(size, dtype=covariance.dtype)).abs().max())
        expect(worst <= limit, f"{what}: an entry of the covariance is {worst:.3f} off, allowed {limit:.3f}")
