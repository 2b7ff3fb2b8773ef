"""A budget of network calls."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from daps_kit.contracts import Operator, RandomStreams
from daps_kit.noise import GaussianNoise
from daps_samplers import Daps
from daps_samplers.annealing import Annealing
from daps_samplers.plan import complete, passing
from daps_samplers.schedules import EDM
from tests.samplers.closed_form import NOISE, SHAPE, make, smooth_prior


@pytest.mark.parametrize(("budget", "levels"), [("fast", 9), ("balanced", 21), ("accurate", 101), (7, 7)])
def test_a_budget_is_kept(budget, levels):
    prior, operator = smooth_prior(), make("identity")
    calls = []
    denoise = prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    steps = list(Daps(budget=budget).build().sample(prior, operator, y, RandomStreams([1])))
    assert len(steps) == len(calls) == levels
    # The first state is the measurement itself.
    assert (steps[0].sigma, steps[-1].sigma) == (NOISE, pytest.approx(min(0.01, 0.4 * NOISE)))


@pytest.mark.parametrize(
    ("given", "noise", "expected"),
    [
        ({}, 0.05, (10.0, 0.02)),  # 0.4 of the noise of the measurement,
        ({}, 0.001, (10.0, 0.01)),  # within limits
        ({}, 2.0, (10.0, 0.1)),
        ({"sigma_max": 0.12}, 2.0, (0.12, 0.06)),  # and at most half of the first level
        ({"sigma_min": 3.0}, 0.05, (30.0, 3.0)),
        ({"sigma_min": 0.5}, 0.05, (10.0, 0.5)),
    ],
)
def test_the_ends_that_are_left_open(given, noise, expected):
    prior, operator = smooth_prior(), make("random")
    operator.noise = GaussianNoise(noise)
    sampler = Daps(annealing=dict(levels=4, **given), final_denoise=False).build()
    steps = list(sampler.sample(prior, operator, torch.zeros(1, *SHAPE), RandomStreams([1])))
    assert (steps[0].sigma, steps[-1].sigma) == pytest.approx(expected, rel=1e-6)


class Moduli(Operator):
    """One with many modes."""

    multimodal = True

    def forward(self, x):
        return x.abs()


@pytest.mark.parametrize(
    ("budget", "calls", "starts"), [(16, 1, 4), (15, 1, 1), (48, 3, 4), (47, 3, 1), (300, 1, 24)]
)
def test_many_starts_are_for_budgets_of_sixteen_levels(budget, calls, starts):
    operator = Moduli((1, 4, 4), GaussianNoise(0.05))
    _, found = complete(
        Annealing(EDM()), budget, None, operator, torch.zeros(1, 1, 4, 4), calls=calls, denoised=False
    )
    assert found[0] == starts


@pytest.mark.parametrize(("budget", "calls", "last"), [(40, 1, 1), (41, 1, 0), (100, 3, 1), (57, 2, 1)])
def test_starts_levels_and_the_last_call_use_up_a_budget(budget, calls, last):
    operator = Moduli((1, 4, 4), GaussianNoise(0.05))
    y = torch.zeros(1, 1, 4, 4)
    sigmas, counts = complete(Annealing(EDM()), budget, None, operator, y, calls=calls, denoised=bool(last))
    low = 0.05 if last else 0.4 * 0.05
    assert (sigmas[0], sigmas[-1]) == (10.0, pytest.approx(low))
    assert counts == passing(sigmas, counts[0])
    used = calls * sum(counts) + last
    assert budget - 3 * calls < used <= budget
    high = [sigma for sigma, count in zip(sigmas, counts, strict=True) if count > 1]
    assert all(following <= 0.75 * sigma for sigma, following in pairwise(high))


def test_starts_thin_out_with_the_square_of_the_noise_level():
    assert passing([10.0, 7.0, 5.0, 2.5, 1.0, 0.1], 24) == [24, 12, 6, 2, 1, 1]
    assert passing([100.0, 20.0, 5.0, 1.0], 8) == [8, 8, 2, 1]
    assert passing([3.0, 1.0], 4) == [4, 1]
    assert passing([10.0, 9.0], 4) == [4, 1], "the last draw is the result"
    assert passing([10.0], 4) == [1]
