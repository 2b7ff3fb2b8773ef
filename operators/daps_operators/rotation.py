r"""A turn of the image about its middle, by any angle.

The pixel p of the measurement shows the place q = R(-a) p of the image, both from the middle, by Keys' cubic kernel h
along each axis,

    y(p) = sum_j h(q_1 - j_1) h(q_2 - j_2) x(j),

16 weights a pixel, and A^T adds them up where they came from. What comes in from beyond the border is said in
`borders`. A covariance that is diagonal in the cosine basis, and so about stationary, stays so, its spectrum turned.

Source: Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daps_kit.contracts import Covariance, LinearOperator, Noise, Shape
from daps_kit.covariance import CosineCovariance
from daps_kit.kept import kept
from daps_kit.linalg import Constant

from .borders import Boundary, shown_indices
from .down_sampling import cubic

__all__ = ["Rotation"]

Array = NDArray[np.float64]
REACH = 2
"""Pixels that the kernel reaches on each side."""


def turned_places(height: int, width: int, angle: float) -> tuple[Array, Array]:
    """Return the row and the column of the image that each pixel shows, [H, W] each, counted from 0."""
    down, across = np.mgrid[:height, :width].astype(np.float64)
    middle = ((height - 1) / 2, (width - 1) / 2)
    x, up = across - middle[1], middle[0] - down
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return middle[0] - (up * cos - x * sin), middle[1] + (x * cos + up * sin)


def rotation_taps(
    height: int, width: int, angle: float, boundary: Boundary = "reflect"
) -> tuple[NDArray[np.int64], Array]:
    """Return which pixels [16, H W] each one shows that is turned by an angle, in degrees, and their weights."""
    places = turned_places(height, width, angle)
    border = height + width  # no pixel shows what is farther away
    seen, weights = [], []
    for n, place in zip((height, width), places, strict=True):
        first = np.floor(place).astype(int) + np.arange(1 - REACH, REACH + 1)[:, None, None]
        seen.append(shown_indices(n, (border, border), boundary)[first + border])
        weights.append(cubic(place - first))
    rows, columns = seen[0][:, None], seen[1][None]
    taps = weights[0][:, None] * weights[1][None] * ((rows >= 0) & (columns >= 0))
    pixels = rows.clip(min=0) * width + columns.clip(min=0)
    return pixels.reshape(-1, height * width), taps.reshape(-1, height * width)


class Rotation(LinearOperator):
    """A turn, y of the size of x.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        angle: in degrees, counter-clockwise.
        boundary: what comes in; `valid` is none.
    """

    def __init__(self, shape: Shape, noise: Noise, angle: float, boundary: Boundary = "reflect") -> None:
        super().__init__(shape, noise)
        self.angle = angle
        pixels, taps = rotation_taps(*shape[1:], angle, boundary)
        self._pixels, self._taps = torch.from_numpy(pixels), Constant(torch.from_numpy(taps))

    def _each(self, like: Tensor) -> zip[tuple[Tensor, Tensor]]:
        """Return the pixels and the weights of each tap."""
        return zip(self._pixels.to(like.device), self._taps.like(like), strict=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the turned images, [B, C, H, W]."""
        flat = x.flatten(2)
        found = torch.zeros_like(flat)
        for pixels, taps in self._each(x):
            found = found + taps * flat.index_select(2, pixels)
        return found.reshape(x.shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, [B, C, H, W]."""
        flat = y.flatten(2)
        found = torch.zeros_like(flat)
        for pixels, taps in self._each(y):
            found = found.index_add(2, pixels, taps * flat)
        return found.reshape(y.shape)

    @kept
    def _turned(self) -> tuple[Constant, ...]:
        """Where a frequency of the measurement is one of the image, as indices of the cosine basis: rows, columns."""
        height, width = self.shape[1:]
        down, across = np.mgrid[:height, :width].astype(np.float64)
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        found = []
        for sign in (1, -1):  # a cosine is two waves
            up = sign * down / height
            rows, columns = (up * cos - across / width * sin), (across / width * cos + up * sin)
            found += [np.abs(rows) * height, np.abs(columns) * width]
        return tuple(Constant(torch.from_numpy(each)) for each in found)

    def spectrum(self, covariance: Covariance) -> Tensor | None:
        """Return P, turned: about what is left, as long as P hardly changes from one frequency to the next."""
        if not isinstance(covariance, CosineCovariance):
            return None
        power = covariance.power
        rows, columns, other_rows, other_columns = (each.like(power) for each in self._turned)
        log = power.log()
        return (_between(log, rows, columns).exp() + _between(log, other_rows, other_columns).exp()) / 2


def _between(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return values [C, H, W] between their places, bilinear, beyond the last the last, [C, H, W]."""
    height, width = values.shape[1:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.floor().long(), columns.floor().long()
    low, right = (top + 1).clamp_max(height - 1), (left + 1).clamp_max(width - 1)
    down, across = rows - top, columns - left
    above = values[:, top, left] * (1 - across) + values[:, top, right] * across
    below = values[:, low, left] * (1 - across) + values[:, low, right] * across
    return above * (1 - down) + below * down
