"""A budget of network calls."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import Operator, RandomStreams
from daps_kit.noise import GaussianNoise
from daps_samplers import Daps
from daps_samplers.annealing import Annealing
from daps_samplers.plan import complete, search_levels
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


@pytest.mark.parametrize(("budget", "calls", "starts"), [(16, 1, 4), (15, 1, 1), (48, 3, 4), (47, 3, 1)])
def test_many_starts_are_for_budgets_of_four_levels_each(budget, calls, starts):
    operator = Moduli((1, 4, 4), GaussianNoise(0.05))
    _, found = complete(
        Annealing(EDM()), budget, None, operator, torch.zeros(1, 1, 4, 4), calls=calls, denoised=False
    )
    assert found == starts


@pytest.mark.parametrize(("budget", "calls", "last"), [(40, 1, 1), (41, 1, 0), (100, 3, 1), (57, 2, 1)])
def test_starts_levels_and_the_last_call_use_up_a_budget(budget, calls, last):
    operator = Moduli((1, 4, 4), GaussianNoise(0.05))
    y = torch.zeros(1, 1, 4, 4)
    sigmas, starts = complete(Annealing(EDM()), budget, None, operator, y, calls=calls, denoised=bool(last))

    def used(sigmas):
        searched = sum(sigma >= 4.0 for sigma in sigmas)
        return calls * (starts * searched + len(sigmas) - searched) + last

    low = 0.05 if last else 0.4 * 0.05
    assert (sigmas[0], sigmas[-1]) == (10.0, pytest.approx(low))
    assert used(sigmas) <= budget
    more = Annealing(EDM(), len(sigmas) + 1, 10.0, low).sigmas()
    assert used(more) > budget


def test_the_search_ends_at_sigma_4():
    assert search_levels([10.0, 5.0, 4.0, 3.9, 1.0]) == 3
    assert search_levels([3.0, 1.0]) == 1
