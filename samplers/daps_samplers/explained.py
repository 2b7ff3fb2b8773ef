r"""Whether a result explains the measurement, by the chi-square test.

For the true image the mean squared residual of n numbers is 1 within sqrt(2 / n), in units of the noise's variance;
five times that does not happen by chance. What is within 30 % is left to the error of the prior: right results reach
1.19 on photographs unlike those that it was trained on, and twice the noise that is stated leaves 1.4 or more. A
multimodal operator may lead to a wrong mode, whose residual is little larger; but then it was too large at every level,
while in the right mode the draws at middle levels, where the prior leaves them room, explain the measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import Operator
from daps_kit.failures import Cause, Failure

__all__ = ["Explained", "residual"]

UNEXPLAINED = 1.3
"""Residual of a result, in standard deviations of the noise, from which a user is told."""

WRONG = 1.1
"""The least residual of all levels from which a sample is said to be in a wrong mode."""

DEVIATIONS = 5
"""Standard deviations of chi-square that are left to chance."""


@torch.no_grad()
def residual(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """Return the residual in standard deviations of the noise, [B]."""
    return operator.residual(x, y)


class Explained:
    """Watches the residuals of a run.

    Args:
        operator: the operator as a function of x0.
        y: the measurement, [B, ...].

    Attributes:
        least: the smallest residual of each sample so far, [B]; infinite where the operator has a single mode.
    """

    def __init__(self, operator: Operator, y: Tensor) -> None:
        self.operator, self.y = operator, y
        self.least = torch.full((len(y),), torch.inf, device=y.device)

    def see(self, x0y: Tensor) -> None:
        """Take note of the draws of a level."""
        if self.operator.multimodal:
            found = residual(self.operator, x0y, self.y).nan_to_num(torch.inf)
            self.least = torch.minimum(self.least, found)

    def doubts(self, x: Tensor, alive: Tensor, level: int, levels: int, sigma: float) -> list[Failure]:
        """Return which of the samples [B] that are alive do not explain the measurement."""
        observed = self.operator.observed
        count = self.y[0].numel() if observed is None else float(observed.sum((-3, -2, -1)).min())
        chance = (1 + DEVIATIONS * (2 / max(count, 1)) ** 0.5) ** 0.5
        found = residual(self.operator, x, self.y)
        wrong = alive & self.least.isfinite() & (self.least > max(WRONG, chance))
        high = alive & ~wrong & (found > max(UNEXPLAINED, chance))

        def failures(mask: Tensor, cause: Cause, advice: str, sizes: Tensor) -> list[Failure]:
            places = mask.nonzero().flatten().tolist()
            return [Failure(b, level, levels, sigma, cause, advice, float(sizes[b])) for b in places]

        return failures(wrong, "mode", f"try another run; chance allows {chance:.3f}", self.least) + failures(
            high,
            "residual",
            "try another run, more levels (sampler.budget), or look at operator.noise",
            found,
        )
