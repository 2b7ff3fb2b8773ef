"""Dual averaging against the recursion of Hoffman and Gelman, written out number by number."""

from __future__ import annotations

from math import exp, log, sqrt

import pytest
import torch

from daps_samplers.dual_averaging import DualAveraging

ACCEPTANCES = [0.9, 0.2, 0.65, 1.0, 0.0, 0.4]


def recursion(start, target, acceptances):
    """Algorithm 5 of the paper: x_{t+1} and its average, for mu = log(2 h_0)."""
    h, mean = 0.0, 0.0
    for t, acceptance in enumerate(acceptances, 1):
        h = (1 - 1 / (t + 10)) * h + (target - acceptance) / (t + 10)
        x = log(2 * start) - sqrt(t) / 0.05 * h
        mean = t**-0.75 * x + (1 - t**-0.75) * mean
    return exp(x), exp(mean)


def test_the_step_size_follows_the_recursion_and_then_stays():
    state = DualAveraging.begin(torch.tensor([log(0.3), log(0.7)], dtype=torch.float64), 0.65, 4)
    assert state.step_size.tolist() == pytest.approx([0.3, 0.7])
    for t, acceptance in enumerate(ACCEPTANCES, 1):
        state = state.updated(torch.tensor([acceptance, 0.5], dtype=torch.float64))
        seen = min(t, 4)
        expected = [recursion(0.3, 0.65, ACCEPTANCES[:seen]), recursion(0.7, 0.65, [0.5] * seen)]
        assert state.step_size.tolist() == pytest.approx([pair[t >= 4] for pair in expected], rel=1e-12)
        assert state.taken == seen


def test_without_a_warm_up_the_step_size_is_the_first():
    state = DualAveraging.begin(torch.tensor([log(0.3)]), 0.8, 0)
    assert state.updated(torch.tensor([0.0])).step_size.tolist() == pytest.approx([0.3])


def test_the_acceptance_that_was_asked_for_is_reached():
    """A chain that accepts exp(-h): its step size is -log of the target."""
    state = DualAveraging.begin(torch.tensor([log(5.0)]), 0.6, 2000)
    for _ in range(2000):
        state = state.updated((-state.step_size).exp())
    assert float(state.step_size) == pytest.approx(-log(0.6), rel=0.02)
