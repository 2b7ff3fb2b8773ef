r"""The perturbed likelihoods of randomise-then-optimise: misfits whose minimiser, with the prior's, is a sample.

Gaussian noise: the measurement is drawn anew, y' = y + sqrt(v) eps, and

    f(a) = |a - y'|^2 / (2 v),                     f'' = 1 / v.

With a linear operator and a Gaussian prior drawn anew in the same way, the minimiser is an exact draw.

Poisson noise: the log-likelihood of the rate r (counts) is n log r - r. Drawing the counts anew would move a dark
rate by the bias of its noise; the exposure e is drawn instead,

    f(a) = e r - n log r,    e = (k - 1) / g,    g ~ Gamma(k, 1),    k = 1 + r*^2 / n,

with r* the rate at the mode of the target (n, r divided by v where the likelihood is tempered). E[e] = 1, so the
gradient f' = e - n / r is right on average wherever the prior puts r; Var[e] = n / r*^2, as the curvature at the mode
asks; and where the prior says nothing, r* = n and the minimiser r = n / e = g is an exact draw from Gamma(n + 1), the
posterior of the rate. For n = 0 there is no curvature and e = 1. Below the rate at which the noise model continues its
own likelihood by a tangent, f is continued likewise.

Source: Bardsley, Solonen, Haario and Laine, "Randomize-then-optimize", SIAM J. Sci. Comput. 2014, for the Gaussian; the
draw of exposures is this package's own (compare the weighted-likelihood bootstrap, Newton and Raftery, 1994).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import sqrt

import torch
from torch import Tensor

from daps_kit.contracts import GaussianNoise, PoissonNoise, RandomStreams, Target
from daps_kit.errors import ComponentError

__all__ = ["Perturbed", "unperturbed"]


class Perturbed(ABC):
    """A perturbed negative log-likelihood of a clean measurement a."""

    needs_mode = False
    """Whether how it is perturbed depends on where the mode of the target is."""

    @abstractmethod
    def perturbed(self, mode: Tensor, streams: RandomStreams) -> Perturbed:
        """Draw a perturbed one, for the clean measurement at the mode [B, ...]."""

    @abstractmethod
    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""

    @abstractmethod
    def gradient(self, a: Tensor) -> Tensor:
        """Return its derivative by a, [B, ...]."""

    @abstractmethod
    def curvature(self, a: Tensor) -> float | Tensor:
        """Return its second derivative by a, or a bound on it; positive, a number or [B, ...]."""


class PerturbedGaussian(Perturbed):
    """|a - y'|^2 / (2 v)."""

    def __init__(self, y: Tensor, variance: float) -> None:
        self.y, self.variance = y, variance

    def perturbed(self, mode: Tensor, streams: RandomStreams) -> PerturbedGaussian:
        """Draw y' = y + sqrt(v) eps."""
        noise = streams.normal(self.y.shape[1:], self.y.dtype)
        return PerturbedGaussian(self.y + sqrt(self.variance) * noise, self.variance)

    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""
        return (a - self.y).square().flatten(1).sum(1) / (2 * self.variance)

    def gradient(self, a: Tensor) -> Tensor:
        """Return (a - y') / v."""
        return (a - self.y) / self.variance

    def curvature(self, a: Tensor) -> float:
        """Return 1 / v."""
        return 1 / self.variance


class PerturbedPoisson(Perturbed):
    """(e r - n log r) / v as a function of a, with r = gain (a - black).

    Args:
        counts: n, [B, ...].
        exposure: e, [B, ...].
        gain, black: counts a unit of a has, and the a of no light.
        dark: rate below which the function goes on as its tangent.
        observed: 1 where there is a measurement, broadcast to it; None where there is everywhere.
        variance: v.
    """

    needs_mode = True

    def __init__(
        self,
        counts: Tensor,
        exposure: Tensor,
        gain: float,
        black: float,
        dark: float,
        observed: Tensor | None,
        variance: float,
    ) -> None:
        self.n, self.e = counts, exposure
        self.gain, self.black, self.dark = gain, black, dark
        self.observed, self.variance = observed, variance
        self.weight: float | Tensor = 1 / variance if observed is None else observed.to(counts) / variance

    def perturbed(self, mode: Tensor, streams: RandomStreams) -> PerturbedPoisson:
        """Draw exposures."""
        rate = (self.gain * (mode - self.black)).clamp_min(self.dark)
        lit = self.n > 0
        excess = rate.square() / torch.where(lit, self.n, 1) / self.variance
        exposure = torch.where(lit, excess / _gamma(1 + excess, streams), 1)
        return PerturbedPoisson(
            self.n, exposure, self.gain, self.black, self.dark, self.observed, self.variance
        )

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
        return (self.weight * f).flatten(1).sum(1)

    def gradient(self, a: Tensor) -> Tensor:
        """Return gain (e - n / r) / v."""
        rate, inside = self._rate(a)
        slope = self._slope(inside)
        slope = torch.where(rate < inside, slope.clamp_max(0), slope)
        return self.weight * self.gain * slope

    def curvature(self, a: Tensor) -> Tensor:
        """Return gain^2 max(e / max(r, 1), n / r^2) / v."""
        rate, _ = self._rate(a)
        bound = torch.maximum(self.e / rate.clamp_min(1), self.n / rate.clamp_min(self.dark).square())
        return self.weight * self.gain**2 * bound


def unperturbed(target: Target) -> Perturbed:
    """Return the negative log-likelihood itself, up to a constant.

    Raises:
        daps_kit.errors.ComponentError: the noise model is neither Gaussian nor Poisson.
    """
    noise, y, v = target.operator.noise, target.y, target.likelihood_variance
    if isinstance(noise, GaussianNoise):
        return PerturbedGaussian(y, v)
    if isinstance(noise, PoissonNoise):
        gain = noise.peak / (1 - noise.black)
        n = (gain * (y - noise.black)).clamp_min(0)
        return PerturbedPoisson(
            n, torch.ones_like(n), gain, noise.black, noise.dark, target.operator.observed, v
        )
    raise ComponentError(
        f"kernel 'rto' knows Gaussian and Poisson noise, not {type(noise).__name__}; use kernel 'hmc' or 'mala'"
    )


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
