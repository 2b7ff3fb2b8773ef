r"""The probability-flow ODE, which carries x_t to a clean image without adding noise.

With x~ = s(t) (x0 + sigma(t) n) and the denoiser D,

    dx~/dt = (s'/s + sigma'/sigma) x~ - s (sigma'/sigma) D(x~/s, sigma),     Karras et al., arXiv 2206.00364, eq. (81)

Callers hold x = x~/s, that is x0 + sigma n: scaling happens inside, so every schedule means the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from daps_kit.contracts import Prior

from .schedules import Schedule

__all__ = ["ProbabilityFlow"]

Solver = Literal["euler", "heun"]


@dataclass(frozen=True)
class ProbabilityFlow:
    """A solver of the probability-flow ODE.

    Attributes:
        schedule: the schedule whose time the ODE runs in; it also places the steps.
        steps: steps of the solver: one call of the denoiser each with 'euler', two with 'heun'. With 0 the ODE is
            not solved at all and the result is D(x, sigma) = E[x0 | x_t].
        sigma_min: noise level at which it stops, positive.
        solver: 'euler' (order 1) or 'heun' (order 2).
        denoise: whether what is reached at sigma_min is denoised once more, by D(x, sigma_min). Without it the result
            still carries noise of standard deviation sigma_min.
    """

    schedule: Schedule
    steps: int = 5
    sigma_min: float = 0.01
    solver: Solver = "euler"
    denoise: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.sigma_min > 0:
            raise ValueError(f"need steps >= 0 and sigma_min > 0, got {self.steps} and {self.sigma_min}")
        if self.solver not in ("euler", "heun"):
            raise ValueError(f"unknown solver {self.solver!r}; allowed are 'euler' and 'heun'")

    @property
    def calls(self) -> int:
        """Calls of the denoiser that a solution takes."""
        if self.steps == 0:
            return 1
        return self.steps * (2 if self.solver == "heun" else 1) + self.denoise

    def direct(self, prior: Prior, sigma: float) -> bool:
        """Whether x0hat at this noise level is E[x0 | x_t] itself, because there is nothing to integrate."""
        return self.steps == 0 or sigma <= max(self.sigma_min, prior.sigma_range[0])

    def solve(self, prior: Prior, x: Tensor, sigma: float) -> Tensor:
        """Return x0hat for x = x0 + sigma n, [B, ...]; at or below sigma_min it is D(x, sigma)."""
        if self.direct(prior, sigma):
            return prior.denoise(x, sigma)
        low = max(self.sigma_min, prior.sigma_range[0])
        for state in self._states(prior, x, sigma, low):
            x = state
        return prior.denoise(x, low) if self.denoise else x

    def trajectory(self, prior: Prior, x: Tensor, sigma: float) -> list[Tensor]:
        """Return x at every grid point from `sigma` down to sigma_min, steps + 1 tensors, without a last denoising."""
        return [x, *self._states(prior, x, sigma, max(self.sigma_min, prior.sigma_range[0]))]

    def inverse(self, prior: Prior, x: Tensor, sigma: float) -> Tensor:
        """Carry x at sigma_min up to the noise level `sigma` on the same grid, backwards."""
        for state in self._states(prior, x, max(self.sigma_min, prior.sigma_range[0]), sigma):
            x = state
        return x

    def _states(self, prior: Prior, x: Tensor, start: float, stop: float) -> Iterator[Tensor]:
        """Yield x after each step from the noise level `start` to `stop`."""
        schedule = self.schedule
        times = schedule.times(max(start, stop), min(start, stop), self.steps + 1)
        sigmas = schedule.sigmas(max(start, stop), min(start, stop), self.steps + 1)
        if start < stop:
            times, sigmas = times[::-1], sigmas[::-1]
        scales = schedule.scaling(times).tolist()
        growth = (schedule.sigma_derivative(times) / schedule.sigma(times)).tolist()
        drift = (schedule.scaling_derivative(times) / schedule.scaling(times)).tolist()
        levels, spans = sigmas.tolist(), np.diff(times).tolist()

        def slope(x: Tensor, k: int) -> Tensor:
            """Return dx~/dt at grid point k for x = x~/s."""
            s = scales[k]
            denoised = prior.denoise(x, levels[k])
            return torch.sub((s * (drift[k] + growth[k])) * x, denoised, alpha=s * growth[k])

        for k, h in enumerate(spans):
            s, following = scales[k], scales[k + 1]
            first = slope(x, k)
            ahead = (s * x + h * first) / following
            if self.solver == "heun":
                ahead = (s * x + (h / 2) * (first + slope(ahead, k + 1))) / following
            x = ahead
            yield x
