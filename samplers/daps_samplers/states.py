"""Where annealing begins, and how it goes from one noise level to the next: x_t, and x0y given it.

FromNoise             x_t = x0y + noise, some of it that of the level before; x0y by the kernel
FromMeasurement       y is the first x_t, and knows all that y does
ThroughMeasurement    y is the x_t of a noise level of its own in each element (`bridge`)
WithNoise             the noise of x_t is that of y, in each pattern of the operator (`coupled`)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import sqrt

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, RandomStreams, Target

from .bridge import Bridge
from .coupled import Coupled

__all__ = ["FromMeasurement", "FromNoise", "States", "ThroughMeasurement", "WithNoise"]

AVERAGED = 1.0
"""Noise level from which on the mean of all x0y is taken. Each is a draw of p(x0 | y) where C is right, and above it is
least so."""

OPENING = 2 / 3
"""Where states lead through y, the share of the first noise level down to which the mean given x_t and y counts."""

FROM_Y = "the measurement is an image and noise: it is the first state, and the prior alone draws"


class States(ABC):
    """The states of a run."""

    @abstractmethod
    def first(self) -> Tensor:
        """Return the first x_t, [B, ...]."""

    @abstractmethod
    def draw(self, target: Target, x_t: Tensor, x0y: Tensor) -> tuple[Tensor, KernelInfo]:
        """Draw x0y ~ p(x0 | x_t, y).

        Args:
            target: of the level.
            x_t: its noisy state, [B, ...].
            x0y: where a kernel starts, [B, ...].
        """

    @abstractmethod
    def following(self, x_t: Tensor, x0y: Tensor, level: int) -> Tensor:
        """Draw the x_t that follows x0y and the x_t of a level."""

    @abstractmethod
    def said(self, level: int, target: Target, x_t: Tensor, x0hat: Tensor, x0y: Tensor) -> Tensor | None:
        """Return what a level says of the mean of x0 given y; None where it says nothing that counts."""


class FromNoise(States):
    """States that begin with noise.

    Args:
        kernel: draws x0y.
        like: x0 of a batch, [B, ...], for its shape and dtype.
        streams: of random numbers.
        sigmas: the noise levels.
        passing: how many starts pass each.
        correlations: of the noise of each level with that of the next.
    """

    def __init__(
        self,
        kernel: Kernel,
        like: Tensor,
        streams: RandomStreams,
        sigmas: list[float],
        passing: list[int],
        correlations: list[float],
    ) -> None:
        self.kernel, self.streams, self.sigmas = kernel, streams, sigmas
        self.passing, self.correlations = passing, correlations
        self._shape, self._dtype = like.shape[1:], like.dtype

    def noise(self, level: int) -> Tensor:
        """Draw sigma n, n ~ N(0, I), [B, ...]."""
        return self.sigmas[level] * self.streams.normal(self._shape, self._dtype)

    def step(self, level: int) -> tuple[float, float]:
        """Return the share of x_t and the standard deviation of the fresh noise in the x_t that follows a level."""
        c, following = self.correlations[level], self.sigmas[level + 1]
        return c * following / self.sigmas[level], following * sqrt(1 - c * c)

    def first(self) -> Tensor:
        """Return noise."""
        return self.noise(0)

    def draw(self, target: Target, x_t: Tensor, x0y: Tensor) -> tuple[Tensor, KernelInfo]:
        """Draw x0y by the kernel."""
        return self.kernel.run(target, x0y, self.streams)

    def following(self, x_t: Tensor, x0y: Tensor, level: int) -> Tensor:
        """Return x0y and noise."""
        fresh, c = self.noise(level + 1), self.correlations[level]
        if c == 0:
            return x0y + fresh
        kept = c * self.sigmas[level + 1] / self.sigmas[level]
        return torch.add(x0y, x_t - x0y, alpha=kept).add(fresh, alpha=sqrt(1 - c * c))

    def said(self, level: int, target: Target, x_t: Tensor, x0hat: Tensor, x0y: Tensor) -> Tensor | None:
        """Return x0y of low levels, and of the last."""
        alone = self.passing[level] == 1
        return x0y if _counts(self.sigmas, level, low=AVERAGED if alone else 0.0) else None


class FromMeasurement(States):
    """States that begin with y = x0 + sigma n, at its noise level.

    Args:
        y: the measurement, [B, ...].
        after: what goes on from it.
    """

    def __init__(self, y: Tensor, after: FromNoise) -> None:
        self._y, self._after = y, after

    def first(self) -> Tensor:
        """Return y."""
        return self._y

    def draw(self, target: Target, x_t: Tensor, x0y: Tensor) -> tuple[Tensor, KernelInfo]:
        """Draw x0y ~ N(centre, C), p(x0 | x_t), where x_t knows all that y does."""
        draw = target.covariance.sqrt(self._after.streams.normal(self._y.shape[1:], target.centre.dtype))
        return target.centre + draw, KernelInfo(notes=(FROM_Y,))

    def following(self, x_t: Tensor, x0y: Tensor, level: int) -> Tensor:
        """Return x0y and noise."""
        return self._after.following(x_t, x0y, level)

    def said(self, level: int, target: Target, x_t: Tensor, x0hat: Tensor, x0y: Tensor) -> Tensor | None:
        """Return E[x0 | y] of the first level."""
        return x0hat if level == 0 else None


class ThroughMeasurement(States):
    """States that lead through y.

    Args:
        bridge: draws them.
        streams: of random numbers.
        sigmas: the noise levels.
    """

    def __init__(self, bridge: Bridge, streams: RandomStreams, sigmas: list[float]) -> None:
        self._bridge, self._streams, self._sigmas = bridge, streams, sigmas

    def first(self) -> Tensor:
        """Return a state of noise about that of y."""
        return self._bridge.first(self._streams)

    def draw(self, target: Target, x_t: Tensor, x0y: Tensor) -> tuple[Tensor, KernelInfo]:
        """Draw x0y given x_t and what y says beyond it."""
        return self._bridge.draw(target, x_t, self._streams)

    def following(self, x_t: Tensor, x0y: Tensor, level: int) -> Tensor:
        """Return a state between x0y, y and x_t."""
        before, after = self._sigmas[level : level + 2]
        return self._bridge.following(x_t, x0y, before, after, self._streams)

    def said(self, level: int, target: Target, x_t: Tensor, x0hat: Tensor, x0y: Tensor) -> Tensor | None:
        """Return the means of the first levels."""
        early = self._sigmas[level] >= OPENING * self._sigmas[0]
        return self._bridge.mean(target, x_t) if early else None


class WithNoise(States):
    """States whose noise is the measurement's.

    Args:
        coupled: draws them.
        opening: what the prior of all images and y say of x0, at a high noise level.
        sigmas: the noise levels.
    """

    def __init__(self, coupled: Coupled, opening: Target, sigmas: list[float]) -> None:
        self._coupled, self._opening, self._sigmas = coupled, opening, sigmas

    def first(self) -> Tensor:
        """Return a state that knows y by the prior of all images."""
        return self._coupled.begin(self._opening, self._sigmas[0])

    def draw(self, target: Target, x_t: Tensor, x0y: Tensor) -> tuple[Tensor, KernelInfo]:
        """Draw x0y, and the noise of y with it."""
        return self._coupled.draw(target)

    def following(self, x_t: Tensor, x0y: Tensor, level: int) -> Tensor:
        """Return a state that has the noise of y, where it is more."""
        before, after = self._sigmas[level : level + 2]
        return self._coupled.following(x0y, before, after)

    def said(self, level: int, target: Target, x_t: Tensor, x0hat: Tensor, x0y: Tensor) -> Tensor | None:
        """Return x0y of low levels, and of the last."""
        return x0y if _counts(self._sigmas, level, low=AVERAGED) else None


def _counts(sigmas: list[float], level: int, *, low: float) -> bool:
    """Return whether x0y of a level has part in the mean: below a noise level, and that of the last."""
    return sigmas[level] <= low or level + 1 == len(sigmas)
