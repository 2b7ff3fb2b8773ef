r"""Unadjusted Langevin dynamics.

    x <- x + eta grad log p(x | x_t, y) + sqrt(2 eta) eps,   eps ~ N(0, I),

with the step size eta = lr of the level. For a Gaussian target of variance s^2 the chain's own variance is
s^2 / (1 - eta / (2 s^2)): it is stable for eta < 2 s^2 and exact as eta -> 0.

`WhitenedLangevin` runs in whitened coordinates x = centre + C^{1/2} w and takes eta = `SAFETY` / L, L the largest
curvature of -log p(w), measured at the start of the level by power iteration, each sample's own: its variance is then
too large by SAFETY / 2 in the stiffest direction and by less in the others.

Source: Zhang et al., arXiv 2407.01521, Algorithm 1 (with the likelihood's factor 1/2, see `tau` of the sampler).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, KernelState, RandomStreams, Target
from daps_kit.linalg import per_sample

from .step_size import StepSize
from .whitened import Linearised, Whitened

__all__ = ["Langevin", "WhitenedLangevin", "WhitenedState"]

SAFETY = 0.05


class Langevin(Kernel):
    """Unadjusted Langevin dynamics.

    Args:
        steps: steps at each level.
        lr: step size eta at the first level.
        lr_min_ratio: the step size falls linearly to lr * lr_min_ratio at the last level.
        reach_lr_min: whether the last level really has lr * lr_min_ratio; false is the published rule.
    """

    def __init__(
        self, steps: int = 100, lr: float = 1e-4, lr_min_ratio: float = 0.01, *, reach_lr_min: bool = True
    ) -> None:
        self.steps, self.step_size = steps, StepSize(lr, lr_min_ratio, reach_lr_min)
        self.advice = f"take a smaller step size (sampler.kernel.lr, now {lr:g}) or a larger sampler.tau"

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> KernelState:
        """Return chains at x."""
        return KernelState(x)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Take one step; draws one normal number an entry of x."""
        x, eta = state.x, self.step_size.at(target.level, target.levels)
        _, gradient = target.log_density_grad(x)
        # The draw is ours alone, so the new position is built in its memory.
        moved = streams.normal(x.shape[1:], x.dtype).mul_(sqrt(2 * eta)).add_(x).add_(gradient, alpha=eta)
        return KernelState(moved), KernelInfo(step_size=eta)


class WhitenedState(NamedTuple):
    """A chain in whitened coordinates.

    Attributes:
        x: position, [B, ...].
        w: whitened position, [B, ...].
        eta: step size, [B].
    """

    x: Tensor
    w: Tensor
    eta: Tensor


class WhitenedLangevin(Kernel):
    """Unadjusted Langevin dynamics in whitened coordinates, whose step size is measured at every level.

    Args:
        steps: steps at each level.
    """

    needs_density = True
    advice = "set a step size (sampler.kernel.lr), or take the kernel 'auto'"

    def __init__(self, steps: int = 100) -> None:
        self.steps = steps

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> WhitenedState:
        """Return chains at x.

        Raises:
            daps_kit.errors.ComponentError: the target's density is not known.
        """
        space = Whitened(target)
        here = Linearised(space, x)
        here.weight = target.likelihood_curvature(here.clean)
        eta = SAFETY / here.stiffness(streams.normal(x.shape[1:], x.dtype))
        return WhitenedState(x, space.coordinates(x), eta)

    def step(
        self, target: Target, state: WhitenedState, streams: RandomStreams
    ) -> tuple[WhitenedState, KernelInfo]:
        """Take one step; draws one normal number an entry of x."""
        (x, w, eta), space = state, Whitened(target)
        size = per_sample(eta, w)
        _, gradient = space.log_density_grad(x, w)
        w = w + size * gradient + (2 * size).sqrt() * streams.normal(w.shape[1:], w.dtype)
        return WhitenedState(space.image(w), w, eta), KernelInfo(step_size=eta)
