r"""A shift by parts of a pixel: y(i, j) = x~(i - d_y, j - d_x), x~ the image between its pixels.

Between pixels is the sinc windowed by its own main lobe stretched to |t| < 3 (Lanczos' kernel h), of sum 1:

    y(i) = sum_j h(i - d - j) x(j) / sum_j h(i - d - j),

along each axis; a whole d moves pixels. What comes in from beyond the border is said in `borders`.

Source: Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorology 18 (1979).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from daps_kit.contracts import Noise, Shape
from daps_kit.separable import SeparableOperator

from .borders import Boundary, shown_indices
from .down_sampling import lanczos3

__all__ = ["Shift", "shift_matrix"]

REACH = 3
"""Pixels that the kernel reaches on each side."""


def shift_matrix(n: int, distance: float, boundary: Boundary = "reflect") -> NDArray[np.float64]:
    """Return the matrix [n, n] that moves n pixels by a distance, in pixels, towards the end of the axis."""
    whole = math.floor(distance)
    offsets = (
        np.arange(-REACH, REACH + 1) - whole - 1
    )  # of the pixels that are seen, from the one that is made
    taps = lanczos3((offsets + distance).astype(np.float64))
    taps /= taps.sum()
    border = (max(0, -int(offsets[0])), max(0, int(offsets[-1])))
    shown = shown_indices(n, border, boundary)
    matrix = np.zeros((n, n))
    for offset, tap in zip(offsets, taps, strict=True):
        pixels = shown[border[0] + offset : border[0] + offset + n]
        inside = pixels >= 0
        np.add.at(matrix, (np.flatnonzero(inside), pixels[inside]), tap)
    return matrix


class Shift(SeparableOperator):
    """A shift of the image, y of the size of x.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        x: to the right, in pixels.
        y: downwards, in pixels.
        boundary: what comes in; `valid` is none.
    """

    def __init__(
        self, shape: Shape, noise: Noise, x: float, y: float, boundary: Boundary = "reflect"
    ) -> None:
        vertical, horizontal = (shift_matrix(n, d, boundary) for n, d in zip(shape[1:], (y, x), strict=True))
        super().__init__(shape, noise, vertical, horizontal)
