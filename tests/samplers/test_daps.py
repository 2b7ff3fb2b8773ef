"""DAPS against closed forms: with Gaussian prior, linear operator and Gaussian noise every level is a Gaussian map.

Per element, prior N(m, s^2), y = a x + N(0, t^2), all elements independent; so an image is a sample of its elements'
law. z-tests use 4.5 standard errors.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import pytest
import torch

import daps_operators
from daps_kit.contracts import Kernel, KernelInfo, KernelState, Prior, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.errors import ComponentError
from daps_kit.linalg import per_sample
from daps_kit.settings import GaussianNoiseSettings
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.exact.mixture import MixturePrior
from daps_samplers import (
    Daps,
    Langevin,
    Metropolis,
)
from daps_samplers.annealing import Annealing
from daps_samplers.daps import DAPS
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM, VE
from daps_samplers.states import AVERAGED
from tests.samplers import closed_form

SHAPE = (3, 48, 48)
M, S, A, T, Y = 0.3, 0.4, 0.8, 0.25, 0.9
POSTERIOR = 1 / (1 / S**2 + A**2 / T**2)
POSTERIOR_MEAN = POSTERIOR * (M / S**2 + A * Y / T**2)
Z = 4.5


class Exact(Kernel):
    """Draws exactly from an isotropic target with a diagonal operator: the loop without the error of a chain."""

    def init(self, target, x, streams):
        return KernelState(x)

    def step(self, target, state, streams):
        weight = 1 / per_sample(target.covariance.isotropic, state.x)
        a, v = target.operator.a, target.likelihood_variance
        variance = 1 / (weight + a**2 / v)
        mean = variance * (weight * target.centre + a * target.y / v)
        return KernelState(
            mean + variance.sqrt() * streams.normal(state.x.shape[1:], state.x.dtype)
        ), KernelInfo()


def run(sampler, prior, operator, y, seeds):
    return list(sampler.sample(prior, operator, y, RandomStreams(seeds)))


def published(levels, kernel=None, **settings):
    """DAPS as published, with that many levels."""
    return Daps(
        annealing=dict(levels=levels, sigma_max=100.0, sigma_min=0.1),
        ode=dict(steps=5),
        kernel=kernel or Langevin(lr=1e-4),
        **settings,
    ).build()


def setting(scaled_operator, batch=4, shape=SHAPE):
    return GaussianPrior(M, S), scaled_operator(A, T, shape), torch.full((batch, *shape), Y)


def check_moments(x, mean, variance):
    n = x.numel()
    assert abs(float(x.mean()) - mean) < Z * sqrt(variance / n)
    assert abs(float(x.var()) - variance) < Z * variance * sqrt(2 / n)


def flow_factor(sigma, low):
    return sqrt((S**2 + low**2) / (S**2 + sigma**2))


@pytest.mark.parametrize("schedule", ["edm", "ve", "vp", "trigflow"])
def test_the_published_loop_has_the_moments_of_its_recursion(scaled_operator, schedule):
    prior, operator, y = setting(scaled_operator)
    annealing = Daps(annealing={"use": schedule}).annealing
    sampler = DAPS(
        Annealing(annealing.schedule(), 8, 20.0, 0.1),
        ProbabilityFlow(Daps(ode={"use": schedule}).ode.schedule(), 80, 0.01, "heun"),
        Exact(),
    )
    steps = run(sampler, prior, operator, y, range(4))
    # x_t ~ N(mean, variance) at the start of a level; x0hat is affine in it, and so is x0y but for its own noise.
    mean, variance = 0.0, 20.0**2
    sigmas = [step.sigma for step in steps]
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        factor = flow_factor(sigma, 0.01)
        own = 1 / (1 / sigma**2 + A**2 / T**2)
        pull = own / sigma**2
        mean = pull * (M + factor * (mean - M)) + own * A * Y / T**2
        variance = (pull * factor) ** 2 * variance + own
        expected = mean, variance
        variance += following**2
    check_moments(steps[-1].x0y, *expected)
    assert expected[1] / POSTERIOR > 1.05 or expected[1] / POSTERIOR < 0.95, (
        "r_t = sigma_t is not the true spread"
    )


@pytest.mark.parametrize(
    ("schedule", "correlation"),
    [("edm", None), ("ve", 0.0), ("vp", -1.0), ("trigflow", 0.5), ("edm", 1.0)],
)
def test_with_the_calibrated_spread_the_posterior_is_exact(scaled_operator, schedule, correlation):
    prior, operator, y = setting(scaled_operator)
    annealing = Daps(annealing={"use": schedule}).annealing
    sampler = DAPS(
        Annealing(annealing.schedule(), 10, 80.0, 0.1),
        ProbabilityFlow(EDM(), 0),
        Exact(),
        noise_correlation=correlation,
        final_denoise=False,
    )
    steps = run(sampler, prior, operator, y, range(4))
    assert not steps[0].warnings
    check_moments(steps[-1].x0y, POSTERIOR_MEAN, POSTERIOR)


def test_the_levels_are_averaged(scaled_operator):
    """x0y of a level is rho x0y of the one before and something independent, with posterior mean and variance."""
    prior, operator, y = setting(scaled_operator)
    sampler = DAPS(
        Annealing(VE(), 12, 8.0, 0.1),
        ProbabilityFlow(EDM(), 0),
        Exact(),
        noise_correlation=0.0,
        final_denoise=False,
    )
    steps = run(sampler, prior, operator, y, range(4))
    kept = [step.sigma for step in steps if step.sigma <= AVERAGED]
    assert 2 < len(kept) < len(steps)
    variance, alike = 0.0, 1.0
    for first in range(len(kept)):
        alike = 1.0
        variance += POSTERIOR
        for sigma in kept[first + 1 :]:
            alike *= 1 / (1 + sigma**2 * (1 / S**2 + A**2 / T**2))
            variance += 2 * alike * POSTERIOR
    variance /= len(kept) ** 2
    assert variance < 0.5 * POSTERIOR
    assert all(step.average is None for step in steps[:-1])
    check_moments(steps[-1].average, POSTERIOR_MEAN, variance)
    loop = run(published(10), prior, operator, y, range(4))
    assert loop[-1].average is None  # C is not the prior's own


def test_a_noisy_image_is_the_first_state():
    """Of y = x0 + T n nothing is asked but the prior: of a mixture the weights of the modes come out as they are."""
    means, std, weights, noise, y = torch.tensor([-0.5, 0.6]), 0.1, torch.tensor([0.4, 0.6]), 0.5, 0.1
    prior = MixturePrior(means, std, weights, elementwise=True)
    evidence = weights * torch.exp(-((y - means) ** 2) / (2 * (std**2 + noise**2)))
    share = evidence / evidence.sum()
    own = (means / std**2 + y / noise**2) / (std**-2 + noise**-2)
    mean = float((share * own).sum())
    variance = float((share * (own - mean) ** 2).sum()) + 1 / (std**-2 + noise**-2)
    shape = (1, 100, 100)
    operator = daps_operators.Identity(noise=GaussianNoiseSettings(sigma=noise)).build(
        shape=shape, seed=0, device=torch.device("cpu")
    )
    measured = torch.full((2, *shape), y)
    steps = run(Daps(budget=41).build(), prior, operator, measured, range(2))
    x0 = steps[-1].x0y
    torch.testing.assert_close(steps[0].x_t, measured)
    torch.testing.assert_close(steps[-1].average, torch.full_like(x0, mean))
    bound = Z / sqrt(x0.numel())
    assert abs(float((x0 > 0).double().mean()) - float(share[1])) < 0.5 * bound + 0.003
    assert abs(float(x0.mean()) - mean) < bound * sqrt(variance) + 0.003
    assert abs(float(x0.var()) / variance - 1) < 0.02
    asked = run(Daps(budget=41, forgetting=2.0).build(), prior, operator, measured, range(2))[-1].x0y
    assert float((asked > 0).double().mean()) < float(share[1]) - 0.02, (
        "as the Gaussian p(x0 | x_t, y) has it"
    )


def test_the_average_is_what_the_denoiser_says_of_a_noisy_image(scaled_operator):
    """y = x0 + T n: E[x0 | y] = M + S^2 (y - M) / (S^2 + T^2), which the first level asks for anyway."""
    shape = (1, 5, 3)
    prior, operator = GaussianPrior(M, S), scaled_operator(1.0, T, shape)
    y = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    for chosen, levels in (({}, 9), ({"annealing": {"levels": 4}}, 4), ({"forgetting": 2.0}, 8)):
        steps = run(Daps(budget=9, **chosen).build(), prior, operator, y, range(2))
        assert len(steps) == levels  # one less where the denoiser is asked for y besides
        torch.testing.assert_close(steps[-1].average, M + S**2 / (S**2 + T**2) * (y - M))
    little = run(Daps(budget=9).build(), prior, scaled_operator(0.5, T, shape), y, range(2))
    assert len(little) == 9


def test_langevin_reaches_the_exact_posterior(scaled_operator):
    prior, operator, y = setting(scaled_operator)
    lr = 0.04 * POSTERIOR
    sampler = Daps(
        annealing=dict(levels=5, sigma_max=80.0, sigma_min=0.2),
        ode=dict(steps=0),
        kernel=Langevin(steps=150, lr=lr, lr_min_ratio=1.0),
        final_denoise=False,
    ).build()
    x0y = run(sampler, prior, operator, y, range(4))[-1].x0y
    # The last level's chain is too wide by 1 / (1 - lr / (2 own)), own its variance given x_t.
    own = 1 / ((S**2 + 0.2**2) / (S**2 * 0.2**2) + A**2 / T**2)
    bias = own / (1 - lr / (2 * own)) - own
    check_moments(x0y, POSTERIOR_MEAN, POSTERIOR + bias)
    assert bias < 0.03 * POSTERIOR


class ExactDense(Exact):
    """The same for any covariance, as a matrix: for a handful of elements."""

    def step(self, target, state, streams):
        x, d = state.x, state.x[0].numel()
        basis = torch.eye(d, dtype=x.dtype).reshape(d, *x.shape[1:])
        precision = target.covariance.precision(basis).flatten(1)
        a, v = target.operator.a.flatten(), target.likelihood_variance
        total = torch.linalg.cholesky(precision + torch.diag(a**2) / v)
        right = target.centre.flatten(1) @ precision + a * target.y.flatten(1) / v
        mean = torch.cholesky_solve(right.T, total)
        noise = torch.linalg.solve_triangular(total.T, streams.normal((d,), x.dtype).T, upper=True)
        return KernelState((mean + noise).T.reshape(x.shape)), KernelInfo()


def test_a_full_covariance_gives_the_closed_form_posterior(scaled_operator):
    d, batch = 6, 4000
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    sigma0 = 0.1 * root @ root.T + 0.02 * torch.eye(d, dtype=torch.float64)
    mean = torch.randn(1, 2, 3, generator=generator, dtype=torch.float64)
    a = torch.rand(1, 2, 3, generator=generator, dtype=torch.float64) + 0.3
    y = torch.randn(1, 1, 2, 3, generator=generator, dtype=torch.float64).expand(batch, -1, -1, -1)
    precision = torch.linalg.inv(sigma0) + torch.diag(a.flatten() ** 2) / T**2
    covariance = torch.linalg.inv(precision)
    expected = covariance @ (torch.linalg.solve(sigma0, mean.flatten()) + (a * y[0]).flatten() / T**2)
    sampler = DAPS(
        Annealing(EDM(), 8, 100.0, 0.1), ProbabilityFlow(EDM(), 0), ExactDense(), final_denoise=False
    )
    operator = scaled_operator(a, T, (1, 2, 3))
    x0y = run(sampler, GaussianPrior(mean, covariance=sigma0), operator, y, range(batch))[-1].x0y
    # In coordinates in which the posterior is N(0, I), every mean and every covariance is tested.
    draws = (x0y.flatten(1) - expected).T
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), draws, upper=False)
    assert float(white.mean(1).abs().max()) < Z / sqrt(batch)
    error = white @ white.T / batch - torch.eye(d, dtype=torch.float64)
    assert float(error.abs().max()) < Z * sqrt(2 / batch)


@pytest.mark.parametrize(
    ("settings", "correlation"),
    [
        ({}, lambda ratio: ratio**2),
        ({"forgetting": 1}, lambda ratio: ratio),
        ({"noise_correlation": -0.25}, lambda ratio: -0.25),
        ({"ode": dict(steps=5)}, lambda ratio: 0.0),
    ],
)
def test_the_noise_of_a_level_is_correlated_with_that_of_the_level_before(
    scaled_operator, settings, correlation
):
    prior, operator, y = setting(scaled_operator)
    annealing = dict(levels=4, sigma_max=5.0, sigma_min=0.5)
    steps = run(Daps(annealing=annealing, **settings).build(), prior, operator, y, range(4))
    for before, after in pairwise(steps):
        e = (before.x_t - before.x0y) / before.sigma
        next_e = (after.x_t - before.x0y) / after.sigma
        expected = correlation(after.sigma / before.sigma)
        found = (next_e - expected * e).flatten()
        assert abs(float((found * e.flatten()).mean())) < Z * float(e.std()) / sqrt(found.numel())
        assert float(found.var()) == pytest.approx(1 - expected**2, rel=0.05)


def test_the_modes_of_a_mixture_have_the_weights_of_the_posterior(scaled_operator):
    """With the covariance given x_t, and what is left of the noise, the modes are found as often as they are likely."""
    shape, std, noise, y = (1, 1, 8), 0.1, 1.5, 0.1
    weight = torch.tensor([2.0, 1.0])
    prior = MixturePrior(torch.stack((torch.full(shape, -0.5), torch.full(shape, 0.5))), std, weight)
    likelihood = torch.distributions.Normal(torch.tensor([-0.5, 0.5]), sqrt(std**2 + noise**2))
    expected = float((weight.log() + 8 * likelihood.log_prob(torch.tensor(y))).softmax(0)[1])
    found = {}
    for name, settings in (
        ("default", {}),
        ("fresh", {"noise_correlation": 0.0}),
        ("mean", {"spread": "isotropic", "noise_correlation": 0.0}),
    ):
        sampler = Daps(budget=51, **settings).build()
        steps = run(
            sampler, prior, scaled_operator(1.0, noise, shape), torch.full((2000, *shape), y), range(2000)
        )
        found[name] = float((steps[-1].x0y.mean((1, 2, 3)) > 0).float().mean())
    assert found["default"] == pytest.approx(expected, abs=3 * sqrt(0.25 / 2000))
    assert abs(found["fresh"] - expected) > 0.035  # a Gaussian is not all of p(x0 | x_t)
    assert abs(found["mean"] - expected) > 0.08


def test_a_result_does_not_depend_on_its_batch(scaled_operator):
    prior, operator, y = setting(scaled_operator)
    sampler = published(6, Langevin(steps=10, lr=1e-4))
    y = y + 0.1 * RandomStreams(range(90, 94)).normal(SHAPE)
    together = run(sampler, prior, operator, y, [5, 6, 7, 8])[-1].x0y
    for b, seed in enumerate([5, 6, 7, 8]):
        alone = run(sampler, prior, operator, y[b : b + 1], [seed])[-1].x0y
        torch.testing.assert_close(alone, together[b : b + 1], rtol=1e-5, atol=1e-6)


def test_a_diverged_sample_is_reported_and_leaves_the_others_alone(scaled_operator):
    prior, operator, y = setting(scaled_operator, 3)
    sampler = published(6, Langevin(steps=10, lr=1e-3, tau=T))
    good = run(sampler, prior, operator, y, range(3))
    y = y.clone()
    y[1, 0, 0, 0] = torch.inf
    steps = run(sampler, prior, operator, y, range(3))
    assert len(steps) == 6
    for step, alike in zip(steps, good, strict=True):
        assert step.failed.tolist() == [False, True, False]
        assert torch.equal(step.x0y[[0, 2]], alike.x0y[[0, 2]])
        assert step.x0y[1].isnan().all()
        assert step.x_t.isfinite().all()
    (told,) = steps[0].failures
    assert (told.sample, told.level, told.levels, told.sigma, told.cause) == (1, 0, 6, 100.0, "diverged")
    for part in ("lost at level 1 of 6", "sigma 100", "the chain diverged; ", "sampler.kernel.lr", "0.001"):
        assert part in str(told)
    assert not any(step.failures for step in steps[1:])


def test_too_large_a_step_size_names_the_setting_and_stops_early(scaled_operator):
    prior, operator, y = setting(scaled_operator, 2)
    sampler = published(50, Langevin(steps=400, lr=0.5))
    steps = run(sampler, prior, operator, y, range(2))
    assert len(steps) == 1
    assert [failure.sample for failure in steps[0].failures] == [0, 1]
    assert all("sampler.kernel.lr" in failure.advice for failure in steps[0].failures)


class Blind(Prior):
    """A Gaussian prior whose denoiser fails for samples that begin with a mark."""

    sigma_range = (0.5, 40.0)

    def __init__(self):
        self.inner, self.sigmas = GaussianPrior(M, S), []

    def denoise(self, x, sigma):
        self.sigmas.append(float(sigma))
        out = self.inner.denoise(x, sigma)
        return torch.where(x[:, :1, :1, :1].sign() * (sigma < 3) > 0, torch.nan, out) if self.fails else out

    fails = False


def test_a_prior_that_gives_not_a_number_is_named(scaled_operator):
    _, operator, y = setting(scaled_operator, 6)
    prior = Blind()
    prior.fails = True
    steps = run(published(9), prior, operator, y, range(6))
    before = set()
    for step in steps:
        assert step.x0hat.isfinite().all()
        for failure in step.failures:
            assert (failure.cause, failure.advice) == ("denoiser", prior.nan_advice)
            assert (failure.level, failure.sigma) == (step.level, step.sigma)
        now = {failure.sample for failure in step.failures}
        assert not now & before, "each is told once"
        before |= now
        assert step.failed.nonzero().flatten().tolist() == sorted(before)
    assert before


def test_it_stays_where_the_prior_is_valid_and_says_so(scaled_operator):
    _, operator, y = setting(scaled_operator, 1)
    prior = Blind()
    sampler = published(5, Langevin(steps=2, lr=1e-4), prior_score="score-min")
    steps = run(sampler, prior, operator, y, [0])
    assert (steps[0].sigma, steps[-1].sigma) == (40.0, 0.5)
    assert (min(prior.sigmas), max(prior.sigmas)) == (0.5, 40.0)
    assert [line.split()[0] for line in steps[0].warnings] == [
        "sampler.annealing.sigma_max",
        "sampler.annealing.sigma_min",
        "sampler.ode.sigma_min",
        "sampler.prior_sigma_min",
    ]
    assert not steps[1].warnings


def test_remarks_on_settings_that_have_no_effect(scaled_operator):
    _, operator, y = setting(scaled_operator, 1)
    prior = Blind()
    prior.sigma_range = (0.0, float("inf"))
    sampler = published(1, Langevin(steps=1, lr=1e-4, tau=T), spread="calibrated", latent_gradient_clip=1.0)
    spread, clip = run(sampler, prior, operator, y, [0])[0].warnings
    assert "spread" in spread
    assert "latent_gradient_clip" in clip


@pytest.mark.parametrize(
    ("score", "calls"), [("gaussian", 5), ("score-t", 6), ("score-min", 6), ("exact", 5 + 7)]
)
def test_network_calls_of_a_level(scaled_operator, score, calls):
    _, operator, y = setting(scaled_operator, 3)
    prior = Blind()
    prior.sigma_range = (0.0, float("inf"))
    sampler = published(2, Langevin(steps=7, lr=1e-4), prior_score=score)
    run(sampler, prior, operator, y, range(3))
    assert len(prior.sigmas) == 2 * calls


def test_levels():
    annealing = Annealing(EDM(), 10, 100.0, 0.1)
    assert annealing.sigmas()[0] == 100.0
    assert annealing.sigmas()[-1] == 0.1
    published = Annealing(EDM(), 10, 100.0, 0.1, reach_sigma_min=False).sigmas()
    assert len(published) == 10
    assert published[-1] == pytest.approx(0.29703, abs=1e-5)
    assert Annealing(EDM(), 1, 100.0, 0.1).sigmas() == [100.0]


def test_grad_mode_is_left_alone_between_levels(scaled_operator):
    prior, operator, y = setting(scaled_operator, 1)
    sampler = published(3, Langevin(steps=1, lr=1e-4))
    for step in sampler.sample(prior, operator, y, RandomStreams([0])):
        assert torch.is_grad_enabled()
        assert not step.x0y.requires_grad


def test_streams_must_fit_the_measurements(scaled_operator):
    prior, operator, y = setting(scaled_operator, 2)
    with pytest.raises(ValueError, match="2 measurements"):
        run(Daps().build(), prior, operator, y, [0])


def test_metropolis_with_the_exact_score_is_refused_before_the_run():
    with pytest.raises(ComponentError, match="'metropolis' compares densities"):
        Daps(kernel=Metropolis(), prior_score="exact").build()


@pytest.mark.parametrize(("known", "level"), [(True, S * 0.1 / sqrt(S**2 + 0.1**2)), (False, 0.1)])
def test_the_result_is_denoised_at_the_deviation_of_what_the_prior_leaves_open(scaled_operator, known, level):
    prior, operator, y = setting(scaled_operator)
    denoise, asked = prior.denoise, []
    prior.denoise = lambda x, sigma: asked.append(sigma) or denoise(x, sigma)
    if not known:
        prior.conditional_covariance = lambda x, sigma: None
    sampler = Daps(annealing=dict(levels=3, sigma_max=10.0, sigma_min=0.1), final_denoise=True).build()
    run(sampler, prior, operator, y, range(4))
    assert len(asked) == 4
    torch.testing.assert_close(asked[-1], torch.full((4,), level), rtol=0.05, atol=0)


@pytest.mark.parametrize(("low", "level"), [(0.0, 0.001), (0.02, 0.02)])
def test_the_result_is_denoised_at_no_less_than_a_hundredth_of_the_last_level(scaled_operator, low, level):
    prior, operator, y = setting(scaled_operator)
    prior.sigma_range = (low, float("inf"))
    prior.conditional_covariance = lambda x, sigma: Isotropic(torch.tensor(1e-9))
    denoise, asked = prior.denoise, []
    prior.denoise = lambda x, sigma: asked.append(sigma) or denoise(x, sigma)
    annealing = {"levels": 3, "sigma_max": 10.0, "sigma_min": 0.1}
    sampler = Daps(annealing=annealing, final_denoise=True).build()
    run(sampler, prior, operator, y, range(4))
    torch.testing.assert_close(asked[-1], torch.full((4,), level))


def test_a_measurement_that_is_not_explained_is_named():
    prior, operator = closed_form.smooth_prior(), closed_form.make("identity")
    y = operator.measure(prior.sample(closed_form.SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    y[1] += 3.0 * RandomStreams([9]).normal(closed_form.SHAPE)[0]
    steps = list(Daps(budget="fast").build().sample(prior, operator, y, RandomStreams([1, 2])))
    assert any("the first state" in text for text in steps[0].notes)
    (told,) = steps[-1].failures
    residual = float(operator.residual(steps[-1].x0y, y)[1])
    assert (told.sample, told.cause, told.lost) == (1, "residual", False)
    assert told.size == pytest.approx(residual)
    assert not any(step.failures for step in steps[:-1])
