"""MALA against its own formula: the proposal, and the ratio that keeps the target."""

from __future__ import annotations

import torch

from daps_kit.contracts import RandomStreams
from daps_samplers.hmc import JITTER
from daps_samplers.mala import MALA
from daps_samplers.whitened import Whitened
from tests.samplers.toy_target import gaussian_target

SHAPE = (1, 2, 2)


def test_a_step_is_a_langevin_step_with_metropolis_correction(scaled_operator):
    """w' = w + h^2 / 2 grad log p + h e with h up to 30 % smaller, and the ratio of Roberts and Tweedie (1996)."""
    batch = 400
    target = gaussian_target(scaled_operator, batch, SHAPE)
    space, streams = Whitened(target), RandomStreams(range(batch))
    kernel = MALA(steps=1, step_size=1.2)
    start = target.centre + 0.5
    state = kernel.init(target, start, streams)
    used = RandomStreams(range(batch))
    kernel.init(target, start, used)
    moved, info = kernel.step(target, state, streams)
    noise = used.normal(SHAPE)
    h = 1.2 * (1 - JITTER * used.uniform().reshape(batch, 1, 1, 1))

    def slope(w):
        return space.log_density_grad(space.image(w), w)[1]

    w = space.coordinates(start)
    proposed = w + h**2 / 2 * slope(w) + h * noise

    def log_transition(to, of):
        return -((to - of - h**2 / 2 * slope(of)) / h).square().flatten(1).sum(1) / 2

    log_ratio = target.log_density(space.image(proposed)) - target.log_density(start)
    log_ratio = log_ratio + log_transition(w, proposed) - log_transition(proposed, w)
    acceptance = log_ratio.exp().clamp_max(1)
    torch.testing.assert_close(info.acceptance, acceptance, rtol=1e-3, atol=1e-4)
    accepted = ~torch.isclose(moved.x, start, atol=1e-6).flatten(1).all(1)
    torch.testing.assert_close(moved.x[accepted], space.image(proposed)[accepted], rtol=1e-4, atol=1e-5)
    share, expected = accepted.float().mean(), acceptance.mean()
    assert 0.1 < float(expected) < 0.9
    assert abs(float(share - expected)) < 4.5 * float((acceptance * (1 - acceptance)).mean() / batch) ** 0.5
