r"""What a run does where its settings leave it open: how many noise levels, from where to where.

levels     a budget of network calls, less the one that denoises the result, over the calls a level makes
sigma_max  10 for a linear operator: p(x0 | x_t, y) is then a Gaussian at every level, which is found from anywhere.
           50 for others: they may have many modes, and annealing has to begin where the prior sees only one
sigma_min  the noise of the measurement, kept within 0.01 and 0.1 (images lie in [-1, 1])
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from daps_kit.contracts import GaussianNoise, LinearOperator, Operator, PoissonNoise

if TYPE_CHECKING:
    from torch import Tensor

    from .annealing import Annealing

__all__ = ["BUDGETS", "Budget", "complete"]

Budget = Literal["fast", "balanced", "accurate"] | int

BUDGETS = {"fast": 21, "balanced": 51, "accurate": 101}
"""Network calls of the budgets that have names."""

CONVEX_SIGMA_MAX, SIGMA_MAX = 10.0, 50.0
SIGMA_MIN = (0.01, 0.1)


def complete(
    annealing: Annealing, budget: Budget, operator: Operator, y: Tensor, *, calls: int, last_calls: int
) -> Annealing:
    """Return the annealing with everything decided that its settings leave open.

    Args:
        annealing: levels, sigma_max and sigma_min, None where they are left open.
        budget: network calls of a sample, or a name in `BUDGETS`; of use only where `levels` is None.
        operator: the operator as a function of x0.
        y: the measurement.
        calls: network calls of a level.
        last_calls: network calls after the last level.
    """
    levels, high, low = annealing.levels, annealing.sigma_max, annealing.sigma_min
    if levels is None:
        total = BUDGETS[budget] if isinstance(budget, str) else budget
        levels = max(1, (total - last_calls) // calls)
    if high is None:
        chosen = CONVEX_SIGMA_MAX if isinstance(operator, LinearOperator) else SIGMA_MAX
        high = chosen if low is None else max(chosen, 10 * low)
    if low is None:
        low = min(max(noise_level(operator, y), SIGMA_MIN[0]), SIGMA_MIN[1], high / 2)
    return replace(annealing, levels=levels, sigma_max=high, sigma_min=low)


def noise_level(operator: Operator, y: Tensor) -> float:
    """Return the standard deviation of the noise, in the units of the measurement; that at mean counts for Poisson."""
    noise = operator.noise
    if isinstance(noise, GaussianNoise):
        return noise.sigma
    if isinstance(noise, PoissonNoise):
        gain = noise.peak / (1 - noise.black)
        counts = max(float(gain * (y.nanmean() - noise.black)), 1.0)
        return math.sqrt(counts) / gain
    return SIGMA_MIN[0]
