"""Kernels against Gaussian targets of known mean and variance.

Chains are the elements of an image: with y = x + noise and an isotropic prior they are independent, so 3 x 64 x 64
elements x several samples are as many draws of the chain's stationary law. z-tests use the standard errors
s / sqrt(n) of a mean and s^2 sqrt(2 / n) of a variance and 4.5 of them, one false alarm in 150 000.
"""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.errors import ComponentError
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import Daps
from daps_samplers.langevin import Langevin
from daps_samplers.metropolis import Metropolis
from daps_samplers.step_size import StepSize
from daps_samplers.target import ExactScoreTarget, GaussianTarget
from daps_samplers.underdamped import Underdamped

SHAPE = (3, 64, 64)
SIGMA, TAU = 0.4, 0.3
CENTRE, Y = 0.2, 0.7
VARIANCE = 1 / (1 / SIGMA**2 + 1 / TAU**2)
MEAN = VARIANCE * (CENTRE / SIGMA**2 + Y / TAU**2)
Z = 4.5


def gaussian_target(scaled_operator, batch=4, shape=SHAPE, **place):
    return GaussianTarget(
        torch.full((batch, *shape), CENTRE),
        Isotropic(torch.tensor(SIGMA**2)),
        scaled_operator(1.0, TAU, shape),
        torch.full((batch, *shape), Y),
        sigma=SIGMA,
        likelihood_variance=TAU**2,
        **place,
    )


def exact_draw(batch=4, shape=SHAPE, seed=100):
    return MEAN + sqrt(VARIANCE) * RandomStreams(range(seed, seed + batch)).normal(shape)


def check_moments(x, mean, variance):
    n = x.numel()
    assert abs(float(x.mean()) - mean) < Z * sqrt(variance / n)
    assert abs(float(x.var()) - variance) < Z * variance * sqrt(2 / n)


@pytest.mark.parametrize("stiffness", [0.1, 0.5, 1.2])
def test_langevin_has_the_variance_its_step_size_gives(scaled_operator, stiffness):
    lr = stiffness * VARIANCE
    kernel = Langevin(steps=60, lr=lr, lr_min_ratio=1.0)
    x, _ = kernel.run(gaussian_target(scaled_operator), exact_draw(), RandomStreams(range(4)))
    check_moments(x, MEAN, VARIANCE / (1 - lr / (2 * VARIANCE)))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_underdamped_has_the_variance_its_step_size_gives(scaled_operator, momentum):
    lr = 0.8 * VARIANCE
    kernel = Underdamped(steps=150, lr=lr, lr_min_ratio=1.0, momentum=momentum)
    x, _ = kernel.run(gaussian_target(scaled_operator), exact_draw(), RandomStreams(range(4)))
    check_moments(x, MEAN, VARIANCE / (1 - lr / (2 * VARIANCE * (1 + momentum))))


def test_metropolis_leaves_its_target_invariant(scaled_operator):
    shape, batch = (1, 2, 2), 3000
    kernel = Metropolis(steps=60, lr=1.2 * VARIANCE, lr_min_ratio=1.0)
    streams = RandomStreams(range(batch))
    target = gaussian_target(scaled_operator, batch, shape)
    x, info = kernel.run(target, exact_draw(batch, shape, seed=10_000), streams)
    check_moments(x, MEAN, VARIANCE)
    assert 0.2 < float(info.acceptance.mean()) < 0.6


def test_metropolis_finds_its_target_from_elsewhere(scaled_operator):
    shape, batch = (1, 1, 2), 1500
    kernel = Metropolis(steps=150, lr=2.0 * VARIANCE, lr_min_ratio=1.0)
    start = torch.full((batch, *shape), MEAN + 2.0)
    x, _ = kernel.run(gaussian_target(scaled_operator, batch, shape), start, RandomStreams(range(batch)))
    check_moments(x, MEAN, VARIANCE)


