"""Underdamped Langevin dynamics."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_samplers.langevin import Langevin
from daps_samplers.underdamped import Underdamped
from tests.samplers.toy_target import MEAN, SHAPE, VARIANCE, check_moments, exact_draw, gaussian_target


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_underdamped_has_the_variance_its_step_size_gives(scaled_operator, momentum):
    lr = 0.8 * VARIANCE
    kernel = Underdamped(steps=150, lr=lr, lr_min_ratio=1.0, momentum=momentum)
    x, _ = kernel.run(gaussian_target(scaled_operator), exact_draw(), RandomStreams(range(4)))
    check_moments(x, MEAN, VARIANCE / (1 - lr / (2 * VARIANCE * (1 + momentum))))


def test_without_momentum_underdamped_is_langevin(scaled_operator, recorded_streams):
    noise = [torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    target, start = gaussian_target(scaled_operator, 2), torch.zeros(2, *SHAPE)
    plain, _ = Langevin(5, 0.01).run(target, start, recorded_streams(noise[1:]))
    other, _ = Underdamped(5, 0.01, momentum=0.0).run(target, start, recorded_streams(noise))
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-5)
