"""States whose noise is that of the measurement: laws in closed form, and what is asked of the operator."""

from __future__ import annotations

import pytest
import torch

import daps_operators
from daps_kit.contracts import RandomStreams
from daps_kit.settings import GaussianNoiseSettings
from daps_samplers import Daps
from daps_samplers.coupled import NOTE
from tests.samplers.closed_form import CPU, NOISE, SHAPE, check_standard_normal, smooth_prior, whitened_draws

KNOWN = {
    "down_sampling": daps_operators.DownSampling(noise=GaussianNoiseSettings(sigma=NOISE), scale_factor=2),
}
for boundary in ("reflect", "periodic", "zero", "valid"):
    noise = GaussianNoiseSettings(sigma=NOISE)
    KNOWN[f"gaussian {boundary}"] = daps_operators.GaussianBlur(
        noise=noise, kernel_size=5, intensity=1.0, boundary=boundary
    )
    KNOWN[f"motion {boundary}"] = daps_operators.LinearMotionBlur(
        noise=noise, length=4.0, angle=30.0, kernel_size=5, boundary=boundary
    )
COUNT = 2000


def blurred(name):
    return KNOWN[name].build(shape=SHAPE, seed=0, device=CPU)


@pytest.mark.parametrize("name", KNOWN)
def test_draws_are_exact_where_the_prior_is_gaussian(name):
    prior, operator = smooth_prior(), blurred(name)
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7]))
    calls, denoise = [], prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    steps = list(
        Daps().build().sample(prior, operator, y.expand(COUNT, *y.shape[1:]), RandomStreams(range(COUNT)))
    )
    assert len(calls) == 21
    assert (NOTE in steps[0].notes, steps[0].sigma) == (True, 2.0)
    check_standard_normal(whitened_draws(steps[-1].x0y, prior, operator, y), allowance=0.02)


@pytest.mark.parametrize("name", ["down_sampling", "motion reflect", "motion zero"])
def test_states_are_images_and_white_noise(name):
    """Over measurements of draws of the prior: x_t ~ N(mean, P + sigma^2 I) at every level, and so is x0y at the end."""
    prior, operator = smooth_prior(), blurred(name)
    x0 = prior.sample(SHAPE, RandomStreams(range(COUNT)))
    y = operator.measure(x0, RandomStreams(range(COUNT, 2 * COUNT)))
    steps = list(
        Daps(budget=7).build().sample(prior, operator, y, RandomStreams(range(2 * COUNT, 3 * COUNT)))
    )
    values, vectors = prior.covariance.variances, prior.covariance.vectors
    for step in steps:
        for x, sigma in ((step.x_t, step.sigma), (step.x0y, 0.0)):
            w = (x.double().flatten(1) - prior.mean.flatten()) @ vectors / (values + sigma**2).sqrt()
            check_standard_normal(w, allowance=0.02)


def test_a_sample_does_not_depend_on_others():
    prior, operator = smooth_prior(), blurred("motion reflect")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    together = list(Daps(budget=6).build().sample(prior, operator, y, RandomStreams([1, 2])))[-1].x0y
    for b in range(2):
        alone = list(Daps(budget=6).build().sample(prior, operator, y[b : b + 1], RandomStreams([b + 1])))[
            -1
        ].x0y
        torch.testing.assert_close(alone, together[b : b + 1], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"annealing": {"sigma_max": 5.0}},
        {"forgetting": 1.0},
        {"noise_correlation": 0.0},
        {"tau": 0.2},
        {"spread": "sigma"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_is_said_of_the_levels_is_kept(settings):
    prior, operator = smooth_prior(), blurred("gaussian reflect")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7]))
    first = next(iter(Daps(budget=5, **settings).build().sample(prior, operator, y, RandomStreams([0]))))
    assert NOTE not in first.notes
    assert first.sigma == settings.get("annealing", {}).get("sigma_max", 10.0)


@pytest.mark.parametrize(("sigma", "first"), [(0.05, 2.0), (1.0, 3.0), (6.0, 10.0)])
def test_the_first_level_is_above_the_noise(sigma, first):
    noise = GaussianNoiseSettings(sigma=sigma)
    operator = daps_operators.DownSampling(noise=noise, scale_factor=2).build(shape=SHAPE, seed=0, device=CPU)
    prior = smooth_prior()
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([7]))
    steps = list(Daps(budget=5).build().sample(prior, operator, y, RandomStreams([0])))
    assert (steps[0].sigma, len(steps)) == (pytest.approx(first), 4)
