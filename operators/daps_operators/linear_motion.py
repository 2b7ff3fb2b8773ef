r"""The kernel of a blur by motion along a line, from its length and direction.

Motion at constant speed smears a point over a line of L pixels. With d(p) the distance of the pixel p from the
segment of length L - 1 around the middle,

    k(p) proportional to max(0, 1 - d(p)),    of sum 1,

so that the line is one pixel wide and its edges fade over one pixel; along an axis the kernel is L equal taps for odd
L, and the outermost taps are fractions for others.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from daps_kit.errors import UserError

__all__ = ["linear_motion"]


def linear_motion(length: float, angle: float) -> NDArray[np.float64]:
    """Return the kernel [h, w] of a motion along a line, symmetric about its middle, h and w odd.

    Args:
        length: of the line, in pixels, at least 1.
        angle: against the horizontal, in degrees, counter-clockwise: 90 is upright, 30 rises to the right.

    Raises:
        UserError: the length is below 1 or not finite.
    """
    if not (1 <= length < math.inf and math.isfinite(angle)):
        raise UserError(
            f"a motion of {length:g} pixels at {angle:g} degrees; allowed: finite, at least 1 pixel"
        )
    half = (length - 1) / 2
    across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows, columns = (math.ceil(half * abs(part) + 1 - 1e-9) for part in (up, across))
    y, x = np.mgrid[rows : -rows - 1 : -1, -columns : columns + 1].astype(np.float64)
    along = (x * across + y * up).clip(-half, half)
    distance = np.hypot(x - along * across, y - along * up)
    taps = np.maximum(0, 1 - distance)
    taps[taps < 1e-9] = 0
    used = [np.flatnonzero(taps.any(axis)) for axis in (1, 0)]
    taps = taps[used[0][0] : used[0][-1] + 1, used[1][0] : used[1][-1] + 1]
    kernel: NDArray[np.float64] = taps / taps.sum()
    return kernel
