r"""Gaussian noise, y = a + s n with n ~ N(0, 1), of one standard deviation, of one a channel, or of a map of them.

With a map s_i, each element weighs by its precision: with the harmonic mean of the variances as dispersion,

    sigma^2 = 1 / mean(1 / s_i^2),    w_i = sigma^2 / s_i^2,    misfit = w_i (a - y)^2,

so that a map of one value is that value. One a channel is a map that has it everywhere in the channel.

No noise, sigma = 0, is drawn as such; as a likelihood it has sigma = sqrt(eps) a, where a measurement changes by a as
an image changes by 1 and eps = 2^-23 is the unit of single precision: the least whose square counts beside that of a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from daps_kit.errors import ComponentError
from daps_kit.linalg import per_sample
from daps_kit.random import RandomStreams

from .model import Noise, wide

__all__ = ["GaussianNoise", "SampleNoise"]


EPS = 2.0**-23
"""The unit of single precision."""

EXACT = EPS**0.5
"""The standard deviation of what is exact, in units of the scale of a measurement."""

LARGEST = 1e15
"""The largest standard deviation, whose square single precision holds."""


class GaussianNoise(Noise):
    """White Gaussian noise, y = a + sigma n with n ~ N(0, 1).

    Args:
        sigma: standard deviation, not negative, in the units of the measurement (images lie in [-1, 1]); a number, a
            list of one for each channel (the first axis of a measurement), or a map that broadcasts to measurements
            [B, ...], without the batch.
        scale: a, by which 0 is told.

    Attributes:
        sigma: one number; of a map that whose variance is the harmonic mean.
        channels: the variance of each channel, [c]; None where sigma is not a list.
    """

    gaussian = True

    def __init__(self, sigma: float | Tensor | list[float] | tuple[float, ...], scale: float = 1.0) -> None:
        self._given, least = sigma, EXACT * scale
        listed = isinstance(sigma, list | tuple)
        if isinstance(sigma, list | tuple):
            sigma = torch.tensor(sigma, dtype=torch.float64)
        if isinstance(sigma, Tensor):
            if not bool(((sigma >= 0) & (sigma <= LARGEST)).all()):
                raise ValueError(f"sigma must not be negative or above {LARGEST:g} anywhere in its map")
            self._drawn: float | Tensor = sigma
            self.exact = bool((sigma < EPS * scale).all())
            sigma = torch.where(sigma < EPS * scale, least, sigma)
            precision = sigma.double() ** -2
            self.dispersion = 1 / float(precision.mean())
            self.sigma = math.sqrt(self.dispersion)
            self._weight: float | Tensor = (self.dispersion * precision).float()
            self._map: Tensor | None = sigma
            self.channels: Tensor | None = sigma.square() if listed else None
        else:
            if not 0 <= sigma <= LARGEST:
                raise ValueError(f"sigma must not be negative or above {LARGEST:g}, got {sigma}")
            self.exact, self._drawn = sigma < EPS * scale, float(sigma)
            self.sigma = least if self.exact else float(sigma)
            self.dispersion = self.sigma**2
            self._weight = 1.0
            self._map = self.channels = None

    @classmethod
    def stack(cls, noises: Sequence[Noise]) -> Noise:
        """Return the noise of a batch whose sample b has that of `noises[b]`."""
        levels = [noise.sigma for noise in noises if isinstance(noise, GaussianNoise) and noise._map is None]
        return SampleNoise(levels) if len(levels) == len(noises) else super().stack(noises)

    @property
    def alike(self) -> bool:
        """Whether all elements of all measurements have one standard deviation."""
        return not isinstance(self._weight, Tensor)

    def with_scale(self, scale: float) -> GaussianNoise:
        """Return the noise of measurements with values of about that size."""
        return GaussianNoise(self._given, scale)

    def _like(self, value: float | Tensor, like: Tensor) -> float | Tensor:
        """Return a number, or a map where and in the precision in which a measurement is.

        Raises:
            ComponentError: the map or the list does not fit the measurement.
        """
        if not isinstance(value, Tensor):
            return value
        form = tuple(like.shape[1:])
        if self.channels is not None:
            if len(self.channels) != form[0]:
                raise ComponentError(
                    f"sigma is a list of {len(self.channels)}, and the number of channels of the measurement is "
                    f"{form[0]}; allowed: one number, or a list of one for each channel"
                )
            value = value.reshape(-1, *[1] * (len(form) - 1))
        try:
            return value.to(like).expand(form)
        except RuntimeError:
            raise ComponentError(
                f"the map of sigma has the shape {list(value.shape)}, which does not fit a measurement of {list(form)}"
            ) from None

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y = clean + sigma n."""
        return clean + self._like(self._drawn, clean) * streams.normal(clean.shape[1:], clean.dtype)

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


class SampleNoise(GaussianNoise):
    """Gaussian noise of one standard deviation for each sample, in units in which the dispersion is 1.

    Args:
        sigmas: positive, one for each sample.

    Attributes:
        each: the variances, [B].
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        super().__init__(1.0)
        self.each = torch.tensor(sigmas, dtype=torch.float64).square()
        self._weight, self._drawn = 1 / self.each, self.each.sqrt()

    def with_scale(self, scale: float) -> SampleNoise:
        """Return itself: no standard deviation is 0."""
        return self

    def _like(self, value: float | Tensor, like: Tensor) -> float | Tensor:
        return per_sample(value, like)

    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviations."""
        return torch.zeros_like(clean) + per_sample(self.each.sqrt(), clean)


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
