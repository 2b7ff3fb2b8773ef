r"""Photon noise.

Counts n ~ Poisson(r), the rate r linear in the clean measurement. The misfit is the deviance 2 (n log(n / r) - n + r).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

from .model import Noise

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

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log-probability of the counts, n log r - r - log n!."""
        n = self._counts(y).clamp_min(0)
        return torch.xlogy(n, n) - n - torch.lgamma(n + 1) - self.misfit(clean, y) / 2
