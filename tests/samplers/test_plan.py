"""A budget of network calls."""

from __future__ import annotations

import pytest

from daps_kit.contracts import RandomStreams
from daps_samplers import (
    Daps,
)
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
