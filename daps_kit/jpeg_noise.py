r"""How strong the noise was of a picture that was then saved as JPEG, from the numbers that the file keeps.

White noise of standard deviation s in red, green and blue has in the coefficients of a plane the variance s^2 m, m the
squared length of its row of K over the pixels that share a number. The file says in which step q each coefficient is,

    P(k) = P(|z - k q| < q / 2),    z ~ N(0, s^2 m + r + t w),

r of rounding pixels to whole levels, t w of the picture. Of the picture of a block it is taken as known beforehand that
w falls with frequency (u, v) by a power of u^2 + v^2 from 0 to 3, and that t may be anything from under a level to more
than any noise, or 0: what the block is like is summed over, so that smooth blocks tell of the noise, whether they are
in the brightness or in the colours, and blocks of texture tell little, though even one that is as flat as noise is not
taken for it where others have less. The share of blocks where t is 0, one for each plane, and the s of all blocks are
where the likelihood is largest.

Where s is below a third of all steps nothing is left of the noise, and little tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from .jpeg import BLOCK, LEVELS, TRANSFORM, Planes

__all__ = ["jpeg_noise_level"]

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Of 1 / (u^2 + v^2), which w may be."""

SPREADS = 0.5 * 1.7 ** np.arange(10)
"""What t^{1/2} may be, root mean square over a block, in levels."""

SMOOTH = np.array([0.05, 0.2, 0.5])
"""Shares of the blocks of a plane that may have no picture."""

RANGE = (1e-3, 1.0)
"""Noise that is looked for, in [-1, 1]."""

POINTS, FINER = 16, 3
"""Of a grid of the logarithm, and how often it is laid more finely between two neighbours of the largest."""

MOST = 600
"""Blocks of a plane that are looked at, evenly over the picture."""

FEWEST = 6
"""Blocks of brightness below which there is no estimate."""

SATURATED, QUARTER, MOST_SATURATED = 0.02, 0.25, 0.2
"""Share of pixels at black or white, where noise is cut off, up to which a block counts; or as many as up to which a
quarter of all blocks has them, but at most so many."""

EDGE = 0.6
"""Levels from black or white within which a pixel is cut off."""

LEAST = 1e-9
"""Least probability: what is as unlikely for all s tells nothing."""

WHOLE = 1 / 12
"""Variance of rounding to whole numbers."""

Plane = NDArray[np.float64]


@dataclass(frozen=True)
class _Blocks:
    """What tells of a plane.

    Attributes:
        counts: |k| of each block, [B, 63].
        steps: q, [63], in levels.
        share: m, in levels per [-1, 1], squared.
        rounded: r.
    """

    counts: NDArray[np.int64]
    steps: Plane
    share: float
    rounded: float

    def log_likelihood(self, sigma: float, pictures: Plane) -> float:
        """Return the log likelihood, a constant left out.

        Args:
            sigma: s.
            pictures: t w of each kind of block but the smooth ones, [G, 63].
        """
        added = np.concatenate([np.zeros((1, len(self.steps))), pictures])
        found = np.zeros((len(self.counts), len(added)))
        for place, step in enumerate(self.steps):
            kinds, which = np.unique(self.counts[:, place], return_inverse=True)
            deviation = np.sqrt(sigma**2 * self.share + self.rounded + added[:, place])
            low, high = ((kinds[:, None] + side) * step / deviation for side in (-0.5, 0.5))
            # By the lower tail, in which differences are exact.
            inside = ndtr(-low) - ndtr(-high)
            found += np.log(np.maximum(inside, LEAST))[which.ravel()]
        smooth, others = (
            found[:, :1],
            np.logaddexp.reduce(found[:, 1:], axis=1)[:, None] - np.log(len(pictures)),
        )
        each = np.logaddexp(np.log(SMOOTH) + smooth, np.log(1 - SMOOTH) + others)
        return float(each.sum(0).max())


def jpeg_noise_level(planes: Planes) -> float | None:
    """Return the standard deviation of the noise, in [-1, 1]; None where fewer than `FEWEST` blocks tell."""
    parts = [_blocks(planes, plane) for plane in range(len(planes.values))]
    if len(parts[0].counts) < FEWEST:
        return None
    pictures = _pictures()
    low, high = np.log(RANGE)
    found = high
    for _ in range(FINER):
        grid = np.linspace(low, high, POINTS)
        logs = [sum(part.log_likelihood(np.exp(at), pictures) for part in parts) for at in grid]
        best = int(np.argmax(logs))
        found, low, high = grid[best], grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
    return float(np.exp(found))


def _pictures() -> Plane:
    """Return t w of the kinds of blocks, [G, 63]."""
    squares = np.add.outer(np.arange(BLOCK) ** 2, np.arange(BLOCK) ** 2).ravel()[1:]
    falls = [squares**-power for power in POWERS]
    return np.array([spread**2 * fall / fall.mean() for fall in falls for spread in SPREADS])


def _blocks(planes: Planes, plane: int) -> _Blocks:
    coding, values = planes.coding, planes.values[plane]
    down, across = coding.shared(plane)
    rows, columns = (side // BLOCK for side in values.shape)
    parts = _tiles(values, rows, columns, (BLOCK, BLOCK))
    coefficients = TRANSFORM @ parts @ TRANSFORM.T
    steps = coding.steps[plane]
    counts = np.rint(np.abs(coefficients) / steps).astype(np.int64).reshape(-1, BLOCK * BLOCK)[:, 1:]
    cut = (np.abs(planes.picture()).max(0) > 1 - EDGE / LEVELS).astype(np.float64)
    saturated = _tiles(cut, rows, columns, (BLOCK * down, BLOCK * across)).mean((1, 2))
    if len(counts):
        limit = max(SATURATED, min(float(np.quantile(saturated, QUARTER)), MOST_SATURATED))
        counts = counts[saturated <= limit]
    if len(counts) > MOST:
        counts = counts[np.linspace(0, len(counts) - 1, MOST).astype(int)]
    share = LEVELS**2 * float(np.square(coding.colours[plane]).sum()) / (down * across)
    # Red, green and blue are rounded, and so are the planes, and the means of colours once more.
    rounded = WHOLE * (1 + (down * across > 1))
    return _Blocks(counts, steps.ravel()[1:], share, rounded)


def _tiles(plane: Plane, rows: int, columns: int, size: tuple[int, int]) -> Plane:
    """Return the tiles of a plane, [rows columns, h, w]; what is beyond its edges is zero."""
    whole = np.zeros((rows * size[0], columns * size[1]))
    there = plane[: len(whole), : whole.shape[1]]
    whole[: there.shape[0], : there.shape[1]] = there
    tiles: Plane = whole.reshape(rows, size[0], columns, size[1]).swapaxes(1, 2).reshape(-1, *size)
    return tiles
