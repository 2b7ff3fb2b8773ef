r"""Photon noise, and its perturbed likelihood.

Counts n ~ Poisson(r), the rate r linear in the clean measurement. The misfit is the deviance 2 (n log(n / r) - n + r).

The perturbed likelihood: drawing the counts anew would move a dark rate by the bias of its noise; the exposure e is
drawn instead,

    f(a) = e r - n log r,    e = (k - 1) / g,    g ~ Gamma(k, 1),    k = 1 + r*^2 / n,

with r* the rate at the mode of the target (n, r divided by v where the likelihood is tempered). E[e] = 1, so that the
gradient f' = e - n / r is right on average wherever the prior puts r. Where the prior says nothing, r* = n and the
minimiser r = n / e = g is an exact draw from Gamma(n + 1), the posterior of the rate. For n = 0 there is no curvature
and e = 1.

Source: the draw of exposures is this package's own; compare the weighted-likelihood bootstrap, Newton and Raftery 1994.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

from .model import Noise, Perturbed

__all__ = ["PoissonNoise"]


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
        excess = (inside - n) / n.clamp_min(torch.finfo(n.dtype).tiny)
        exact: Tensor = 2 * (inside - n - torch.special.xlog1py(n, excess))
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

    def perturbed(
        self, clean: Tensor, y: Tensor, variance: float, streams: RandomStreams
    ) -> PerturbedPoisson:
        """Draw exposures."""
        n, r = self._counts(y).clamp_min(0), self._counts(clean).clamp_min(self.dark)
        lit = n > 0
        excess = r.square() / torch.where(lit, n, 1) / variance
        exposure = torch.where(lit, excess / _gamma(1 + excess, streams), 1)
        return PerturbedPoisson(self, n, exposure, variance)

    def unperturbed(self, y: Tensor, variance: float) -> PerturbedPoisson:
        """Return the negative log-likelihood, whose exposures are 1."""
        n = self._counts(y).clamp_min(0)
        return PerturbedPoisson(self, n, torch.ones_like(n), variance)

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log-probability of the counts, n log r - r - log n!."""
        n = self._counts(y).clamp_min(0)
        return torch.xlogy(n, n) - n - torch.lgamma(n + 1) - self.misfit(clean, y) / 2


class PerturbedPoisson(Perturbed):
    """(e r - n log r) / v as a function of a, with r = gain (a - black).

    Below the rate at which the noise model goes on by a tangent, so does it.

    Args:
        noise: the noise model.
        counts: n, [B, ...].
        exposure: e, [B, ...].
        variance: v.
    """

    def __init__(self, noise: PoissonNoise, counts: Tensor, exposure: Tensor, variance: float) -> None:
        self.n, self.e, self.variance = counts, exposure, variance
        self.gain, self.black, self.dark = noise.gain, noise.black, noise.dark

    def _rate(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rate, and the rate kept above where the noise model's tangent begins."""
        rate = self.gain * (a - self.black)
        return rate, torch.maximum(rate, self.n.clamp_max(self.dark))

    def _slope(self, inside: Tensor) -> Tensor:
        """Return df / dr."""
        return self.e - self.n / inside.clamp_min(torch.finfo(inside.dtype).tiny)

    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""
        rate, inside = self._rate(a)
        f = self.e * inside - torch.xlogy(self.n, inside)
        f = f + self._slope(inside).clamp_max(0) * (rate - inside)
        return f.flatten(1).sum(1) / self.variance

    def gradient(self, a: Tensor) -> Tensor:
        """Return gain (e - n / r) / v."""
        rate, inside = self._rate(a)
        slope = self._slope(inside)
        return self.gain / self.variance * torch.where(rate < inside, slope.clamp_max(0), slope)

    def curvature(self, a: Tensor) -> Tensor:
        """Return gain^2 max(e / max(r, 1), n / r^2) / v."""
        rate, _ = self._rate(a)
        bound = torch.maximum(self.e / rate.clamp_min(1), self.n / rate.clamp_min(self.dark).square())
        return self.gain**2 / self.variance * bound


def _gamma(shape: Tensor, streams: RandomStreams) -> Tensor:
    """Draw from Gamma(shape, 1), shape >= 1 [B, ...], by the method of Marsaglia and Tsang (2000).

    A proposal d (1 + c n)^3 with d = shape - 1/3 and c = 1 / (3 sqrt d) is taken with a probability of at least 0.95;
    after 8 tries those left (one in 10^11) take the median.
    """
    d = shape - 1 / 3
    c = 1 / (3 * d.sqrt())
    result, done = d, torch.zeros_like(d, dtype=torch.bool)
    for _ in range(8):
        n, u = streams.normal(d.shape[1:], d.dtype), streams.uniform(d.shape[1:], d.dtype)
        t = (1 + c * n) ** 3
        taken = (t > 0) & (u.log() < n.square() / 2 + d * (1 - t + t.clamp_min(1e-30).log())) & ~done
        result, done = torch.where(taken, d * t, result), done | taken
    return result
