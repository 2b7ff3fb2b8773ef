"""Where annealing begins and how it goes on: laws of the states, and what counts towards the mean."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_samplers import Auto
from daps_samplers.bridge import Bridge
from daps_samplers.states import AVERAGED, FromMeasurement, FromNoise, ThroughMeasurement
from daps_samplers.target import GaussianTarget
from tests.samplers.closed_form import SHAPE, Z, make

COUNT = 4000
SIGMAS = [3.0, 1.5, 0.5, 0.1]


def from_noise(correlations=(0.0, 0.5, 0.9), passing=(2, 1, 1, 1)):
    like = torch.zeros(1, *SHAPE)
    return FromNoise(
        Auto().build(), like, RandomStreams(range(COUNT)), SIGMAS, list(passing), list(correlations)
    )


def correlation(a, b):
    return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())


@pytest.mark.parametrize("level", range(3))
def test_noise_of_a_level_has_the_correlation_that_was_asked_for(level):
    states, x0y = from_noise(), torch.full((COUNT, *SHAPE), 0.3)
    x_t = x0y + states.noise(level)
    before, after = x_t - x0y, states.following(x_t, x0y, level) - x0y
    bound = Z / sqrt(before.numel())
    assert float(after.std()) == pytest.approx(SIGMAS[level + 1], rel=2 * bound)
    assert abs(correlation(before, after) - states.correlations[level]) < 2 * bound
    share, spread = states.step(level)
    assert share == pytest.approx(states.correlations[level] * SIGMAS[level + 1] / SIGMAS[level])
    assert float((after - share * before).std()) == pytest.approx(spread, rel=2 * bound)


def test_first_states():
    y = torch.ones(COUNT, *SHAPE)
    assert float(from_noise().first().std()) == pytest.approx(SIGMAS[0], rel=0.02)
    assert FromMeasurement(y, from_noise()).first() is y
    bridge = Bridge(SIGMAS[0], y, torch.full_like(y, 0.25), torch.zeros_like(y))
    through = ThroughMeasurement(bridge, RandomStreams(range(COUNT)), SIGMAS).first() - y
    assert float(through.std()) == pytest.approx(sqrt(SIGMAS[0] ** 2 - 0.25), rel=0.02)


def test_a_measurement_that_is_the_state_adds_nothing_to_the_draw():
    """x0y has the mean and the variance of p(x0 | x_t), whatever y is."""
    centre, y = torch.full((COUNT, *SHAPE), 0.2), torch.full((COUNT, *SHAPE), 5.0)
    covariance = Isotropic(torch.tensor(0.09))
    target = GaussianTarget(centre, covariance, make("identity"), y, sigma=0.5, likelihood_variance=0.04)
    x0y, _ = FromMeasurement(y, from_noise()).draw(target, y, centre)
    assert float(x0y.mean()) == pytest.approx(0.2, abs=0.3 * Z / sqrt(x0y.numel()))
    assert float(x0y.std()) == pytest.approx(0.3, rel=0.01)


def test_what_counts_towards_the_mean():
    """Draws of levels that one start passes and that are low; the mean given y where y is the first state."""
    x0y, x0hat = torch.ones(1), torch.zeros(1)

    def heard(states):
        return [states.said(level, None, x0y, x0hat, x0y) for level in range(len(SIGMAS))]

    assert [sigma <= AVERAGED for sigma in SIGMAS] == [False, False, True, True]
    assert [said is x0y for said in heard(from_noise())] == [False, False, True, True]
    assert [said is x0y for said in heard(from_noise(passing=(2, 2, 2, 1)))] == [False, False, False, True]
    said = heard(FromMeasurement(x0y, from_noise()))
    assert said[0] is x0hat
    assert said[1:] == [None, None, None]
