r"""Underdamped Langevin dynamics, which the published implementation calls hmc.

    v <- m v + sqrt(eta) grad log p(x | x_t, y) + sqrt(2 (1 - m)) eps,   eps ~ N(0, I),
    x <- x + sqrt(eta) v,

with the momentum m in [0, 1), the step size eta = lr of the level and v ~ N(0, I) at the start of every level. Nothing
is rejected. m = 0 is overdamped Langevin. For a Gaussian target of variance s^2 the stationary equations of (x, v) give
the chain's own variance as s^2 / (1 - eta / (2 s^2 (1 + m))).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, RandomStreams, Target

from .step_size import StepSize

__all__ = ["Underdamped", "UnderdampedState"]


class UnderdampedState(NamedTuple):
    """A chain with its velocity, both [B, ...]."""

    x: Tensor
    velocity: Tensor


class Underdamped(Kernel):
    """Underdamped Langevin dynamics.

    Args:
        steps: steps at each level.
        lr: step size eta at the first level.
        lr_min_ratio: the step size falls linearly to lr * lr_min_ratio at the last level.
        momentum: share m of the velocity that a step keeps, 0 <= m < 1.
        reach_lr_min: whether the last level really has lr * lr_min_ratio; false is the published rule.
    """

    def __init__(
        self,
        steps: int = 60,
        lr: float = 2e-5,
        lr_min_ratio: float = 0.01,
        *,
        momentum: float = 0.5,
        reach_lr_min: bool = True,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        self.steps, self.momentum = steps, momentum
        self.step_size = StepSize(lr, lr_min_ratio, reach_lr_min)
        self.advice = (
            f"take a smaller step size (sampler.kernel.lr, now {lr:g}) or less sampler.kernel.momentum"
        )

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> UnderdampedState:
        """Return chains at x with velocities drawn from N(0, I)."""
        return UnderdampedState(x, velocity=streams.normal(x.shape[1:], x.dtype))

    def step(
        self, target: Target, state: UnderdampedState, streams: RandomStreams
    ) -> tuple[UnderdampedState, KernelInfo]:
        """Take one step; draws one normal number an entry of x."""
        (x, velocity), m = state, self.momentum
        eta = self.step_size.at(target.level, target.levels)
        _, gradient = target.log_density_grad(x)
        kick = streams.normal(x.shape[1:], x.dtype).mul_(sqrt(2 * (1 - m)))
        velocity = kick.add_(velocity, alpha=m).add_(gradient, alpha=sqrt(eta))
        moved = torch.add(x, velocity, alpha=sqrt(eta))
        return UnderdampedState(moved, velocity=velocity), KernelInfo(step_size=eta)
