r"""The kernel of a lens out of focus: a disc.

A point out of focus is seen as the opening of the lens, a disc of radius r, evenly bright. A pixel p of the kernel is
the share of the disc that lies in its square,

    k(p) = |disc of radius r  and  the square of side 1 around p| / (pi r^2),    of sum 1,

so that the rim fades with r and there is a kernel for every r > 0. With the area A(a, b) of what of the disc has
0 <= x <= a and 0 <= y <= b, that of a square is a sum of four. For a, b <= r, and x_b = sqrt(r^2 - b^2) where the line
y = b leaves the disc,

    A(a, b) = a b                             where a <= x_b,
              x_b b + H(a) - H(x_b)           else,    H(x) = (x sqrt(r^2 - x^2) + r^2 arcsin(x / r)) / 2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from daps_kit.errors import UserError

__all__ = ["disc"]

Array = NDArray[np.float64]


def disc(radius: float) -> Array:
    """Return the kernel [n, n] of a disc around its middle, n odd.

    Args:
        radius: in pixels, positive; up to 0.5 the disc lies in one pixel.

    Raises:
        UserError: the radius is not positive or not finite.
    """
    if not 0 < radius < math.inf:
        raise UserError(f"a disc of radius {radius:g}; allowed: positive and finite")
    reach = math.ceil(radius - 0.5)
    edges = np.arange(-reach - 0.5, reach + 1)
    corners = (
        _within(np.abs(edges)[:, None], np.abs(edges), radius) * np.sign(edges)[:, None] * np.sign(edges)
    )
    squares = np.diff(np.diff(corners, axis=0), axis=1).clip(min=0)  # rounding leaves less
    kernel: Array = squares / squares.sum()
    return kernel


def _within(a: Array, b: Array, r: float) -> Array:
    """Return A(a, b), for a, b >= 0."""
    a, b = np.minimum(a, r), np.minimum(b, r)
    square = r * r  # r**2 may be another number, smaller than the square that numpy makes of r
    leaves = np.sqrt(square - b * b)

    def under(x: Array) -> Array:
        return (x * np.sqrt(square - x * x) + square * np.arcsin(x / r)) / 2

    beyond = np.maximum(a, leaves)
    area: Array = np.minimum(a, leaves) * b + under(beyond) - under(leaves)
    return area
