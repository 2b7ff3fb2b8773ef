"""Every noise model with every kernel: posteriors of single numbers against quadrature, bright and dark."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

import daps_operators
from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.settings import GaussianNoiseSettings
from daps_operators.noises import Laplace, Poisson, PoissonGaussian, Student
from daps_samplers import HMC, MALA, Auto, Daps, Exact, RandomiseThenOptimise
from daps_samplers.target import GaussianTarget
from tests.samplers.closed_form import SHAPE, SIZE, Z, check_standard_normal, elementwise, smooth_prior

NOISES = {
    "gaussian": GaussianNoiseSettings(sigma=0.3),
    "poisson": Poisson(peak=12.0),
    "camera": PoissonGaussian(peak=30.0, read=2.5),
    "camera, low read noise": PoissonGaussian(peak=12.0, read=0.5),
    "laplace": Laplace(scale=0.3),
    "student": Student(scale=0.2, dof=3.0),
    "gaussian, 2 bits": GaussianNoiseSettings(sigma=0.2, quantised=2),
    "gaussian, clipped": GaussianNoiseSettings(sigma=0.3, clipped=(-0.5, 0.5)),
    "poisson, 3 bits": Poisson(peak=12.0, quantised=3),
    "camera, 4 bits": PoissonGaussian(peak=12.0, read=0.8, quantised=4),
    "laplace, 3 bits": Laplace(scale=0.2, quantised=3),
    "student, clipped": Student(scale=0.2, clipped=(-0.5, 0.5)),
}
"""Wide scatter beside a prior of deviation 0.4 around 0.1, so that neither decides alone."""

LEVELS = {"dark": -1.0, "dim": -0.75, "bright": 0.9}
SLOW = {"camera, 4 bits", "student, clipped"}
CHAINS = {"gaussian", "poisson", "laplace", "student"}
"""Noise models whose chains are fast."""


def measured(settings, level):
    """Return a value that the model may give: a multiple of a count, a level of a converter, within the range."""
    y = LEVELS[level]
    noise = settings.build()
    if (
        isinstance(settings, Poisson)
        and settings.quantised is None
        and not isinstance(settings, PoissonGaussian)
    ):
        y = -1 + round((y + 1) * settings.peak / 2) * 2 / settings.peak
    return float(noise._recorded(torch.tensor(y))) if hasattr(noise, "_recorded") else y


def pairs(*kernels):
    """Return every noise model with every kernel, at all levels, or chains of slow noise models at levels in turn."""
    found = []
    for n, noise in enumerate(NOISES):
        for i, level in enumerate(LEVELS):
            for k, (name, kernel) in enumerate(kernels):
                fast = noise not in SLOW if name == "rto" else noise in CHAINS and level != "dim"
                if not fast and name != "rto" and (n + i + k) % len(LEVELS):
                    continue
                marks = [] if fast else [pytest.mark.slow]
                found.append(pytest.param(noise, level, kernel, id=f"{noise}-{level}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(
    ("noise", "level", "kernel"),
    pairs(("rto", RandomiseThenOptimise()), ("hmc", HMC(steps=60)), ("mala", MALA(steps=200))),
)
def test_mean_and_variance_are_those_of_quadrature(noise, level, kernel):
    settings = daps_operators.Identity(noise=NOISES[noise])
    x, (mean, variance) = elementwise(settings, kernel, measured(NOISES[noise], level))
    assert abs(float(x.mean()) - mean) < (0.02 + Z / sqrt(x.numel())) * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=0.05)


MAP = np.exp(np.linspace(np.log(0.02), np.log(0.5), SIZE)).reshape(SHAPE)
"""Standard deviations from 0.02 to 0.5."""


@pytest.fixture
def map_file(tmp_path):
    np.save(tmp_path / "sigma.npy", MAP)
    return tmp_path / "sigma.npy"


OPERATORS = {
    "identity": daps_operators.Identity,
    "random": lambda noise: daps_operators.Inpainting(noise=noise, mask="random"),
    "gaussian_blur": lambda noise: daps_operators.GaussianBlur(noise=noise, kernel_size=5, intensity=1.0),
}


def weighted_draws(x, prior, operator, y, deviations=MAP):
    """Return P^{1/2} (x - posterior mean) for draws of a posterior whose noise has a map of deviations."""
    eye = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)
    a = operator.forward(eye).flatten(1).T
    weight = torch.as_tensor(deviations).double().flatten() ** -2
    values, vectors = prior.covariance.variances, prior.covariance.vectors
    precision = vectors / values @ vectors.T + a.T @ (weight[:, None] * a)
    mu = prior.mean.flatten()
    mean = mu + torch.linalg.solve(precision, a.T @ (weight * (y.double().flatten() - a @ mu)))
    return (x.double().flatten(1) - mean) @ torch.linalg.cholesky(precision)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "kernel",
    [Exact(accuracy=0.01), RandomiseThenOptimise(newton_steps=4, cg_steps=100, accuracy=0.01), Auto()],
)
def test_a_map_of_deviations_is_honoured(name, kernel, map_file):
    prior = smooth_prior()
    operator = OPERATORS[name](noise=GaussianNoiseSettings(sigma=map_file)).build(
        shape=SHAPE, seed=0, device=torch.device("cpu")
    )
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7]))
    count = 2000
    target = GaussianTarget(
        prior.mean.float().expand(count, *SHAPE),
        prior.covariance,
        operator,
        y.expand(count, *SHAPE),
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    x, _ = kernel.build().run(target, target.centre, RandomStreams(range(count)))
    check_standard_normal(weighted_draws(x, prior, operator, y), allowance=0.02)


def test_a_map_with_equal_spread_in_all_directions(map_file):
    """Where the prior's covariance is a multiple of the identity, a map rules out the operator's own inverse."""
    operator = daps_operators.Identity(noise=GaussianNoiseSettings(sigma=map_file)).build(
        shape=SHAPE, seed=0, device=torch.device("cpu")
    )
    count, spread = 4000, 0.2
    centre = torch.zeros(count, *SHAPE)
    target = GaussianTarget(
        centre,
        Isotropic(torch.tensor(spread**2)),
        operator,
        centre + 0.3,
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    x, _ = Exact(accuracy=0.01).build().run(target, centre, RandomStreams(range(count)))
    variance = 1 / (1 / spread**2 + torch.from_numpy(MAP) ** -2)
    w = (x - 0.3 * variance / torch.from_numpy(MAP) ** 2) / variance.sqrt()
    assert float(w.mean(0).abs().max()) < Z / sqrt(count) + 0.01
    assert float((w.var(0) - 1).abs().max()) < Z * sqrt(2 / count) + 0.02


def test_a_run_with_a_map_places_levels_and_draws_exactly(map_file):
    prior = smooth_prior()
    operator = daps_operators.GaussianBlur(
        noise=GaussianNoiseSettings(sigma=map_file), kernel_size=5, intensity=1.0
    ).build(shape=SHAPE, seed=0, device=torch.device("cpu"))
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7])).expand(500, *SHAPE)
    steps = list(Daps(final_denoise=False).build().sample(prior, operator, y, RandomStreams(range(500))))
    assert not any(step.warnings or step.failures for step in steps)
    check_standard_normal(weighted_draws(steps[-1].x0y, prior, operator, y[:1]), allowance=0.06)
