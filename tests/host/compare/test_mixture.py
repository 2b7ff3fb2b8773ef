"""A mixture of Gaussians against quadrature."""

from __future__ import annotations

import pytest
import torch

from daps_kit.compare.matrix import Dense, Matrix
from daps_kit.compare.mixture import MixtureOfGaussians
from daps_kit.contracts import RandomStreams


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def mixture() -> MixtureOfGaussians:
    roots = 0.5 * normal(1, 3, 2, 2)
    return MixtureOfGaussians(
        normal(2, 3, 2), roots @ roots.mT + 0.05 * torch.eye(2), torch.tensor([0.2, 0.5, 0.3])
    )


def density(prior: MixtureOfGaussians, x: torch.Tensor) -> torch.Tensor:
    parts = [
        w * torch.exp(torch.distributions.MultivariateNormal(m, c).log_prob(x))  # type: ignore[no-untyped-call]
        for w, m, c in zip(prior.weights, prior.means, prior.covariances, strict=True)
    ]
    return torch.stack(parts).sum(0)


def on_a_grid() -> torch.Tensor:
    axis = torch.linspace(-7, 7, 281, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


def test_denoiser_and_covariance_are_those_of_quadrature(mixture: MixtureOfGaussians) -> None:
    x_t, sigma, grid = torch.tensor([[0.4, -0.7]], dtype=torch.float64), 0.6, on_a_grid()
    weight = density(mixture, grid) * torch.exp(-(grid - x_t).square().sum(1) / 2 / sigma**2)
    weight = weight / weight.sum()
    mean = weight @ grid
    covariance = (weight[:, None] * (grid - mean)).T @ (grid - mean)
    x = x_t[:, None, None]
    torch.testing.assert_close(mixture.denoise(x, sigma).flatten(), mean, rtol=1e-6, atol=1e-6)
    v = normal(3, 1, 1, 1, 2)
    found = mixture.conditional_covariance(x, sigma)
    torch.testing.assert_close(found.multiply(v).flatten(), covariance @ v.flatten(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.precision(found.multiply(v)), v)
    torch.testing.assert_close(found.sqrt(found.sqrt(v)), found.multiply(v))


def test_the_posterior_is_that_of_quadrature(mixture: MixtureOfGaussians) -> None:
    operator, y, grid = Matrix(normal(4, 1, 2), 0.3), torch.tensor([0.5]).double(), on_a_grid()
    weight = density(mixture, grid) * torch.exp(-(grid @ operator.matrix.T - y).square().sum(1) / 2 / 0.09)
    weight = weight / weight.sum()
    posterior = mixture.given(operator, y)
    torch.testing.assert_close(posterior.weights @ posterior.means, weight @ grid, rtol=1e-6, atol=1e-6)
    wanted = weight @ grid.square()
    drawn = posterior.draw(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.square().mean(0), wanted, rtol=0.03, atol=0)


def test_a_mean_covariance_over_noisy_images(mixture: MixtureOfGaussians) -> None:
    v = normal(7, 1, 1, 1, 2)
    little = mixture.denoising_covariance(1e-3).multiply(v)
    torch.testing.assert_close(little, 1e-6 * v, rtol=1e-3, atol=0)
    assert mixture.denoising_covariance(1e-3) is mixture.denoising_covariance(1e-3)
    x = mixture.sample((1, 1, 2), RandomStreams([1, 2]))
    assert x.shape == (2, 1, 1, 2)
    assert isinstance(mixture.denoising_covariance(1.0), Dense)
