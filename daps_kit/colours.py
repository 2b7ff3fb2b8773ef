r"""The colour map of maps: standard deviations, widths of intervals, errors.

It runs through CIELAB with lightness L rising linearly from 4 to 96, so that equal steps look equal, also in grey
print; its hue turns from blue over red to yellow.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["colour_map"]


@lru_cache
def colour_map() -> npt.NDArray[np.uint8]:
    """Return the 256 colours of the map, [256, 3]."""
    t = np.linspace(0, 1, 256)
    lightness = 4 + 92 * t
    chroma = 62 * np.sin(np.pi * t) ** 0.8 + 14 * t
    hue = np.radians(285 + 170 * t)
    fy = (lightness + 16) / 116
    f = np.stack([fy + chroma * np.cos(hue) / 500, fy, fy - chroma * np.sin(hue) / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array([[0.9505], [1.0], [1.089]])
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    linear = (to_rgb @ xyz).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: npt.NDArray[np.uint8] = np.round(255 * srgb.T).astype(np.uint8)
    return colours
