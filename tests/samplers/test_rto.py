"""Randomise, then optimise: what it reports and what it finds."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

import daps_operators
from daps_kit.api import build
from daps_kit.contracts import Operator, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.noise import GaussianNoise
from daps_kit.runs.draw import draw
from daps_operators.noises import Poisson
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import (
    HMC,
    Daps,
    Exact,
    RandomiseThenOptimise,
)
from daps_samplers.target import GaussianTarget
from daps_samplers.whitened import Linearised, Whitened
from tests.samplers.closed_form import COUNTS, SHAPE, SIZE, Z, elementwise, make, smooth_prior


def test_the_residual_bounds_the_error():
    prior, operator = smooth_prior(), make("gaussian_blur")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    target = GaussianTarget(
        prior.denoise(y, 1.0),
        prior.denoising_covariance(1.0),
        operator,
        y,
        sigma=1.0,
        likelihood_variance=0.02**2,
    )
    here = Linearised(Whitened(target), target.centre, 1 / 0.02**2)
    matrix = here.multiply(torch.eye(SIZE).reshape(SIZE, *SHAPE)).flatten(1).double()
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-4, atol=1e-3)
    b = 100 * RandomStreams([1, 2]).normal(SHAPE)
    exact = torch.linalg.solve(matrix, b.flatten(1).double().T).T
    for accuracy in (1.0, 0.1, 0.01):
        w, bound = here.solve(b, accuracy=accuracy, max_steps=200)
        error = w.flatten(1).double() - exact
        size = ((error @ matrix * error).sum(1) / SIZE).sqrt()
        assert bool((size <= bound.double() * 1.01).all())
        assert bool((bound <= accuracy * 1.01).all())
    _, bound = here.solve(b, accuracy=1e-6, max_steps=2)
    assert bool((bound > 1e-3).all()), "two steps cannot do, and the bound has to say so"
    largest = torch.linalg.eigvalsh(matrix)[-1]
    found = here.stiffness(RandomStreams([1, 2]).normal(SHAPE), steps=60)
    assert bool(((found / largest - 1).abs() < 0.02).all())


def test_too_few_steps_of_conjugate_gradients_are_told_once():
    prior, operator = smooth_prior(), make("gaussian_blur")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    sampler = Daps(annealing=dict(levels=3), kernel=Exact(cg_steps=1, tau=0.001), spread="calibrated").build()
    steps = list(sampler.sample(prior, operator, y, RandomStreams([0])))
    (told,) = [failure for step in steps for failure in step.failures]
    assert (told.sample, told.cause, told.lost) == (0, "solver", False)
    assert "sampler.kernel.cg_steps, now 1" in told.advice
    assert told.size > 0.3


@pytest.mark.parametrize("y", [-1.0, *COUNTS.values()])
def test_randomise_then_optimise_with_photon_noise(y):
    """Counts of 0, 4, 8 and 30."""
    settings = daps_operators.Identity(noise=Poisson(peak=40.0))
    x, (mean, variance) = elementwise(settings, RandomiseThenOptimise(), y)
    assert abs(float(x.mean()) - mean) < (0.02 + Z / sqrt(x.numel())) * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(
    ("counts", "centre", "spread"),
    [(0, -1.0, 1.0), (0, 0.5, 1.0), (0, 1.0, 0.2), (2, 1.0, 0.2), (5, -1.5, 0.05), (1, -1.5, 0.2)],
)
def test_few_photons_and_a_prior_that_knows_little_or_something_else(counts, centre, spread):
    """At most 50 photons: a likelihood that is flat below black, or that the prior is far away from."""
    operator = daps_operators.Identity(noise=Poisson(peak=50.0)).build(
        shape=(1, 100, 100), seed=0, device=torch.device("cpu")
    )
    y = torch.full((1, 1, 100, 100), -1 + counts / 25)
    target = GaussianTarget(
        torch.full_like(y, centre),
        Isotropic(torch.tensor(spread**2)),
        operator,
        y,
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    kernel = RandomiseThenOptimise(newton_steps=4, cg_steps=50).build()
    x, _ = kernel.run(target, target.centre, RandomStreams([0]))
    grid = torch.linspace(-6, 6, 240001, dtype=torch.float64)
    image = grid.reshape(1, 1, 1, -1)
    log = operator.noise.log_density(image, torch.full_like(image, float(y[0, 0, 0, 0]))).flatten()
    weight = (log - (grid - centre).square() / (2 * spread**2)).softmax(0)
    mean = float(weight @ grid)
    std = sqrt(float(weight @ (grid - mean).square()))
    assert abs(float(x.double().mean()) - mean) < (0.05 + Z / 100) * std
    assert float(x.double().std()) == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize("peak", [6.0, 100.0])
def test_sites_serve_where_elements_depend_on_each_other(peak):
    """Blurred counts, against a long Hamiltonian chain: the variances probed for the sites are not exact there."""
    prior = smooth_prior()
    settings = daps_operators.GaussianBlur(noise=Poisson(peak=peak), kernel_size=5, intensity=1.0)
    operator = settings.build(shape=SHAPE, seed=0, device=torch.device("cpu"))
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7]))
    count = 400
    target = GaussianTarget(
        prior.mean.float().expand(count, *SHAPE),
        prior.covariance,
        operator,
        y.expand(count, *SHAPE),
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    drawn, chain = (
        kernel.build().run(target, target.centre, RandomStreams(range(seed, seed + count)))[0].double()
        for kernel, seed in ((RandomiseThenOptimise(), 0), (HMC(steps=150), 1000))
    )
    shift = (drawn.mean(0) - chain.mean(0)) / chain.std(0)
    assert float(shift.square().mean().sqrt()) < 1.5 * sqrt(2 / count)
    assert float(drawn.var(0).sum() / chain.var(0).sum()) == pytest.approx(1, abs=0.05)


class Saturating(Operator):
    """y = atan(4 x): far from 0 a Gauss-Newton step goes many times too far."""

    def forward(self, x):
        return torch.atan(4 * x)


def test_steps_are_halved_until_the_objective_falls():
    operator = Saturating((1, 1, 1), GaussianNoise(0.1))
    centre = torch.full((64, 1, 1, 1), 2.0)
    target = GaussianTarget(
        centre, Isotropic(torch.tensor(25.0)), operator, 0 * centre, sigma=5.0, likelihood_variance=0.01
    )
    kernel = RandomiseThenOptimise(newton_steps=30, cg_steps=5, accuracy=1e-3).build()
    x, _ = kernel.run(target, centre, RandomStreams(range(64)))
    # The likelihood is that sharp: with its noise the measurement says tan(0.1 n) / 4, near a line.
    assert float(x.abs().max()) < 0.2
    assert float(x.std()) == pytest.approx(0.1 / 4, rel=4.5 * sqrt(1 / 128))


def test_the_error_that_is_reported_is_that_of_the_gradient():
    """For a quadratic objective the gradient is M (w - w*): with few steps it is what is left of many."""
    prior, operator = smooth_prior(), make("gaussian_blur")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    covariance = prior.denoising_covariance(1.0)
    target = GaussianTarget(
        prior.denoise(y, 1.0), covariance, operator, y, sigma=1.0, likelihood_variance=0.05**2
    )
    draws = []
    for steps, accuracy in ((2, 1e-3), (300, 1e-6)):
        kernel = RandomiseThenOptimise(newton_steps=1, cg_steps=steps, accuracy=accuracy).build()
        x, info = kernel.run(target, target.centre, RandomStreams([1, 2]))
        draws.append((x, info.error))
    space = Whitened(target)
    left = space.coordinates(draws[0][0]) - space.coordinates(draws[1][0])
    gradient = Linearised(space, target.centre, 1 / 0.05**2).multiply(left)
    expected = gradient.flatten(1).norm(dim=1) / SIZE**0.5
    torch.testing.assert_close(draws[0][1], expected, rtol=0.02, atol=1e-3)
    assert bool((draws[1][1] < 1e-3).all())
    assert bool((draws[0][1] > 0.05).all())


def test_no_dark_pixel_goes_astray() -> None:
    """Where a step led to fewer photons than none, pixels came out at 442 for at most 7; by quadrature they do not."""
    shape, peak = (1, 32, 32), 200.0
    prior = GaussianPrior(-0.9, 2.0)
    operator = build("operator", {"use": "identity", "noise": {"use": "poisson", "peak": peak}}, shape=shape)
    x = prior.sample(shape, RandomStreams([0])).clamp_min(-0.99)
    y = operator.measure(x, RandomStreams([1]))
    found = (
        draw(build("sampler", {"use": "daps", "budget": 5}), prior, operator, y, [0]).x0.double().flatten()
    )
    counts = ((y.double().flatten() + 1) * peak / 2).round()
    width = counts.clamp_min(1).sqrt()
    steps = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    rate = (counts[:, None] + width[:, None] * steps).clamp_min(1e-9)
    a = rate * 2 / peak - 1
    log = counts[:, None] * rate.log() - rate - (a + 0.9).square() / (2 * 2.0**2)
    weight = log.softmax(1) * (counts[:, None] + width[:, None] * steps > 0)
    weight = weight / weight.sum(1, keepdim=True)
    mean = (weight * a).sum(1)
    std = (weight * (a - mean[:, None]).square()).sum(1).sqrt()
    lit = counts >= 5
    assert float(((found - mean) / std)[lit].abs().max()) < 6
