r"""What a run does where its settings leave it open: how many noise levels, from where to where, how many starts.

sigma_max  10, where the prior sees little but the mean of its images (they lie in [-1, 1])
sigma_min  the noise of the measurement, kept within 0.01 and 0.1; 0.4 of it where the last draw is the result as it is
restarts   1, but up to 24 for a multimodal operator. Whether a start ends in a wrong mode is decided at the highest
           levels, where few of them serve as well as many, and where the residual begins to tell. So these levels are
           further apart, and from level to level the starts with the least residuals go on, in proportion to sigma^2,
           down to one
levels     as many as a budget of network calls pays for, the starts and the denoising of the result included
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from daps_kit.contracts import Operator

if TYPE_CHECKING:
    from torch import Tensor

    from .annealing import Annealing

__all__ = ["BUDGETS", "Budget", "complete", "network_calls", "passing"]

Budget = Literal["fast", "balanced", "accurate"] | int

BUDGETS = {"fast": (9, 25), "balanced": (21, 56), "accurate": (101, 101)}
"""Network calls of the budgets that have names, for linear operators and for others."""

SIGMA_MAX = 10.0
SIGMA_MIN = (0.01, 0.1)
LAST = 0.4
"""The last noise level in units of the measurement's noise, where no denoising follows."""
RESTARTS = 24
"""Starts of a multimodal operator at most."""
SHARE = 4
"""Levels that a budget has to pay for, for each start, which takes about two."""
LEAST = 16
"""Levels that a budget has to pay for, for there to be several starts."""
SPACING = 0.75
"""Ratio of the noise levels that several starts pass, at most."""


def complete(
    annealing: Annealing,
    budget: Budget,
    restarts: int | None,
    operator: Operator,
    y: Tensor,
    *,
    calls: int,
    denoised: bool,
    more_calls: int = 0,
    within: tuple[float, float] = (0.0, math.inf),
) -> tuple[list[float], list[int]]:
    """Return the noise levels, largest first, and how many starts pass each, see `passing`.

    Args:
        annealing: levels, sigma_max and sigma_min, None where they are left open.
        budget: network calls of a sample, or a name in `BUDGETS`; of use only where `levels` is None.
        restarts: starts, None where that is left open: then there are several only if the levels are left open too.
        operator: the operator as a function of x0.
        y: the measurement.
        calls: network calls of a level.
        denoised: whether the last draw is denoised, which is a network call.
        more_calls: network calls beside it and the levels.
        within: noise levels that the prior knows.
    """
    linear = operator.linear_part is not None
    total = network_calls(budget, linear=linear)
    for_levels = total - int(denoised) - more_calls
    high, low = annealing.sigma_max, annealing.sigma_min
    if high is None:
        high = SIGMA_MAX if low is None else max(SIGMA_MAX, 10 * low)
    if low is None:
        share = 1.0 if denoised else LAST
        low = min(max(share * _least_noise(operator, y), SIGMA_MIN[0]), SIGMA_MIN[1], high / 2)
    starts = restarts or 1
    if restarts is None and annealing.levels is None and operator.multimodal and total >= LEAST * calls:
        starts = min(RESTARTS, total // (SHARE * calls))

    def grid(levels: int) -> list[float]:
        return replace(annealing, levels=levels, sigma_max=high, sigma_min=low).sigmas(within)

    if annealing.levels is not None:
        sigmas = grid(annealing.levels)
        return sigmas, passing(sigmas, starts)
    levels = max(1, for_levels // calls)
    while True:
        sigmas = _apart(grid(levels), starts)
        counts = passing(sigmas, starts)
        if levels == 1 or calls * sum(counts) <= for_levels:
            return sigmas, counts
        levels -= 1


def network_calls(budget: Budget, *, linear: bool) -> int:
    """Return how many network calls of a sample a budget is, for a linear operator or another."""
    return BUDGETS[budget][not linear] if isinstance(budget, str) else budget


def _least_noise(operator: Operator, y: Tensor) -> float:
    """Return the standard deviation of the noise, where parts of it are unknown the least that is likely."""
    if operator.parameters is None:
        return operator.noise.level(y)
    priors = operator.parameters.priors
    sets = [[prior.quantile(u) for prior in priors] for u in LIKELY]
    return min(
        operator.parameters.row(0)(dict(zip(operator.parameters.names, values, strict=True))).noise.level(y)
        for values in sets
    )


LIKELY = (0.05, 0.5, 0.95)
"""Quantiles of the priors of unknown parameters at which the noise is looked at."""


def passing(sigmas: list[float], starts: int) -> list[int]:
    """Return how many starts pass each level: all the first, one the last."""
    counts = [_left(sigma, starts) for sigma in sigmas]
    return [starts, *counts[1:-1], 1] if len(sigmas) > 1 else [1]


def _left(sigma: float, starts: int) -> int:
    return max(1, round(starts * min(1.0, sigma / SIGMA_MAX) ** 2))


def _apart(sigmas: list[float], starts: int) -> list[float]:
    """Return the noise levels without some of those that several starts would pass."""
    kept = sigmas[:1]
    for sigma in sigmas[1:]:
        if sigma <= SPACING * kept[-1] or _left(sigma, starts) == 1:
            kept.append(sigma)
    return kept
