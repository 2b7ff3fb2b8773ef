r"""What a recorder makes of noisy values: it saturates and it rounds. What it gives stands for all that gives it.

A converter of n bits has 2^n levels from low to high, in steps q = (high - low) / (2^n - 1). With the noise model's
p(z | a), for a level y between the ends, and for the ends,

    P(y | a) = P(y - q/2 < z <= y + q/2 | a),  P(low | a) = P(z <= low + q/2 | a),  P(high | a) = P(z > high - q/2 | a).

Without rounding, values between the ends keep their density, and the ends have P(z <= low | a) and P(z > high | a).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

from .model import Noise

__all__ = ["RecordedNoise"]

MAX_BITS = 16

TIE = 1e-3
"""Share of a step by which a value is in the middle of two levels in spite of rounding."""

ROUNDING = 1e-5
"""Share of the range, or of a step, within which a value counts as at an end."""


class RecordedNoise(Noise):
    """Noisy values that are rounded, saturated or both.

    Args:
        noise: the scatter before.
        bits: of the converter that rounds, 1 to 16; None where nothing is rounded.
        clipped: low and high, where values saturate; None: black, as the operator has it (else -1), and white, 1.
    """

    def __init__(
        self, noise: Noise, *, bits: int | None = None, clipped: tuple[float, float] | None = None
    ) -> None:
        if bits is not None and not 1 <= bits <= MAX_BITS:
            raise ValueError(f"bits must lie between 1 and {MAX_BITS}, got {bits}")
        low, high = clipped or (-1.0, 1.0)
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"clipped must be low < high, got {low} and {high}")
        self.noise, self.bits, self.clipped = noise, bits, clipped
        self.low, self.high = float(low), float(high)
        self.step = None if bits is None else (self.high - self.low) / (2**bits - 1)
        self.dispersion, self.exact = noise.dispersion, noise.exact and bits is None

    def with_black(self, black: float) -> RecordedNoise:
        """Return the same of the model with that black, from which the range begins unless it was stated."""
        return RecordedNoise(
            self.noise.with_black(black), bits=self.bits, clipped=self.clipped or (black, 1.0)
        )

    def with_scale(self, scale: float) -> RecordedNoise:
        """Return the same of the model for values of that size."""
        return RecordedNoise(self.noise.with_scale(scale), bits=self.bits, clipped=self.clipped)

    def _recorded(self, z: Tensor) -> Tensor:
        z = z.clamp(self.low, self.high)
        if self.step is None:
            return z
        # What lies between two levels becomes the lower one: cells hold their upper end.
        level: Tensor = ((z - self.low) / self.step - 0.5 - TIE).ceil().clamp_min(0)
        recorded: Tensor = self.low + self.step * level
        return recorded

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw noisy values and record them."""
        return self._recorded(self.noise.sample(clean, streams))

    def _cell(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ends of each value's cell, and where that is one (elsewhere the cell of a saturated value)."""
        value = self._recorded(y)
        half = (self.step or 0.0) / 2
        edge = ROUNDING * (self.step or self.high - self.low)
        dark, white = value <= self.low + edge, value >= self.high - edge
        lower = torch.where(dark, -torch.inf, value - half)
        upper = torch.where(white, torch.inf, value + half)
        if self.step is not None:
            return lower, upper, torch.ones_like(dark)
        within = ~(dark | white)
        return torch.where(within, -torch.inf, lower), torch.where(within, self.low, upper), ~within

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log-probability of each value's cell; the log density of values that are not rounded."""
        lower, upper, celled = self._cell(y)
        found = self.noise.log_probability(clean, lower, upper)
        return (
            found if self.step is not None else torch.where(celled, found, self.noise.log_density(clean, y))
        )

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean) of recorded values: that of the noisy values that become them."""
        return self.noise.log_probability(clean, self._edge(lower), self._edge(upper))

    def _edge(self, y: Tensor) -> Tensor:
        """Return the largest noisy value that is recorded as y or less."""
        step = self.step
        inside = y if step is None else self.low + step * (((y - self.low) / step + TIE).floor() + 0.5)
        ends = torch.where(y >= self.high, torch.inf, torch.where(y < self.low, -torch.inf, inside))
        return ends.to(y)

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 2 dispersion (log P - log P(clean)), P the best for y: 1 at the ends, elsewhere that of clean = y."""
        lower, upper, celled = self._cell(y)
        short = -self.noise.log_probability(clean, lower, upper)
        if self.step is None:
            return torch.where(celled, 2 * self.dispersion * short, self.noise.misfit(clean, y))
        best = self.noise.log_probability(self._recorded(y), lower, upper)
        return 2 * self.dispersion * (short + torch.where(torch.isinf(lower) | torch.isinf(upper), 0.0, best))

    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviation of what is recorded, away from the ends."""
        return (self.noise.std(clean).square() + (self.step or 0.0) ** 2 / 12).sqrt()
