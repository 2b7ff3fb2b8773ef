"""Langevin dynamics: the variance its step size gives, and what happens to lost chains."""

from __future__ import annotations

import pytest
import torch

import daps_samplers
from daps_kit.contracts import RandomStreams
from daps_samplers.langevin import Langevin
from daps_samplers.metropolis import Metropolis
from daps_samplers.underdamped import Underdamped
from tests.samplers.toy_target import (
    CENTRE,
    MEAN,
    SHAPE,
    VARIANCE,
    check_moments,
    exact_draw,
    gaussian_target,
)


@pytest.mark.parametrize("stiffness", [0.1, 0.5, 1.2])
def test_langevin_has_the_variance_its_step_size_gives(scaled_operator, stiffness):
    lr = stiffness * VARIANCE
    kernel = Langevin(steps=60, lr=lr, lr_min_ratio=1.0)
    x, _ = kernel.run(gaussian_target(scaled_operator), exact_draw(), RandomStreams(range(4)))
    check_moments(x, MEAN, VARIANCE / (1 - lr / (2 * VARIANCE)))


def test_kernels_do_not_change_what_they_are_given(scaled_operator):
    target, start = gaussian_target(scaled_operator, 2), torch.zeros(2, *SHAPE)
    for kernel in (Langevin(3), Underdamped(3), Metropolis(3)):
        kernel.run(target, start, RandomStreams([0, 1]))
        assert torch.equal(start, torch.zeros(2, *SHAPE))
        assert torch.equal(target.centre, torch.full((2, *SHAPE), CENTRE))


@pytest.mark.parametrize(
    "kernel", [Langevin(5), Underdamped(5), Metropolis(5)], ids=lambda k: type(k).__name__
)
def test_a_lost_chain_is_reported_and_disturbs_no_other(scaled_operator, kernel):
    start = exact_draw(3)
    bad = start.clone()
    bad[1, 0, 0, 0] = torch.nan
    target = gaussian_target(scaled_operator, 3)
    good, _ = kernel.run(target, start, RandomStreams(range(3)))
    x, info = kernel.run(target, bad, RandomStreams(range(3)))
    assert [failure.sample for failure in info.failures] == [1]
    assert torch.equal(x[[0, 2]], good[[0, 2]])


@pytest.mark.parametrize(
    "make",
    [lambda: Langevin(lr=0.0), lambda: Langevin(lr_min_ratio=2.0), lambda: Underdamped(momentum=1.0)],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"need|momentum"):
        make()


@pytest.mark.parametrize("kernel", daps_samplers.daps_kernels(), ids=lambda kernel: kernel.name)
def test_the_state_of_a_kernel_is_a_tuple_of_all_that_it_keeps(scaled_operator, kernel):
    target, start = gaussian_target(scaled_operator, 2), exact_draw(2)
    state = kernel().build().init(target, start, RandomStreams([0, 1]))
    assert isinstance(state, tuple)
    assert torch.equal(state.x, start)
    assert all(value is not None for value in state)
    assert not any("None" in str(kind) for kind in type(state).__annotations__.values())
