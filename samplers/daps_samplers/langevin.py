r"""Unadjusted Langevin dynamics.

    x <- x + eta grad log p(x | x_t, y) + sqrt(2 eta) eps,   eps ~ N(0, I),

with the step size eta = lr of the level. For a Gaussian target of variance s^2 the chain's own variance is
s^2 / (1 - eta / (2 s^2)): it is stable for eta < 2 s^2 and exact as eta -> 0.

Source: Zhang et al., arXiv 2407.01521, Algorithm 1 (with the likelihood's factor 1/2, see `Kernel.tau`).
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, KernelState, RandomStreams, Target

from .step_size import StepSize

__all__ = ["Langevin"]


class Langevin(Kernel):
    """Unadjusted Langevin dynamics.

    Args:
        steps: steps at each level.
        lr: step size eta at the first level.
        lr_min_ratio: the step size falls linearly to lr * lr_min_ratio at the last level.
        tau: standard deviation of the likelihood; None is the noise model's own.
        reach_lr_min: whether the last level really has lr * lr_min_ratio; false is the published rule.
    """

    def __init__(
        self,
        steps: int = 100,
        lr: float = 1e-4,
        lr_min_ratio: float = 0.01,
        *,
        tau: float | None = None,
        reach_lr_min: bool = True,
    ) -> None:
        self.steps, self.tau = steps, tau
        self.step_size = StepSize(lr, lr_min_ratio, reach_lr_min)
        self.advice = (
            f"take a smaller step size (sampler.kernel.lr, now {lr:g}) or a larger sampler.kernel.tau"
        )

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> KernelState:
        """Return chains at x."""
        return KernelState(x)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Take one step; draws one normal number an entry of x."""
        x = state.x
        eta = self.step_size.at(target.level, target.levels)
        _, gradient = target.log_density_grad(x)
        # The draw is ours alone, so the new position is built in its memory.
        moved = streams.normal(x.shape[1:], x.dtype).mul_(sqrt(2 * eta)).add_(x).add_(gradient, alpha=eta)
        return KernelState(moved), KernelInfo(step_size=eta)
