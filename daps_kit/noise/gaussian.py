r"""Gaussian noise, y = a + s n with n ~ N(0, 1), of one standard deviation or of a map of them.

With a map s_i, each element weighs by its precision: with the harmonic mean of the variances as dispersion,

    sigma^2 = 1 / mean(1 / s_i^2),    w_i = sigma^2 / s_i^2,    misfit = w_i (a - y)^2,

so that a map of one value is that value.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_kit.errors import ComponentError
from daps_kit.random import RandomStreams

from .model import Noise, wide

__all__ = ["GaussianNoise"]


class GaussianNoise(Noise):
    """White Gaussian noise, y = a + sigma n with n ~ N(0, 1).

    Args:
        sigma: standard deviation, positive, in the units of the measurement (images lie in [-1, 1]); a number, or a map
            that broadcasts to measurements [B, ...], without the batch.

    Attributes:
        sigma: one number; of a map that whose variance is the harmonic mean.
    """

    gaussian = True

    def __init__(self, sigma: float | Tensor) -> None:
        if isinstance(sigma, Tensor):
            if not bool(((sigma > 0) & (sigma < math.inf)).all()):
                raise ValueError("sigma must be positive and finite throughout its map")
            precision = sigma.double() ** -2
            self.dispersion = 1 / float(precision.mean())
            self.sigma = math.sqrt(self.dispersion)
            self._weight: float | Tensor = (self.dispersion * precision).float()
            self._map: Tensor | None = sigma
        else:
            if not 0 < sigma < math.inf:
                raise ValueError(f"sigma must be positive and finite, got {sigma}")
            self.sigma = float(sigma)
            self.dispersion = self.sigma**2
            self._weight = 1.0
            self._map = None

    def _like(self, value: float | Tensor, like: Tensor) -> float | Tensor:
        """Return a number, or a map where and in the precision in which a measurement is.

        Raises:
            ComponentError: the map does not fit the measurement.
        """
        if not isinstance(value, Tensor):
            return value
        form = tuple(like.shape[1:])
        try:
            return value.to(like).expand(form)
        except RuntimeError:
            raise ComponentError(
                f"the map of sigma has the shape {list(value.shape)}, which does not fit a measurement of {list(form)}"
            ) from None

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y = clean + sigma n."""
        sigma = self._like(self.sigma if self._map is None else self._map, clean)
        return clean + sigma * streams.normal(clean.shape[1:], clean.dtype)

    def std(self, clean: Tensor) -> Tensor:
        """Return sigma."""
        return torch.zeros_like(clean) + self._like(self.sigma if self._map is None else self._map, clean)

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return w (clean - y)^2."""
        return self._like(self._weight, clean) * (clean - y).square()

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 2 w (clean - y)."""
        return 2 * self._like(self._weight, clean) * (clean - y)

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean)."""
        a, sigma = wide(clean), wide(self.std(clean))
        return log_normal_cell((wide(lower) - a) / sigma, (wide(upper) - a) / sigma).to(clean)

    def curvature(self, clean: Tensor, y: Tensor) -> float | Tensor:
        """Return w."""
        return self._like(self._weight, clean)

    def expected_misfit(self, clean: Tensor) -> Tensor:
        """Return sigma^2."""
        return torch.full_like(clean, self.dispersion)

    def level(self, y: Tensor) -> float:
        """Return sigma."""
        return self.sigma

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log of the normal density."""
        constant = (2 * math.pi * self.std(clean).square()).log() / 2
        return -self.misfit(clean, y) / (2 * self.dispersion) - constant


def log_normal_cell(low: Tensor, high: Tensor) -> Tensor:
    """Return log P(low < n <= high) of a standard normal n, elementwise, accurately in both tails; differentiable."""
    low, high = low.clamp(-FAR, FAR), high.clamp(-FAR, FAR)
    right = low + high > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    top: Tensor = torch.special.log_ndtr(high)
    least = -torch.finfo(low.dtype).tiny
    share = torch.expm1((torch.special.log_ndtr(low) - top).clamp_max(least))
    return top + (-share).log()


FAR = 1e6
"""Stands for infinity, in standard deviations."""
