r"""Noise models: how a measurement y scatters around the clean measurement a = A(x).

Each model gives its exact log-likelihood, elementwise, and the misfit that samplers descend:

    log p(y | a) = -misfit(a, y) / (2 dispersion) + constant(y),   summed over the elements of y.

    Gaussian   misfit (a - y)^2,             dispersion sigma^2
    Poisson    misfit = the deviance
               2 (n log(n / r) - n + r),     dispersion 1,  counts n and rate r linear in y and a
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

__all__ = ["GaussianNoise", "Noise", "PoissonNoise"]


class Noise(ABC):
    """A noise model: independent scatter of each element of y around the clean measurement."""

    dispersion: float
    """Relates misfit and log-likelihood: log p(y | a) = -misfit / (2 dispersion) + constant."""

    @abstractmethod
    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y given the clean measurement [B, ...]; sample b uses stream b alone."""

    @abstractmethod
    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the elementwise misfit, non-negative and zero where y is the most likely measurement, [B, ...]."""

    @abstractmethod
    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the derivative of the misfit by the clean measurement, elementwise, [B, ...]."""

    @abstractmethod
    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the exact log p(y | clean), elementwise, with its constants, [B, ...]."""


class GaussianNoise(Noise):
    """White Gaussian noise, y = a + sigma n with n ~ N(0, 1).

    Args:
        sigma: standard deviation, positive, in the units of the measurement (images lie in [-1, 1]).
    """

    def __init__(self, sigma: float) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {sigma}")
        self.sigma = float(sigma)
        self.dispersion = self.sigma**2

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y = clean + sigma n."""
        return clean + self.sigma * streams.normal(clean.shape[1:], clean.dtype)

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return (clean - y)^2."""
        return (clean - y).square()

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 2 (clean - y)."""
        return 2 * (clean - y)

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log of the normal density."""
        constant = math.log(2 * math.pi * self.dispersion) / 2
        return -self.misfit(clean, y) / (2 * self.dispersion) - constant


class PoissonNoise(Noise):
    r"""Photon noise: counts n ~ Poisson(r) at the rate r(a) = peak (a - black) / (1 - black), given as
    y = black + (1 - black) n / peak, so that y lies around a. Values below black are as dark as black.

    Where no light is expected (r <= 0), n > 0 counts have probability 0. So that the log-likelihood stays finite
    and its gradient points back to the light, it is continued below the rate `dark` by its tangent there, which
    keeps it concave and its gradient continuous. With n = 0 it is exact everywhere.

    Args:
        peak: expected counts at the value 1 (white), positive.
        black: value that means no light: -1 for images, 0 for magnitudes.
        dark: rate in counts below which the tangent is used.

    Raises:
        ValueError: a parameter is out of its range.
    """

    dispersion = 1.0

    def __init__(self, peak: float, black: float = -1.0, dark: float = 0.01) -> None:
        if not 0 < peak < math.inf:
            raise ValueError(f"peak must be positive and finite, got {peak}")
        if not black < 1:
            raise ValueError(f"black must be below 1, got {black}")
        if not dark > 0:
            raise ValueError(f"dark must be positive, got {dark}")
        self.peak, self.black, self.dark = float(peak), float(black), float(dark)
        self._gain = self.peak / (1 - self.black)

    def _counts(self, value: Tensor) -> Tensor:
        return self._gain * (value - self.black)

    def _slope(self, n: Tensor) -> Tensor:
        """Return the slope of the deviance by the rate below min(n, dark), where the exact law ends."""
        return (2 - n * (2 / self.dark)).clamp_max(0)

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw counts at the rates of the clean measurement, on the scale of images."""
        return self.black + streams.poisson(self._counts(clean).clamp_min(0)) / self._gain

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
        return self._gain * by_rate

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log-probability of the counts, n log r - r - log n!."""
        n = self._counts(y).clamp_min(0)
        return torch.xlogy(n, n) - n - torch.lgamma(n + 1) - self.misfit(clean, y) / 2
