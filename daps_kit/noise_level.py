r"""How strong the noise of a picture is, from the picture alone.

White noise of standard deviation s has, in an orthonormal basis of wavelets and of colours, coefficients of that
deviation at every place, scale and colour. Of the finest diagonal ones d, of Daubechies' wavelet of two vanishing
moments,

    differences of colours, R - B and R - 2 G + B    s = median |d| / 0.6745,   0.6745 the median of |n|, n ~ N(0, 1),
    brightness, R + G + B                            s = the root of the mean of d^2 in a block of 8 x 8 than which one
                                                     in twenty has less, over what that is of noise alone.

Photographs have hardly any fine details of colour, so that the first is right within a few per cent; but most files
have no fine noise of colour either, since JPEG keeps colours at half the pixels. Brightness keeps its noise, and has
textures, of which some part of the picture is free, as a rule. So colours tell unless theirs is below `SMOOTHED` of
the brightness's. JPEG makes the finest noise of brightness, (0.3 R + 0.59 G + 0.11 B) sqrt(3), 1.16 s.

Coefficients that are 0 tell nothing (flat, saturated or transparent places), nor do those that touch a hidden pixel.

Sources: Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, section 4.2, for the median; Colom,
Lebrun, Buades and Morel, "A non-parametric approach for the estimation of intensity-frequency dependent noise", ICIP
2014, for the blocks of least energy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["noise_level"]

_ROOT = np.sqrt(3.0)
HIGH_PASS = np.array([1 - _ROOT, _ROOT - 3, 3 + _ROOT, -1 - _ROOT]) / np.sqrt(32.0)
"""The wavelet filter of Daubechies with two vanishing moments."""
MEDIAN = 0.6744897501960817
FEWEST = 32
"""Coefficients below which there is no estimate: from as many it errs by some 20 %."""
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])
"""Brightness and two differences of colours, orthonormal."""
BLOCK, SHARE = 8, 0.05
"""Coefficients along a side of a block, and the share of blocks that have less energy than the one that counts."""
ENERGY = 0.728
"""Of noise of variance 1: the fifth percentile of chi^2 of 64 degrees of freedom, over 64."""
BLOCKS = 16
"""Blocks below which the median of all coefficients serves."""
SMOOTHED = 1 / 3
"""Share of the noise of brightness below which that of colours has been smoothed."""

Plane = NDArray[np.float64]


def _details(image: NDArray[np.floating], taps: Plane) -> Plane:
    """Return the finest diagonal coefficients of [H, W] whose four by four pixels lie within the picture."""
    values = np.asarray(image, dtype=np.float64)
    for _ in range(2):
        n = (len(values) - len(taps)) // 2 + 1
        filtered = (
            sum(tap * values[k : k + 2 * n - 1 : 2] for k, tap in enumerate(taps)) if n > 0 else values[:0]
        )
        values = np.asarray(filtered).T
    return values


def _by_median(d: Plane, told: NDArray[np.bool_]) -> float | None:
    """Return the deviation of those coefficients that tell; None where they are too few."""
    return float(np.median(np.abs(d[told]))) / MEDIAN if np.count_nonzero(told) >= FEWEST else None


def _by_blocks(d: Plane, told: NDArray[np.bool_]) -> float | None:
    """Return the deviation in the blocks of least energy, of those of which at least half tells."""
    rows, columns = (side // BLOCK for side in d.shape)

    def blocks(values: Plane) -> Plane:
        parts: Plane = values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
        means: Plane = parts.mean((1, 3)).ravel()
        return means

    energy, share = blocks(np.where(told, d * d, 0)), blocks(told.astype(np.float64))
    there = share >= 0.5
    if np.count_nonzero(there) < BLOCKS:
        return _by_median(d, told)
    return float(np.sqrt(np.quantile(energy[there] / share[there], SHARE) / ENERGY))


def noise_level(image: NDArray[np.floating], hidden: NDArray[np.bool_] | None = None) -> float | None:
    """Return the standard deviation of the noise in an image, in its units.

    Args:
        image: [C, H, W]; three channels are red, green and blue, of another number the quadratic mean counts.
        hidden: [H, W], true where pixels do not count.

    Returns:
        None where fewer than `FEWEST` coefficients of a channel tell of the noise, as in a picture that is flat, very
        small, or hidden almost everywhere.
    """
    visible = np.True_ if hidden is None else _details(hidden.astype(np.float64), np.ones(4)) == 0

    def details(plane: NDArray[np.floating]) -> tuple[Plane, NDArray[np.bool_]]:
        d = _details(plane, HIGH_PASS)
        return d, visible & (np.abs(d) > 1e-9 * np.abs(image).max())

    if len(image) != len(COLOURS):
        return _quadratic_mean([_by_blocks(*details(channel)) for channel in image])
    brightness, *colours = map(details, np.tensordot(COLOURS, image, 1))
    level, of_colours = _by_blocks(*brightness), _quadratic_mean([_by_median(*each) for each in colours])
    return level if level is None or of_colours is None or of_colours < SMOOTHED * level else of_colours


def _quadratic_mean(levels: list[float | None]) -> float | None:
    """Return the quadratic mean; None where one is missing."""
    known = [level for level in levels if level is not None]
    return float(np.sqrt(np.mean(np.square(known)))) if len(known) == len(levels) else None
