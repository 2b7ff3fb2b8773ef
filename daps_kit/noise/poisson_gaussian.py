r"""Photon counts with read noise, as cameras have them.

With k ~ Poisson(r) electrons and read noise of standard deviation s, in electrons, the camera gives k + s n, and

    p(z | r) = sum_k Poisson(k; r) N(z; k, s^2).

The largest term is near k* = r exp((z - k*) / s^2), that is k* = s^2 W(r exp(z / s^2) / s^2) with Lambert's W, and
terms fall off around it like a Gaussian of variance 1 / (1 / k* + 1 / s^2) < s^2. For s below `SMOOTH` they are summed.
Above, no single count shows any more, and with K(t) = r (e^t - 1) + s^2 t^2 / 2, K'(t) = z at t = (z - k*) / s^2,

    log p = K(t) - t z - log(2 pi K'') / 2 + log(1 + K'''' / (8 K''^2) - 5 K'''^2 / (24 K''^3)),

the saddlepoint with its first correction, K'' = k* + s^2, K''' = K'''' = k*. Its error is below `ERROR` for any r.

Sources: Snyder, Hammoud and White, "Image recovery from data acquired with a charge-coupled-device camera", JOSA A 10
(1993); Daniels, "Saddlepoint approximations in statistics", Annals of Mathematical Statistics 25 (1954).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

from .gaussian import log_normal_cell
from .model import Noise, log_mean, wide
from .poisson import PoissonNoise, log_counts

__all__ = ["PoissonGaussianNoise"]

SMOOTH, ERROR = 2.0, 1e-4
"""Read noise, in electrons, from which on the saddlepoint serves, and the largest error of its log density."""

NARROW = 5
"""Points of the integral over a cell that is no longer than a standard deviation."""

REACH = 5.5
"""Standard deviations around the largest term within which terms are summed."""


class PoissonGaussianNoise(PoissonNoise):
    """Photon noise and Gaussian read noise: the camera counts k ~ Poisson(r) electrons and reads k + read n.

    The rate r is linear in the clean measurement and y in what is read, as for `PoissonNoise`: a gain of
    (1 - black) / peak makes electrons values. Below the rate `dark` the log-likelihood goes on as a line where it
    falls, so that its gradient points back to the light.

    Args:
        peak: expected counts at the value 1 (white), positive.
        read: standard deviation of the read noise, in electrons, positive.
        black, dark: as for `PoissonNoise`.
    """

    def __init__(self, peak: float, read: float, black: float | None = None, dark: float = 0.01) -> None:
        super().__init__(peak, black, dark)
        if not 0 < read < math.inf:
            raise ValueError(f"read must be positive and finite, got {read}")
        self.read = float(read)

    def with_black(self, black: float) -> PoissonGaussianNoise:
        """Return the model with that black, unless it was told its own."""
        return self if self._stated else PoissonGaussianNoise(self.peak, self.read, black, self.dark)

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw counts, and read them."""
        read = self.read / self.gain * streams.normal(clean.shape[1:], clean.dtype)
        return super().sample(clean, streams) + read

    def std(self, clean: Tensor) -> Tensor:
        """Return the root of rate and variance of the read noise, on the scale of the measurement."""
        return (self._counts(clean).clamp_min(0) + self.read**2).sqrt() / self.gain

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return log p(y | clean)."""
        z = wide(self._counts(y))
        density = self._saddlepoint if self.read >= SMOOTH else self._sum
        log = self._continued(lambda r: density(r, z), wide(self._counts(clean)))
        return (log + math.log(self.gain)).to(clean)

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return -2 log p, less what it is where the rate is that of y."""
        lit = torch.maximum(y, torch.full_like(y, self.black + self.dark / self.gain))
        return 2 * (self.log_density(lit, y) - self.log_density(clean, y))

    misfit_grad = Noise.misfit_grad

    def curvature(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return that of Gaussian noise of the same variance, or the larger one that many counts in the dark have."""
        r, z = self._counts(clean).clamp_min(0), self._counts(y).clamp_min(0)
        variance = r + self.read**2
        return self.gain**2 * torch.maximum(1 / variance, (z + self.read**2) / variance.square())

    expected_misfit = Noise.expected_misfit

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean)."""
        low, high = (wide(self._counts(end)) for end in (lower, upper))

        def log(r: Tensor) -> Tensor:
            if self.read < 1:
                return self._cell(r, low, high)
            return self._integral(self.black + r / self.gain, wide(lower), wide(upper))

        return self._continued(log, wide(self._counts(clean))).to(clean)

    def _integral(self, a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the log-probability of a cell, by few points where it is narrow."""
        at, long = a.detach(), upper - lower > self.std(a.detach())
        begin, end = torch.where(long, at - 1, lower), torch.where(long, at + 1, upper)
        found = log_mean(lambda y: self.log_density(a, y), begin, end, NARROW) + (end - begin).log()
        if not bool(long.any()):
            return found
        others = Noise.log_probability(self, a[long], lower[long], upper[long])
        return torch.where(long, torch.zeros_like(found).masked_scatter(long, others), found)

    def _largest(self, r: Tensor, z: Tensor) -> Tensor:
        """Return k*, by Newton's method for w + log w = log r / s^2 + z / s^2."""
        variance = self.read**2
        level = (r / variance).log() + z / variance
        small = level.clamp(-600, 1).exp()
        w = torch.where(level > 1, level - level.clamp_min(1).log(), small / (1 + small))
        for _ in range(4):
            w = (w * (1 + level - w.log()) / (1 + w)).clamp_min(1e-30)
        return variance * w

    def _saddlepoint(self, r: Tensor, z: Tensor) -> Tensor:
        k, variance = self._largest(r, z), self.read**2
        t, second = (z - k) / variance, k + variance
        series = 1 + k / (8 * second.square()) - 5 * k.square() / (24 * second**3)
        return k - r + variance * t.square() / 2 - t * z - (2 * math.pi * second).log() / 2 + series.log()

    def _sum(self, r: Tensor, z: Tensor) -> Tensor:
        middle = self._largest(r.detach(), z).round()
        reach = math.ceil(REACH * self.read) + 1
        constant = math.log(self.read * math.sqrt(2 * math.pi))

        def term(k: Tensor) -> Tensor:
            return log_counts(k, r) - ((z - k) / self.read).square() / 2 - constant

        return _log_sum(term, middle, range(-reach, reach + 1))

    def _cell(self, r: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the log-probability of a cell, by the counts that may have made it."""
        near = torch.minimum(torch.maximum(r.detach(), low), high)
        spread = 6 * near.clamp_min(1).sqrt() + 6
        begin = torch.maximum(low - REACH * self.read, near - spread).floor().clamp_min(0)
        end = torch.minimum(high + REACH * self.read, near + spread).ceil()

        def term(k: Tensor) -> Tensor:
            cell = log_normal_cell((low - k) / self.read, (high - k) / self.read)
            return log_counts(k, r) + cell

        return _log_sum(term, begin, range(int((end - begin).max()) + 1))


def _log_sum(term: Callable[[Tensor], Tensor], start: Tensor, offsets: range) -> Tensor:
    """Return the log of the sum of exp(term(k)) over k = start + offset, those below 0 left out."""
    total = torch.full_like(start, -torch.inf)
    for offset in offsets:
        k = start + offset
        total = torch.logaddexp(total, torch.where(k >= 0, term(k.clamp_min(0)), LOST))
    return total


LOST = -1e30
"""The logarithm of what has no probability: finite, so that its derivative is 0."""
