r"""Blur by a Gaussian:

    y(i, j) = sum_{a, b} g(a) g(b) x(i + a, j + b),
    g(a) proportional to exp(-a^2 / (2 s^2)) for |a| <= 4 s, of sum 1.

The kernel is its own mirror image, so convolution and correlation are one. It is a product, so the blur is one banded
matrix along the columns and one along the rows. What lies beyond the border is said in `borders`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from daps_kit.contracts import Noise, Shape, Transfer
from daps_kit.errors import UserError
from daps_kit.kept import kept
from daps_kit.modes import Modes
from daps_kit.separable import SeparableOperator

from .borders import Boundary, shown_indices
from .motion_blur import MotionBlur

__all__ = ["GaussianBlur", "gaussian_taps"]

SMALL = 256
"""Side of the largest image whose singular vectors are taken for its modes."""


def gaussian_taps(size: int, std: float) -> NDArray[np.float64]:
    """Return the `size` taps of g, which sum to 1.

    They are what `scipy.ndimage.gaussian_filter1d` makes of a single pixel in the middle of `size` pixels:
    where `size` is below 8 std + 1, what would lie beyond an end is reflected into the taps.
    """
    pixel = np.zeros(size)
    pixel[size // 2] = 1
    taps: NDArray[np.float64] = gaussian_filter1d(pixel, std)
    return taps


def blur_matrix(taps: NDArray[np.float64], n: int, boundary: Boundary = "reflect") -> NDArray[np.float64]:
    """Return the matrix [m, n] that correlates n pixels with an odd number of taps; m is n, or less where `valid`.

    Raises:
        UserError: nothing is valid, for the taps are more than the pixels.
    """
    radius = len(taps) // 2
    shown = shown_indices(n, (radius, radius), boundary)
    matrix = np.zeros((n, n))
    for offset, tap in enumerate(taps):
        pixels = shown[offset : offset + n]
        inside = pixels >= 0
        if tap:
            matrix[np.flatnonzero(inside), pixels[inside]] += tap
    if boundary != "valid":
        return matrix
    if len(taps) > n:
        raise UserError(
            f"a blur of {len(taps)} pixels leaves nothing valid of {n}; take a smaller kernel_size"
        )
    return matrix[radius : n - radius]


class GaussianBlur(SeparableOperator):
    """Gaussian blur, y of the size of x, or less by kernel_size - 1 where the boundary is `valid`.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        kernel_size: pixels along a side of the kernel, odd.
        intensity: standard deviation of the Gaussian, in pixels.
        boundary: what lies beyond the border.

    Raises:
        UserError: the boundary is `valid`, and the kernel larger than the image.
    """

    def __init__(
        self,
        shape: Shape,
        noise: Noise,
        kernel_size: int,
        intensity: float,
        boundary: Boundary = "reflect",
    ) -> None:
        taps = gaussian_taps(kernel_size, intensity)
        super().__init__(shape, noise, *(blur_matrix(taps, n, boundary) for n in shape[1:]))
        self._taps, self._boundary = taps, boundary

    def transfer(self) -> Transfer | None:
        """Return |K|^2."""
        return self._as_convolution.transfer()

    def modes(self, like: Tensor) -> Modes | None:
        """Return the singular vectors, or the waves where they are faster: of large images, and by a `transfer`."""
        small = max(self.shape[1:]) <= SMALL and self.transfer() is None
        return super().modes(like) if small else self._as_convolution.modes(like)

    @kept
    def _as_convolution(self) -> MotionBlur:
        kernel = torch.from_numpy(np.outer(self._taps, self._taps))[None, None]
        return MotionBlur(self.shape, self.noise, kernel, self._boundary)
