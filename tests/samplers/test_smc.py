"""Particles: their weights against closed forms, their resampling, and a mixture against its exact posterior."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

import daps_kit
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.errors import UserError
from daps_kit.noise import GaussianNoise, PoissonNoise
from daps_operators.high_dynamic_range import HighDynamicRange
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.exact.mixture import MixturePrior
from daps_samplers import Smc
from daps_samplers.annealing import Annealing
from daps_samplers.exact import Exact
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM, VE
from daps_samplers.smc import SMC, _Predicted, resampled
from daps_samplers.target import GaussianTarget
from tests.samplers.closed_form import SHAPE, SIZE, check_standard_normal, smooth_prior, whitened_draws

F64 = torch.float64
NOISE = 0.2


class Few(LinearOperator):
    """y = A x with a matrix [m, d]."""

    def __init__(self, matrix, noise=NOISE, shape=SHAPE):
        super().__init__(shape, GaussianNoise(noise))
        self.matrix = matrix

    def forward(self, x):
        return x.flatten(1) @ self.matrix.T.to(x)

    def adjoint(self, y):
        return (y @ self.matrix.to(y)).reshape(-1, *self.shape)


def few(count=3):
    return Few(torch.randn(count, SIZE, generator=torch.Generator().manual_seed(2), dtype=F64) / 4)


def predicted(prior, operator, y, x_t, sigma):
    covariance = prior.conditional_covariance(x_t, sigma)
    return _Predicted(
        GaussianTarget(
            prior.denoise(x_t, sigma), covariance, operator, y, sigma=sigma, likelihood_variance=NOISE**2
        )
    )


def test_a_noisy_image_is_measured_and_not_the_first_state():
    """x0 ~ N(0, 1), y = x0 + T n: particles begin at noise that knows nothing of y, and have the exact posterior."""
    shape, count, y = (1, 2, 3), 500, 1.5
    operator = Few(torch.eye(6, dtype=F64), shape=shape)
    operator.forward, operator.adjoint = (lambda x: x), (lambda z: z)
    measured = torch.full((count, *shape), y)
    sampler = SMC(Annealing(VE(), 21), ProbabilityFlow(EDM(), 0), Exact())  # nothing else is said
    steps = list(sampler.sample(GaussianPrior(0.0, 1.0), operator, measured, RandomStreams(range(count))))
    assert steps[0].sigma > 1 > NOISE
    variance = NOISE**2 / (1 + NOISE**2)
    x, size = steps[-1].x0y.double(), 6 * count
    assert abs(float(x.mean()) - y / (1 + NOISE**2)) < 4.5 * sqrt(variance / size)
    assert abs(float(x.var()) / variance - 1) < 4.5 * sqrt(2 / size)


def test_weights_of_a_gaussian_prior_stay_equal():
    """Z(x_s) = p(y | x_t, x_s) for the ancestral step, whatever x_t and x_s are; and it is N(y; A D, A C A^T + V)."""
    prior, operator, t, s = smooth_prior(), few(), 0.9, 0.4
    x_t, x_s = (RandomStreams(range(n, n + 5)).normal(SHAPE, F64) for n in (0, 10))
    y = operator.forward(RandomStreams(range(20, 25)).normal(SHAPE, F64))
    k = s**2 / t**2
    b = s * sqrt(1 - s**2 / t**2)
    here = predicted(prior, operator, y, x_s, s)
    there = predicted(prior, operator, y, x_t, t).given((x_s - k * x_t) / (1 - k), (b / (1 - k)) ** 2)
    torch.testing.assert_close(there.log_density(), here.log_density(), rtol=1e-6, atol=1e-6)

    c = (
        operator.matrix
        @ prior.denoising_covariance(s).multiply(torch.eye(SIZE, dtype=F64))
        @ operator.matrix.T
    )
    law = torch.distributions.MultivariateNormal(
        operator.forward(prior.denoise(x_s, s)), c + NOISE**2 * torch.eye(3, dtype=F64)
    )
    wanted = law.log_prob(y)
    torch.testing.assert_close(here.log_density() - here.log_density()[0], wanted - wanted[0])


def test_weights_where_noise_is_forgotten():
    """p(y | x_t, x_s) for any share of the noise kept, from the joint Gaussian of y and z given x_t."""
    prior, operator, t = smooth_prior(), few(), 0.9
    x_t, z = (RandomStreams(range(n, n + 5)).normal(SHAPE, F64) for n in (0, 10))
    y, variance = operator.forward(z.flip(0)), 0.3
    eye, a = torch.eye(SIZE, dtype=F64), operator.matrix
    c = prior.denoising_covariance(t).multiply(eye)
    known = torch.linalg.inv(torch.linalg.inv(c) + eye / variance)
    centre = prior.denoise(x_t, t).flatten(1)
    mean = centre + (z.flatten(1) - centre) @ known / variance
    law = torch.distributions.MultivariateNormal(
        mean @ a.T, a @ known @ a.T + NOISE**2 * torch.eye(3, dtype=F64)
    )
    wanted = law.log_prob(y)
    found = predicted(prior, operator, y, x_t, t).given(z, variance).log_density()
    torch.testing.assert_close(found - found[0], wanted - wanted[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("forgetting", [1.0, 2.0])
def test_the_posterior_of_a_gaussian_prior(forgetting):
    prior, operator, count = smooth_prior(), few(), 1000
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    sampler = Smc(levels=8, sigma_min=0.1, forgetting=forgetting).build()
    (*_, last) = sampler.sample(prior, operator, y.expand(count, -1), RandomStreams(range(count)))
    assert not last.failed.any()
    if forgetting == 1:
        check_standard_normal(whitened_draws(last.x0y, prior, operator, y))
    else:  # resampled: fewer independent draws
        w = whitened_draws(last.x0y, prior, operator, y)
        assert float(w.mean(0).abs().max()) < 0.3
        assert float(w.var(0).mean()) == pytest.approx(1, abs=0.06)


def test_the_modes_of_a_mixture_and_their_weights():
    """25 modes seen through two numbers: particles find their weights, runs that know nothing of each other do not."""
    shape, count, scale, noise = (1, 1, 8), 128, 1 / 16, 0.03
    draw = torch.Generator().manual_seed(3)
    steps = torch.arange(-2.0, 3.0, dtype=F64) / 2
    means = torch.cartesian_prod(steps, steps).repeat(1, 4)
    prior = MixturePrior(means.reshape(-1, *shape), scale, torch.rand(25, generator=draw) + 0.05)
    rows = torch.randn(2, 8, generator=draw, dtype=F64)
    rows /= 2 * rows.norm(dim=1, keepdim=True)
    y = means[7] @ rows.T
    spread = scale**2 * rows @ rows.T + noise**2 * torch.eye(2, dtype=F64)
    law = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=F64), spread)
    exact = (prior.weights.log() + law.log_prob(y - means @ rows.T)).softmax(0)
    off = {}
    for name, section in {"smc": {"use": "smc", "levels": 51}, "daps": {"use": "daps", "budget": 51}}.items():
        (*_, last) = daps_kit.build("sampler", section).sample(
            prior, Few(rows, noise, shape), y.expand(count, 2), RandomStreams(range(count))
        )
        nearest = torch.cdist(last.x0y.flatten(1).double(), means).argmin(1)
        off[name] = float((torch.bincount(nearest, minlength=25) / count - exact).abs().sum() / 2)
    assert off["smc"] < 0.1, off
    assert off["daps"] > 2 * off["smc"], off


def test_resampling_keeps_survivors_in_place_and_is_unbiased():
    weights = torch.tensor([0.5, 0.05, 0.3, 0.15, 1.0, 3.0], dtype=F64)
    systems, draw = [torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5])], torch.Generator().manual_seed(0)
    copies, trials = torch.zeros(6, dtype=F64), 600
    for _ in range(trials):
        u = torch.rand(6, generator=draw, dtype=F64)
        chosen, after = resampled(weights.log(), systems, u, last=True)
        copies += torch.bincount(chosen, minlength=6)
        assert after.tolist() == [0] * 6
        assert chosen[0] == 0  # expected twice: it survives for certain
        assert set(chosen[:4].tolist()) <= {0, 1, 2, 3}
        assert set(chosen[4:].tolist()) <= {4, 5}
    wanted = torch.tensor([2, 0.2, 1.2, 0.6, 0.5, 1.5], dtype=F64)
    assert float((copies / trials - wanted).abs().max()) < 4.5 * 0.5 / sqrt(trials)


def test_particles_are_resampled_where_few_of_them_count():
    u, system = torch.full((4,), 0.5, dtype=F64), [torch.arange(4)]
    even, log = torch.zeros(4, dtype=F64), torch.tensor([0.0, 0.2, -0.2, 0.1], dtype=F64)
    assert resampled(even, system, u, last=True)[0].tolist() == [0, 1, 2, 3]
    chosen, after = resampled(log, system, u, last=False)
    assert chosen.tolist() == [0, 1, 2, 3]
    assert torch.equal(after, log)
    log[2] = 9.0
    assert resampled(log, system, u, last=False)[0].tolist() == [2, 2, 2, 2]
    log[2] = torch.nan
    assert 2 not in resampled(log, system, u, last=True)[0].tolist()
    nothing = torch.full((4,), torch.nan, dtype=F64)
    assert resampled(nothing, system, u, last=True)[0].tolist() == [0, 1, 2, 3]


def test_systems_do_not_touch_each_other():
    """The samples of a measurement are the same whatever other measurements are in the batch."""
    prior, operator = smooth_prior(), few()
    y = operator.forward(RandomStreams([3, 4]).normal(SHAPE, F64))
    sampler = Smc(levels=4).build()

    def draws(rows, seeds):
        (*_, last) = sampler.sample(prior, operator, rows, RandomStreams(seeds))
        return last.x0y

    alone = draws(y[:1].expand(3, -1), [1, 2, 3])
    mixed = draws(torch.stack([y[0], y[1], y[0], y[1], y[0]]), [1, 7, 2, 8, 3])
    torch.testing.assert_close(mixed[::2], alone, rtol=1e-5, atol=1e-6)
    one, all_at_once = (
        daps_kit.sample(prior, operator, y, sampler=sampler, runs=3, seed=0, batch_size=size).samples
        for size in (1, 6)
    )
    torch.testing.assert_close(one, all_at_once)


def test_what_it_refuses():
    sampler = Smc().build()
    assert isinstance(sampler, SMC)
    prior = smooth_prior()
    assert not sampler.refusal(prior, few())
    assert "at most 64 measured numbers, not 65" in sampler.refusal(prior, few(65))
    photons = few()
    photons.noise = PoissonNoise(30.0)
    for operator in (photons, HighDynamicRange(SHAPE, GaussianNoise(0.1), 2.0)):
        assert "linear operators of images with Gaussian noise" in sampler.refusal(prior, operator)
    with pytest.raises(UserError, match="at most 64"):
        daps_kit.sample(prior, few(65), few(65).forward(torch.zeros(1, *SHAPE)), sampler=sampler)
    with pytest.raises(ValueError, match="sigma_max 0.1 must be above sigma_min 0.2"):
        Smc(sigma_max=0.1, sigma_min=0.2)
    with pytest.raises(ValueError, match="need as many random streams"):
        next(sampler.sample(prior, few(), torch.zeros(2, 3), RandomStreams([0])))
