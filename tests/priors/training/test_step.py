"""One step of training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_priors.trained.network import Denoiser
from daps_priors.training.step import NetworkLearner, take_step
from tests.priors.training.small import objective, start


class Learner(NetworkLearner[Denoiser]):
    """A learner that is not measured."""

    def measure(self) -> dict[str, dict[str, float]]:
        return {}

    def record(self, report: object, folder: object) -> None:
        raise AssertionError


def test_steps_go_down_and_are_averaged() -> None:
    state = start()
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    learner = Learner(state, objective(), lambda values: values)
    losses = [learner.advance() for _ in range(10)]
    assert learner.step == 10
    assert sum(losses[5:]) < sum(losses[:5])
    moved = [name for name, p in state.model.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) == len(before)
    # The average has gone a part of the way, and not the whole of it.
    latest = dict(state.model.named_parameters())
    for name, p in state.ema.named_parameters():
        assert not torch.equal(p, latest[name]), name
        assert not torch.equal(p, before[name]), name


def test_the_mean_over_the_workers_is_what_moves_the_weights() -> None:
    state, still = start(), start()

    def nothing(values: Tensor) -> Tensor:
        return torch.zeros_like(values).index_fill_(0, torch.tensor([len(values) - 1]), 2.5)

    assert take_step(state, objective(), 0, nothing) == 2.5
    decay = 1 - still.rate() * 0.01
    for (name, p), q in zip(state.model.named_parameters(), still.model.parameters(), strict=True):
        torch.testing.assert_close(p, q * decay if p.ndim > 1 else q, msg=name)


def test_a_mean_that_is_not_finite_is_left_out() -> None:
    state, still = start(), start()
    assert math.isnan(take_step(state, objective(), 0, lambda values: values * torch.nan))
    for p, q in zip(state.model.parameters(), still.model.parameters(), strict=True):
        assert torch.equal(p, q)
