r"""Random-walk Metropolis, which the published implementation calls mh.

    x' = x + sqrt(eta) eps,   eps ~ N(0, I),
    taken where log u < log p(x' | x_t, y) - log p(x | x_t, y),   u ~ U(0, 1),

with the proposal variance eta = lr of the level. It leaves its target exactly invariant, but in d dimensions a useful
step has sqrt(eta) of about 2.4 / sqrt(d) target widths (Roberts, Gelman and Gilks, 1997).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, RandomStreams, Target
from daps_kit.errors import ComponentError

from .step_size import StepSize

__all__ = ["Metropolis", "MetropolisState"]


class MetropolisState(NamedTuple):
    """A chain with its log density.

    Attributes:
        x: position, [B, ...].
        log_density: of x, [B].
    """

    x: Tensor
    log_density: Tensor


class Metropolis(Kernel):
    """Random-walk Metropolis.

    Args:
        steps: steps at each level.
        lr: variance eta of the proposal at the first level.
        lr_min_ratio: it falls linearly to lr * lr_min_ratio at the last level.
        reach_lr_min: whether the last level really has lr * lr_min_ratio; false is the published rule.
    """

    needs_density = True
    advice = "look at the operator and at the measurement"

    def __init__(
        self,
        steps: int = 100,
        lr: float = 1e-5,
        lr_min_ratio: float = 0.01,
        *,
        reach_lr_min: bool = True,
    ) -> None:
        self.steps = steps
        self.step_size = StepSize(lr, lr_min_ratio, reach_lr_min)

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> MetropolisState:
        """Return chains at x with their log density; a chain that starts where there is none is lost (nan).

        Raises:
            daps_kit.errors.ComponentError: the target's density is not known.
        """
        if not target.has_density:
            raise ComponentError(
                "kernel 'metropolis' compares densities; this target (prior_score 'exact') has none"
            )
        log_density = target.log_density(x)
        return MetropolisState(torch.where(_rows(torch.isfinite(log_density), x), x, torch.nan), log_density)

    def step(
        self, target: Target, state: MetropolisState, streams: RandomStreams
    ) -> tuple[MetropolisState, KernelInfo]:
        """Take one step; draws a normal number an entry of x, then a uniform one a sample."""
        x, old = state
        eta = self.step_size.at(target.level, target.levels)
        proposal = streams.normal(x.shape[1:], x.dtype).mul_(sqrt(eta)).add_(x)
        new = target.log_density(proposal)
        log_ratio = new - old
        accepted = streams.uniform((), x.dtype).log() < log_ratio  # false where a ratio is NaN
        moved = torch.where(_rows(accepted, x), proposal, x)
        acceptance = torch.nan_to_num(log_ratio, nan=-torch.inf).clamp_max(0).exp()
        info = KernelInfo(acceptance=acceptance, step_size=eta)
        return MetropolisState(moved, torch.where(accepted, new, old)), info


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask of samples [B], shaped to select among `like` [B, ...]."""
    return mask.reshape(-1, *(1,) * (like.ndim - 1))
