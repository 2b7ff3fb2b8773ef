"""Walks: their denoiser against closed forms and quadrature, the Gibbs samples against both, too."""

from __future__ import annotations

import math

import pytest
import torch

from daps_kit.compare.document import LEVY
from daps_kit.compare.levy import LAWS, OPERATORS, Gibbs, LevyWalk, levy_operator
from daps_kit.compare.matrix import Matrix
from daps_kit.contracts import RandomStreams
from daps_kit.runs.cost import Meter


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_names_are_those_of_the_document() -> None:
    assert tuple((law, operator) for law in LAWS for operator in OPERATORS) == LEVY


def gaussian(prior: LevyWalk) -> torch.Tensor:
    """Return the covariance of Gaussian walks."""
    steps = torch.ones(prior.size, prior.size, dtype=torch.float64).tril() / prior.unit
    return LAWS["gauss"] * steps @ steps.T


@pytest.mark.parametrize("sigma", [0.01, 0.1, 1.0])
def test_the_denoiser_of_gaussian_walks_is_the_closed_form(sigma: float) -> None:
    prior = LevyWalk("gauss", 16)
    covariance = gaussian(prior)
    x = prior.draw(3, torch.Generator().manual_seed(1)) + sigma * normal(2, 3, 16)
    wanted = x @ torch.linalg.solve(covariance + sigma**2 * torch.eye(16), covariance)
    torch.testing.assert_close(prior.denoise(x[:, None, None], sigma).flatten(1), wanted, atol=2e-4, rtol=0)


def density(law: str, u: torch.Tensor) -> torch.Tensor:
    if law == "laplace":
        return (-u.abs()).exp() / 2
    return 2 / (math.pi * math.sqrt(3) * (1 + u.square() / 3).square())


def quadrature(
    prior: LevyWalk, log_likelihood: torch.Tensor, grid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of walks of two steps, x0 on a grid [N, 2]."""
    u = grid * prior.unit
    weight = density(prior.law, u[:, 0]) * density(prior.law, u[:, 1] - u[:, 0]) * log_likelihood.exp()
    weight = weight / weight.sum()
    mean = weight @ grid
    return mean, weight @ (grid - mean).square()


@pytest.mark.parametrize("law", ["laplace", "student"])
def test_denoiser_and_gibbs_samples_are_those_of_quadrature(law: str) -> None:
    prior = LevyWalk(law, 2)
    axis = torch.linspace(-1, 1, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    x_t, sigma = torch.tensor([[0.05, 0.3]], dtype=torch.float64), 0.1
    mean, _ = quadrature(prior, (grid - x_t).square().sum(1) / -2 / sigma**2, grid)
    found = prior.denoise(x_t[:, None, None], sigma).flatten()
    torch.testing.assert_close(found, mean, atol=1e-4, rtol=0)
    operator, y = Matrix(torch.tensor([[1.0, 2.0]]), 0.2), torch.tensor([0.5]).double()
    mean, variance = quadrature(prior, (grid @ operator.matrix.T - y).square().sum(1) / -2 / 0.04, grid)
    x = Gibbs(prior, operator, y, 0).pool
    torch.testing.assert_close(x.mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(x.var(0), variance, atol=0, rtol=0.15)


def test_switches_are_drawn_as_often_as_they_should() -> None:
    """One increment, seen with noise: how probable it is that it is none, by quadrature."""
    prior = LevyWalk("bernoulli-laplace", 1)
    operator, y = Matrix(torch.ones(1, 1), 0.05), torch.tensor([0.3]).double()
    u = torch.linspace(-1, 1, 20001, dtype=torch.float64) * prior.unit * 3
    seen = torch.exp((u / prior.unit - y).square() / -2 / 0.05**2)
    on = 0.1 * float(torch.trapezoid(seen * (-u.abs()).exp() / 2, u))
    off = 0.9 * math.exp(-float(y.square()) / 2 / 0.05**2)
    x = Gibbs(prior, operator, y, 0).pool
    assert float((x == 0).double().mean()) == pytest.approx(off / (on + off), abs=0.05)
    assert prior.denoise(torch.full((1, 1, 1, 1), 0.3).double(), 0.05).item() == pytest.approx(
        float(x.mean()), abs=0.02
    )


def test_samples_of_gaussian_walks_are_exact() -> None:
    prior = LevyWalk("gauss", 8)
    operator, covariance = Matrix(normal(3, 4, 8), 0.05), gaussian(prior)
    y = normal(4, 4) * 0.1
    gain = (
        covariance
        @ operator.matrix.T
        @ torch.linalg.inv(operator.matrix @ covariance @ operator.matrix.T + 0.05**2 * torch.eye(4))
    )
    x = Gibbs(prior, operator, y, 0)(3000, 1)
    wanted = covariance - gain @ operator.matrix @ covariance
    torch.testing.assert_close(x.mean(0), gain @ y, atol=0.01, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), wanted, atol=0.1 * float(wanted.max()), rtol=0)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_keep_to_their_noise(name: str) -> None:
    prior = LevyWalk("laplace")
    operator = levy_operator(prior, name)
    power = (prior.draw(500, torch.Generator().manual_seed(9)) @ operator.matrix.T).square().mean(1).median()
    assert 10 * math.log10(float(power) / operator.sigma**2) == pytest.approx(25, abs=1)
    if name == "fourier":
        torch.testing.assert_close(
            operator.matrix @ operator.matrix.T, torch.eye(len(operator.matrix)).double()
        )
    assert prior.sample((1, 1, 64), RandomStreams([1, 2])).shape == (2, 1, 1, 64)


def test_its_error_is_that_of_its_draws() -> None:
    prior = LevyWalk("bernoulli-laplace", 8)
    v = normal(5, 1, 1, 1, 8)
    covariance = prior.denoising_covariance(0.1)
    assert prior.denoising_covariance(0.1) is covariance
    meter = Meter()
    meter.prior(prior).denoising_covariance(0.2)
    assert meter.cost(1).calls == 0, "what a prior does to know its error is no call of a sampler"
    assert 0 < float((v * covariance.multiply(v)).sum()) < 0.01 * float(v.square().sum())
