r"""Dual averaging: a step size h that goes after a target acceptance, for each sample on its own.

With the acceptance alpha_t of step t and H_t the mean of (target - alpha) so far (with t0 more steps at zero),

    log h_{t+1} = mu - sqrt(t) / gamma H_t,      mean log h_t = (1 - t^-kappa) mean log h_{t-1} + t^-kappa log h_t,

and after the warm-up h is the mean. Source: Hoffman and Gelman, JMLR 15 (2014), eq. (6), with their gamma = 0.05,
t0 = 10, kappa = 0.75; mu = log 2 h_0, where h_0 is already near the limit of stability.
"""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DualAveraging"]

GAMMA, T0, KAPPA = 0.05, 10, 0.75


class DualAveraging(NamedTuple):
    """The state of dual averaging.

    Attributes:
        start: log h_0, [B].
        target: the acceptance to reach.
        warm_up: steps that adapt; with 0, h stays h_0.
        taken: steps so far.
        excess: H, [B].
        current, mean: log h and its average, [B].
    """

    start: Tensor
    target: float
    warm_up: int
    taken: int
    excess: Tensor
    current: Tensor
    mean: Tensor

    @classmethod
    def begin(cls, start: Tensor, target: float, warm_up: int) -> DualAveraging:
        """Return the state before the first step."""
        return cls(start, target, warm_up, 0, torch.zeros_like(start), start, start)

    @property
    def step_size(self) -> Tensor:
        """Return h for the next step, [B]."""
        return (self.current if self.taken < self.warm_up else self.mean).exp()

    def updated(self, acceptance: Tensor) -> DualAveraging:
        """Return the state after a step with this acceptance [B]."""
        if self.taken >= self.warm_up:
            return self
        t = self.taken + 1
        excess = self.excess + (self.target - acceptance - self.excess) / (t + T0)
        current = self.start + log(2) - sqrt(t) / GAMMA * excess
        share = t**-KAPPA
        mean = (1 - share) * self.mean + share * current
        return self._replace(taken=t, excess=excess, current=current, mean=mean)
