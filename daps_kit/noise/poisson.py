r"""Photon noise.

Counts n ~ Poisson(r), the rate r linear in the clean measurement. The misfit is the deviance 2 (n log(n / r) - n + r).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

from .model import Noise, wide

__all__ = ["PoissonNoise"]


NONE = 1e-30
"""Stands for no count where counts divide."""

TIE = 1e-3
"""Share of a count by which the end of a cell is at a count in spite of rounding."""


class PoissonNoise(Noise):
    r"""Photon noise: counts n ~ Poisson(r) at the rate r(a) = peak (a - black) / (1 - black), given as
    y = black + (1 - black) n / peak, so that y lies around a. Values below black are as dark as black.

    Where no light is expected (r <= 0), n > 0 counts have probability 0. So that the log-likelihood stays finite
    and its gradient points back to the light, it is continued below the rate `dark` by its tangent there, which
    keeps it concave and its gradient continuous. With n = 0 it is exact everywhere.

    Args:
        peak: expected counts at the value 1 (white), positive.
        black: value that means no light; None, the default, is what the operator says, and -1 where there is none.
        dark: rate in counts below which the tangent is used.

    Raises:
        ValueError: a parameter is out of its range.
    """

    dispersion = 1.0

    def __init__(self, peak: float, black: float | None = None, dark: float = 0.01) -> None:
        if not 0 < peak < math.inf:
            raise ValueError(f"peak must be positive and finite, got {peak}")
        if black is not None and not black < 1:
            raise ValueError(f"black must be below 1, got {black}")
        if not dark > 0:
            raise ValueError(f"dark must be positive, got {dark}")
        self.peak, self.dark = float(peak), float(dark)
        self.black, self._stated = -1.0 if black is None else float(black), black is not None
        self.gain = self.peak / (1 - self.black)

    def with_black(self, black: float) -> PoissonNoise:
        """Return the model with that black, unless it was told its own."""
        return self if self._stated else PoissonNoise(self.peak, black, self.dark)

    def _counts(self, value: Tensor) -> Tensor:
        return self.gain * (value - self.black)

    def _slope(self, n: Tensor) -> Tensor:
        """Return the slope of the deviance by the rate below min(n, dark), where the exact law ends."""
        return (2 - n * (2 / self.dark)).clamp_max(0)

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw counts at the rates of the clean measurement, on the scale of images."""
        return self.black + streams.poisson(self._counts(clean).clamp_min(0)) / self.gain

    def std(self, clean: Tensor) -> Tensor:
        """Return the root of the rate, over the counts a unit of the measurement has; at least one count's."""
        return self._counts(clean).clamp_min(1).sqrt() / self.gain

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the deviance 2 (n log(n / r) - n + r), n = counts(y), r = counts(clean)."""
        n, r = self._counts(y).clamp_min(0), self._counts(clean)
        inside = torch.maximum(r, n.clamp_max(self.dark))
        excess = (inside - n) / n.clamp_min(NONE)
        exact: Tensor = 2 * (inside - n - n * torch.log1p(excess))
        return exact + self._slope(n) * (r - inside)

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 2 (1 - n / r), times the counts a unit of the measurement has."""
        n, r = self._counts(y).clamp_min(0), self._counts(clean)
        by_rate = torch.where(r > n.clamp_max(self.dark), 2 * (1 - n / r), self._slope(n))
        return self.gain * by_rate

    def curvature(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the larger of what rate and counts give, 1 / r and n / r^2, for rates of at least 1."""
        n, r = self._counts(y).clamp_min(0), self._counts(clean).clamp_min(1)
        return self.gain**2 * torch.maximum(1 / r, n / r.square())

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean): that of the counts in a cell, by the incomplete gamma function.

        A cell without a count, in which no value can lie, is given the count above it.
        """
        low, high = ((wide(self._counts(end)) + TIE).floor() for end in (lower, upper))
        first, last = (low + 1).clamp_min(0), torch.maximum(high, low + 1).clamp_min(0)
        return self._continued(lambda r: _log_cell(first, last, r), wide(self._counts(clean))).to(clean)

    def _continued(self, log: Callable[[Tensor], Tensor], r: Tensor) -> Tensor:
        """Return log(r); below the rate `dark` it goes on as a line, down to 0 or, where it falls, for ever."""
        if bool((r >= self.dark).all()):
            return log(r)
        inside = r.clamp_min(self.dark)
        at = torch.full_like(r, self.dark)
        with torch.no_grad():
            slope = (log(2 * at) - log(at)) / self.dark
        return log(inside) + slope * (torch.where(slope > 0, r, r.clamp_min(0)) - inside)

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log-probability of the counts, n log r - r - log n!."""
        n = self._counts(y).clamp_min(0)
        return torch.xlogy(n, n) - n - torch.lgamma(n + 1) - self.misfit(clean, y) / 2


def log_counts(k: Tensor, r: Tensor) -> Tensor:
    """Return the log-probability of k counts at the rate r > 0."""
    return k * r.log() - r - torch.lgamma(k + 1)


def _log_cell(first: Tensor, last: Tensor, r: Tensor) -> Tensor:
    """Return log P(first <= n <= last) of n ~ Poisson(r); `last` may be infinite.

    It is the difference of two tails, those that r is not in. Where it is too small for that, it is a geometric series
    of counts from the end that is nearer to r, which for one count is exact.
    """
    endless, here = torch.isinf(last), r.detach()
    after = torch.where(endless, first, last) + 1
    above = first > here
    upper = torch.where(first > 0, torch.special.gammainc(first.clamp_min(1), r), 1.0)
    upper_rest = torch.where(endless, 0.0, torch.special.gammainc(after, r))
    lower = torch.where(endless, 1.0, torch.special.gammaincc(after, r))
    lower_rest = torch.where(first > 0, torch.special.gammaincc(first.clamp_min(1), r), 0.0)
    tail, rest = torch.where(above, upper, lower), torch.where(above, upper_rest, lower_rest)
    exact = (tail - rest > 1e-6 * tail) & (tail > 1e-280)
    below = last < here
    near = torch.where(below, last, first)
    ratio = torch.where(below, near / r, r / (near + 1)).clamp_max(1 - 1e-9)
    series = torch.log1p(-(ratio ** (last - first + 1).clamp_max(1e6))) - torch.log1p(-ratio)
    return torch.where(
        exact,
        torch.where(exact, tail - rest, 1.0).log(),
        log_counts(torch.where(exact, 1.0, near), r) + series,
    )
