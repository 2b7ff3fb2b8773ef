"""How a blur network learns: its rate, its examples, and steps that are left out."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi

import numpy as np
import pytest
import torch

from daps_operators.nonlinear_blur.learner import BlurOptimisation, Shakes, State, random
from daps_operators.nonlinear_blur.network import ShakeNetworkConfig

NETWORK = ShakeNetworkConfig(kernel_dim=12, modes=4, radius=4, moments=32, width=8, hidden=64)
OPTIMISATION = BlurOptimisation(
    pairs_seen=80, batch_size=8, learning_rate=1e-3, warm_up=20, weight_decay=0.0, clip=1.0, seed=3
)


def paths(count: int, moments: int = 32) -> torch.Tensor:
    """Shakes that wander at random."""
    steps = torch.randn(count, 2, moments, generator=torch.Generator().manual_seed(1))
    return 0.2 * steps.cumsum(2) / moments**0.5


def test_random_numbers_depend_on_what_they_are_for():
    drawn = {purpose: random(5, *purpose).integers(2**62) for purpose in ((0, 0), (1, 0), (1, 2), (2, 1))}
    assert len(set(drawn.values())) == 4
    assert all(random(5, *purpose).integers(2**62) == value for purpose, value in drawn.items())


@pytest.mark.parametrize("seen", [0, 8, 16, 40, 72, 80, 88])
def test_the_rate_rises_and_falls_as_half_a_cosine(seen):
    expected = 1e-3 * min(1, (seen + 8) / 20) * (1 + cos(pi * min(1, seen / 80))) / 2
    assert OPTIMISATION.rate(seen) == pytest.approx(expected)
    assert replace(OPTIMISATION, warm_up=0).rate(0) == pytest.approx(1e-3)


def test_a_step_draws_by_its_number_and_further_shakes_follow_those_of_the_pairs():
    pool = [np.random.default_rng(i).integers(0, 256, (48, 48, 3), dtype=np.uint8) for i in range(3)]
    shakes = Shakes(pool, paths(16), 2, 32, 4, seed=7)
    pairs, drawn = shakes.draw(5, 4)
    again, same = shakes.draw(5, 4)
    other, _ = shakes.draw(6, 4)
    assert len(drawn) == 4 * (1 + 2)
    assert (pairs.blurred.shape, pairs.sharp.shape) == ((4, 3, 32, 32), (4, 3, 40, 40))
    assert torch.equal(pairs.blurred, again.blurred)
    assert torch.equal(drawn, same)
    assert not torch.equal(pairs.sharp, other.sharp)


def test_a_step_that_is_not_finite_is_left_out_and_counted():
    state = State(NETWORK, OPTIMISATION, paths(40))
    assert torch.equal(
        torch.cat([p.flatten() for p in state.parameters.values()]),
        torch.cat([p.flatten() for p in State(NETWORK, OPTIMISATION, paths(40)).parameters.values()]),
    )
    name, parameter = next((k, p) for k, p in state.parameters.items() if p.numel() > 1)
    before = parameter.detach().clone()
    assert not state.update((parameter * torch.nan).sum())
    assert (state.step, torch.equal(parameter, before)) == (1, True)
    whole = sum(p.square().sum() for p in state.parameters.values()) / 2
    assert state.update(whole)
    assert state.step == 2
    # The first step of Adam is as long as the rate, against the sign of the gradient.
    moved = (parameter - before).detach()
    torch.testing.assert_close(
        moved, -OPTIMISATION.rate(8) * before.sign(), rtol=1e-2, atol=5e-5, msg=lambda text: f"{name}: {text}"
    )
