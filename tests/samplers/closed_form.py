"""Posteriors that are known: of a Gaussian prior in closed form, of single numbers by quadrature."""

from __future__ import annotations

from math import sqrt

import torch

import daps_operators
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.settings import GaussianNoiseSettings
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.target import GaussianTarget

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
SIZE = 64
NOISE = 0.2
Z = 4.5


LINEAR = {
    "identity": daps_operators.Identity,
    "box": lambda noise: daps_operators.Inpainting(noise=noise),
    "random": lambda noise: daps_operators.Inpainting(noise=noise, mask="random"),
    "down_sampling": lambda noise: daps_operators.DownSampling(noise=noise, scale_factor=2),
    "gaussian_blur": lambda noise: daps_operators.GaussianBlur(noise=noise, kernel_size=5, intensity=1.0),
    "motion_blur": lambda noise: daps_operators.MotionBlur(noise=noise, kernel_size=5),
}


def make(name: str) -> LinearOperator:
    return LINEAR[name](noise=GaussianNoiseSettings(sigma=NOISE)).build(shape=SHAPE, seed=0, device=CPU)


def smooth_prior() -> GaussianPrior:
    """A Gaussian whose variances run from 0.02 to 0.2 in a basis of no symmetry."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    variances = torch.logspace(-1.7, -0.7, SIZE, dtype=torch.float64)
    mean = 0.3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return GaussianPrior(mean, covariance=basis * variances @ basis.T)


def whitened_draws(x, prior, operator, y, noise=NOISE):
    """Return P^{1/2} (x - posterior mean) for draws x [B, ...], in double precision."""
    eye = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)
    a = operator.forward(eye).flatten(1).T
    values, vectors = prior.covariance.variances, prior.covariance.vectors
    precision = vectors / values @ vectors.T + a.T @ a / noise**2
    mu = prior.mean.flatten()
    pull = a.T @ (y.double().flatten() - a @ mu) / noise**2
    mean = mu + torch.linalg.solve(precision, pull)
    return (x.double().flatten(1) - mean) @ torch.linalg.cholesky(precision)


def check_standard_normal(w, allowance=0.0):
    count, size = w.shape
    assert float(w.mean(0).abs().max()) < Z / sqrt(count) + allowance
    covariance = torch.cov(w.T)
    spread = float(covariance.diagonal().mean())
    assert abs(spread - 1) < Z * sqrt(2 / (count * size)) + allowance
    assert abs(spread - 1) < 0.03
    error = covariance - torch.eye(size, dtype=covariance.dtype)
    assert float(error.abs().max()) < Z * sqrt(2 / count) + allowance


GRID = torch.linspace(-4, 4, 8001, dtype=torch.float64)
CENTRE, SPREAD = 0.1, 0.4


def quadrature(operator, y):
    """Return mean and variance of p(x) proportional to N(x; CENTRE, SPREAD^2) p(y | x), x one number."""
    image = GRID.reshape(-1, 1, 1, 1)
    log_density = operator.log_likelihood(image, torch.full_like(image, y))
    log_density = log_density - (GRID - CENTRE) ** 2 / (2 * SPREAD**2)
    weight = (log_density - log_density.max()).exp()
    weight = weight / weight.sum()
    mean = float((weight * GRID).sum())
    return mean, float((weight * (GRID - mean) ** 2).sum())


def elementwise(operator_settings, kernel, y, count=100):
    """Return draws for images of 10 x 10 independent numbers that were all measured as y."""
    shape = (1, 10, 10)
    operator = operator_settings.build(shape=shape, seed=0, device=CPU)
    centre = torch.full((count, *shape), CENTRE)
    target = GaussianTarget(
        centre,
        Isotropic(torch.tensor(SPREAD**2)),
        operator,
        torch.full_like(centre, y),
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    x, info = kernel.build().run(target, centre, RandomStreams(range(count)))
    assert not info.failures
    return x.double(), quadrature(operator_settings.build(shape=(1, 1, 1), seed=0, device=CPU), y)


COUNTS = {"dark": -0.8, "dim": -0.6, "bright": 0.5}
