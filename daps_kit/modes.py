r"""Patterns that a linear operator measures each by itself, whatever it takes to lie beyond the border.

    A x = L g F E x

E shows the image on a domain that may be larger, F are orthonormal coordinates of the domain, g multiplies each of
them, and L makes the measurement of the products, with L L^T = I. So noise w in the domain, independent in each pattern
and of variance v = sigma^2 / |g|^2, is measured as white noise: L g F w ~ N(0, sigma^2 I).

    along the axes    the singular value decomposition: the domain is the image, F its right and L its left vectors
    convolutions      the domain is a torus that holds the image and its border, F the Fourier transform, and L the part
                      of the torus that is measured
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["HIDDEN", "Modes"]

HIDDEN = 1e-6
"""The least gain, in units of the largest: what is hidden is taken to be measured so little."""


class Modes(ABC):
    """The patterns of an operator; F may be complex, of real images.

    Attributes:
        shape: of the domain, (C, H', W').
        gain: g, broadcasting to coordinates [B, C, ...], nowhere zero: where the operator hides a pattern, g is small.
        count: how often |c|^2 of each coordinate counts in |w|^2, like the gain: twice, where one stands for two.
    """

    shape: tuple[int, ...]
    gain: Tensor
    count: Tensor

    @property
    def waves(self) -> bool:
        """Whether F is a real Fourier transform."""
        return self.gain.is_complex()

    @abstractmethod
    def coordinates(self, w: Tensor) -> Tensor:
        """Return F w of the domain, [B, C, ...]."""

    @abstractmethod
    def domain(self, c: Tensor) -> Tensor:
        """Return F^T c, [B, C, H', W']."""

    @abstractmethod
    def measured(self, c: Tensor) -> Tensor:
        """Return L c, like a measurement."""

    @abstractmethod
    def measured_transposed(self, y: Tensor) -> Tensor:
        """Return L^T y, coordinates."""

    def placed(self, x: Tensor) -> Tensor:
        """Return the image in its place of the domain, and 0 elsewhere, [B, C, H', W']."""
        return x

    def taken(self, w: Tensor) -> Tensor:
        """Return the part of the domain where the image is, [B, C, H, W]."""
        return w

    def seen(self, x: Tensor, share: Tensor) -> Tensor:
        """Return F E x - share F x, the second of the image in its place alone.

        Args:
            x: images, [B, C, H, W].
            share: real, like the gain.
        """
        return (1 - share) * self.coordinates(x)

    def seen_transposed(self, c: Tensor, share: Tensor) -> Tensor:
        """Return the transpose of `seen`, [B, C, H, W]."""
        return self.domain((1 - share) * c)
