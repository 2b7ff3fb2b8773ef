"""Resampling keeps expectations, and its variance low."""

from __future__ import annotations

import torch
from daps_rivals.particles import chosen, systematic


def test_a_particle_is_taken_as_often_as_it_weighs():
    weights = torch.tensor([0.05, 0.5, 0.0, 0.45], dtype=torch.float64)
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    index = systematic(weights.log().expand(1000, 4), uniform)
    counts = torch.stack([(index == k).sum(1) for k in range(4)], 1).double()
    torch.testing.assert_close(counts.mean(0), 4 * weights, atol=2e-3, rtol=0)
    assert (counts >= (4 * weights).floor()).all()
    assert (counts <= (4 * weights).ceil()).all()


def test_weights_that_are_not_numbers_count_as_none():
    nan, inf = torch.nan, torch.inf
    weights = torch.tensor([[nan, 0.0, nan], [nan, nan, nan], [-inf, -inf, 3.0]])
    index = systematic(weights, torch.full((3,), 0.5))
    assert index.tolist() == [[1, 1, 1], [0, 1, 2], [2, 2, 2]]


def test_particles_of_each_sample_are_its_own():
    x = torch.arange(6).reshape(2, 3, 1)
    assert chosen(x, torch.tensor([[0, 0, 2], [1, 1, 1]])).flatten().tolist() == [0, 0, 2, 4, 4, 4]
