"""The state of a training: learning rate, average, and what a checkpoint holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from daps_kit.errors import UserError
from daps_priors.training.state import Optimisation, State, ema_power


def test_the_learning_rate_rises_and_ends_at_zero() -> None:
    rate = Optimisation(images_seen=1000, warm_up=100, batch_size=10, learning_rate=1.0).rate
    assert rate(0) == pytest.approx(0.1)
    assert rate(90) == pytest.approx(0.980, abs=1e-3)
    assert rate(500) == pytest.approx(0.5)
    assert rate(1000) == 0


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_average_has_the_width_asked_for(width: float) -> None:
    power = ema_power(width)
    t = np.linspace(0, 1, 200001)
    weight = t**power / np.sum(t**power)
    mean = np.sum(weight * t)
    assert np.sqrt(np.sum(weight * (t - mean) ** 2)) == pytest.approx(width, rel=1e-3)


def steps(state: State[nn.Module], count: int) -> None:
    """Make steps with gradients that depend on their number alone."""
    for _ in range(count):
        draw = torch.Generator().manual_seed(state.step)
        for p in state.parameters:
            p.grad = torch.zeros_like(p)
        state.update(torch.randn(sum(p.numel() for p in state.parameters), generator=draw))
        state.average()


def any_network(width: int = 8) -> State[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, width, 3), nn.Conv2d(width, 3, 1)
        )
    return State(layers, Optimisation(images_seen=1000, batch_size=10, warm_up=20), outer=("0.", "3."))


def test_a_network_of_any_kind_goes_on_from_what_is_kept_of_it() -> None:
    whole, broken, resumed = any_network(), any_network(), any_network()
    steps(whole, 5)
    steps(broken, 3)
    resumed.restore({name: tensor.clone() for name, tensor in broken.tensors().items()}, broken.step)
    steps(resumed, 2)
    kept, expected = resumed.tensors(), whole.tensors()
    assert kept.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, kept[name]), name


def test_a_gradient_that_is_not_finite_leaves_the_weights_as_they_are() -> None:
    state = any_network()
    steps(state, 1)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    size = sum(p.numel() for p in state.parameters)
    assert not state.update(torch.full((size,), torch.nan))
    assert state.step == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


def test_a_gradient_is_clipped_to_its_largest_norm() -> None:
    """AdamW's mean of gradients shows it: a tenth of the first."""
    state = any_network()
    for p in state.parameters:
        p.grad = torch.zeros_like(p)
    gradient = 5 * torch.randn(
        sum(p.numel() for p in state.parameters), generator=torch.Generator().manual_seed(0)
    )
    assert state.update(gradient)
    first = state.tensors()["optimiser.exp_avg.0.weight"]
    torch.testing.assert_close(first.flatten(), 0.1 * gradient[: first.numel()] / gradient.norm())


def test_tensors_of_another_network_are_refused() -> None:
    state = any_network()
    steps(state, 1)
    with pytest.raises(UserError, match=r"does not fit the network .*0\.weight"):
        any_network(16).restore(state.tensors(), 1)
    other = {name.replace("momentum", "exp_avg"): tensor for name, tensor in state.tensors().items()}
    with pytest.raises(UserError, match="does not fit the network and its optimiser .*momentum"):
        any_network().restore(other, 1)
