r"""How strong the noise of a picture is, from the picture alone.

White noise of standard deviation s has, in an orthonormal wavelet basis, coefficients of that deviation at every place
and scale; a picture has few that are large. So at the finest diagonal scale, of Daubechies' wavelet of two vanishing
moments, with coefficients d,

    s = median |d| / 0.6745,    0.6745 the median of |n| for n ~ N(0, 1),

which the few do not move. Coefficients that are 0 tell nothing (flat, saturated or transparent places), nor do those
that touch a hidden pixel. What is no white noise is not seen: the grain that JPEG has smoothed, for one.

Source: Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, section 4.2.
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


def _details(image: NDArray[np.floating], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the finest diagonal coefficients of [H, W] whose four by four pixels lie within the picture."""
    values = np.asarray(image, dtype=np.float64)
    for _ in range(2):
        n = (len(values) - len(taps)) // 2 + 1
        filtered = (
            sum(tap * values[k : k + 2 * n - 1 : 2] for k, tap in enumerate(taps)) if n > 0 else values[:0]
        )
        values = np.asarray(filtered).T
    return values


def noise_level(image: NDArray[np.floating], hidden: NDArray[np.bool_] | None = None) -> float | None:
    """Return the standard deviation of the noise in an image, in its units; the quadratic mean over the channels.

    Args:
        image: [C, H, W].
        hidden: [H, W], true where pixels do not count.

    Returns:
        None where fewer than `FEWEST` coefficients of a channel tell of the noise, as in a picture that is flat, very
        small, or hidden almost everywhere.
    """
    levels = []
    for channel in image:
        d = _details(channel, HIGH_PASS)
        told = np.abs(d) > 1e-9 * np.abs(channel).max()
        if hidden is not None:
            told &= _details(hidden.astype(np.float64), np.ones(4)) == 0
        if np.count_nonzero(told) < FEWEST:
            return None
        levels.append(float(np.median(np.abs(d[told]))) / MEDIAN)
    return float(np.sqrt(np.mean(np.square(levels))))
