"""Metropolis and Hastings: invariance, rejection, and what it needs."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.errors import ComponentError
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.metropolis import Metropolis
from daps_samplers.target import ExactScoreTarget
from tests.samplers.toy_target import MEAN, SHAPE, VARIANCE, check_moments, exact_draw, gaussian_target


def test_metropolis_leaves_its_target_invariant(scaled_operator):
    shape, batch = (1, 2, 2), 3000
    kernel = Metropolis(steps=60, lr=1.2 * VARIANCE, lr_min_ratio=1.0)
    streams = RandomStreams(range(batch))
    target = gaussian_target(scaled_operator, batch, shape)
    x, info = kernel.run(target, exact_draw(batch, shape, seed=10_000), streams)
    check_moments(x, MEAN, VARIANCE)
    assert 0.2 < float(info.acceptance.mean()) < 0.6


def test_metropolis_finds_its_target_from_elsewhere(scaled_operator):
    shape, batch = (1, 1, 2), 1500
    kernel = Metropolis(steps=150, lr=2.0 * VARIANCE, lr_min_ratio=1.0)
    start = torch.full((batch, *shape), MEAN + 2.0)
    x, _ = kernel.run(gaussian_target(scaled_operator, batch, shape), start, RandomStreams(range(batch)))
    check_moments(x, MEAN, VARIANCE)


def test_metropolis_rejects_a_ratio_that_is_not_a_number(scaled_operator):
    target = gaussian_target(scaled_operator, 2)
    kernel = Metropolis(1, lr=1e-6)
    state = kernel.init(target, exact_draw(2), RandomStreams([0, 1]))
    target.centre = torch.full_like(target.centre, torch.nan)
    moved, info = kernel.step(target, state, RandomStreams([0, 1]))
    assert torch.equal(moved.x, state.x)
    assert info.acceptance.tolist() == [0.0, 0.0]


def test_metropolis_needs_a_density(scaled_operator):
    target = ExactScoreTarget(gaussian_target(scaled_operator, 1), GaussianPrior(0.0, 0.5), 0.1)
    assert not target.has_density
    with pytest.raises(ComponentError, match="densities"):
        Metropolis(1).init(target, torch.zeros(1, *SHAPE), RandomStreams([0]))
