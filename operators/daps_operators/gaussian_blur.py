r"""Blur by a Gaussian, with reflected borders:

    y(i, j) = sum_{a, b} g(a) g(b) x(i + a, j + b),
    g(a) proportional to exp(-a^2 / (2 s^2)) for |a| <= 4 s, of sum 1.

The kernel is a product, so the blur is one banded matrix along the columns and one along the rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from daps_kit.contracts import Noise, Shape
from daps_kit.separable import SeparableOperator

from .reflection import reflected_indices

__all__ = ["GaussianBlur", "gaussian_taps"]


def gaussian_taps(size: int, std: float) -> NDArray[np.float64]:
    """Return the `size` taps of g, which sum to 1.

    They are what `scipy.ndimage.gaussian_filter1d` makes of a single pixel in the middle of `size` pixels:
    where `size` is below 8 std + 1, what would lie beyond an end is reflected into the taps.
    """
    pixel = np.zeros(size)
    pixel[size // 2] = 1
    taps: NDArray[np.float64] = gaussian_filter1d(pixel, std)
    return taps


def blur_matrix(taps: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the matrix [n, n] that correlates n pixels with reflected borders with an odd number of taps."""
    radius = len(taps) // 2
    shown = reflected_indices(n, (radius, radius))
    matrix = np.zeros((n, n))
    for offset, tap in enumerate(taps):
        if tap:
            matrix[np.arange(n), shown[offset : offset + n]] += tap
    return matrix


class GaussianBlur(SeparableOperator):
    """Gaussian blur with reflected borders, y of the size of x.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        kernel_size: pixels along a side of the kernel, odd.
        intensity: standard deviation of the Gaussian, in pixels.
    """

    def __init__(self, shape: Shape, noise: Noise, kernel_size: int, intensity: float) -> None:
        taps = gaussian_taps(kernel_size, intensity)
        super().__init__(shape, noise, blur_matrix(taps, shape[1]), blur_matrix(taps, shape[2]))