def test_without_momentum_underdamped_is_langevin(scaled_operator, recorded_streams):
    noise = [torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    target, start = gaussian_target(scaled_operator, 2), torch.zeros(2, *SHAPE)
    plain, _ = Langevin(5, 0.01).run(target, start, recorded_streams(noise[1:]))
    other, _ = Underdamped(5, 0.01, momentum=0.0).run(target, start, recorded_streams(noise))
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-5)


def test_kernels_do_not_change_what_they_are_given(scaled_operator):
    target, start = gaussian_target(scaled_operator, 2), torch.zeros(2, *SHAPE)
    for kernel in (Langevin(3), Underdamped(3), Metropolis(3)):
        kernel.run(target, start, RandomStreams([0, 1]))
        assert torch.equal(start, torch.zeros(2, *SHAPE))
        assert torch.equal(target.centre, torch.full((2, *SHAPE), CENTRE))


@pytest.mark.parametrize(
    "kernel", [Langevin(5), Underdamped(5), Metropolis(5)], ids=lambda k: type(k).__name__
)
def test_a_lost_chain_is_reported_and_disturbs_no_other(scaled_operator, kernel):
    start = exact_draw(3)
    bad = start.clone()
    bad[1, 0, 0, 0] = torch.nan
    target = gaussian_target(scaled_operator, 3)
    good, _ = kernel.run(target, start, RandomStreams(range(3)))
    x, info = kernel.run(target, bad, RandomStreams(range(3)))
    assert info.diverged.tolist() == [False, True, False]
    assert torch.equal(x[[0, 2]], good[[0, 2]])


def test_metropolis_rejects_a_ratio_that_is_not_a_number(scaled_operator):
    target = gaussian_target(scaled_operator, 2)
    kernel = Metropolis(1, lr=1e-6)
    state = kernel.init(target, exact_draw(2), RandomStreams([0, 1]))
    target.centre = torch.full_like(target.centre, torch.nan)
    moved, info = kernel.step(target, state, RandomStreams([0, 1]))
    assert torch.equal(moved.x, state.x)
    assert info.acceptance.tolist() == [0.0, 0.0]


def test_metropolis_needs_a_density(scaled_operator):
    target = ExactScoreTarget(gaussian_target(scaled_operator, 1), GaussianPrior(0.0, 0.5), 0.1)
    assert not target.has_density
    with pytest.raises(ComponentError, match="densities"):
        Metropolis(1).init(target, torch.zeros(1, *SHAPE), RandomStreams([0]))


def test_the_gradient_is_that_of_the_density(scaled_operator):
    target = gaussian_target(scaled_operator, 2, (1, 3, 3))
    x = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value, gradient = target.log_density_grad(x.detach())
    torch.testing.assert_close(value, target.log_density(x.detach()))
    (expected,) = torch.autograd.grad(target.log_density(x).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_isotropic_products():
    v = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for variance in (torch.tensor(0.25), torch.tensor([0.25, 4.0])):
        covariance = Isotropic(variance)
        torch.testing.assert_close(covariance.precision(covariance.scale(covariance.scale(v))), v)
        assert covariance.isotropic is variance


def test_step_sizes():
    full, published = StepSize(2e-4, 0.01), StepSize(2e-4, 0.01, reach_min=False)
    assert full.at(0, 200) == published.at(0, 200) == 2e-4
    assert full.at(199, 200) == pytest.approx(2e-6)
    assert published.at(199, 200) == pytest.approx(2e-4 * (1 - 0.99 * 199 / 201))
    assert full.at(0, 1) == 2e-4


@pytest.mark.parametrize(
    "make",
    [lambda: Langevin(lr=0.0), lambda: Langevin(lr_min_ratio=2.0), lambda: Underdamped(momentum=1.0)],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"need|momentum"):
        make()


def test_tau_replaces_the_noise(scaled_operator):
    sampler = Daps().build()
    x = torch.zeros(1, *SHAPE)
    prior, operator = GaussianPrior(0.0, 0.5), scaled_operator(1.0, 0.05, SHAPE)
    assert sampler.target(prior, operator, x, x, x, 1.0).likelihood_variance == 0.05**2
    sampler.kernel.tau = 0.01
    assert sampler.target(prior, operator, x, x, x, 1.0).likelihood_variance == 0.01**2
