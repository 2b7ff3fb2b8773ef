"""A budget of network calls."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.noise import GaussianNoise
from daps_samplers import Daps
from tests.samplers.closed_form import SHAPE, make, smooth_prior


@pytest.mark.parametrize(("budget", "levels"), [("fast", 8), ("balanced", 20), ("accurate", 100), (7, 6)])
def test_a_budget_is_kept(budget, levels):
    prior, operator = smooth_prior(), make("identity")
    calls = []
    denoise = prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    steps = list(Daps(budget=budget).build().sample(prior, operator, y, RandomStreams([1])))
    assert len(steps) == levels
    assert len(calls) == levels + 1
    assert (steps[0].sigma, steps[-1].sigma) == (10.0, 0.1)


@pytest.mark.parametrize(
    ("given", "noise", "expected"),
    [
        ({}, 0.05, (10.0, 0.05)),  # the noise of the measurement,
        ({}, 0.001, (10.0, 0.01)),  # within limits
        ({}, 2.0, (10.0, 0.1)),
        ({"sigma_max": 0.12}, 2.0, (0.12, 0.06)),  # and at most half of the first level
        ({"sigma_min": 3.0}, 0.05, (30.0, 3.0)),
        ({"sigma_min": 0.5}, 0.05, (10.0, 0.5)),
    ],
)
def test_the_ends_that_are_left_open(given, noise, expected):
    prior, operator = smooth_prior(), make("identity")
    operator.noise = GaussianNoise(noise)
    sampler = Daps(annealing=dict(levels=4, **given), final_denoise=False).build()
    steps = list(sampler.sample(prior, operator, torch.zeros(1, *SHAPE), RandomStreams([1])))
    assert (steps[0].sigma, steps[-1].sigma) == pytest.approx(expected, rel=1e-6)
