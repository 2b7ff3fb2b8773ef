"""The colour map, taken back to CIELAB."""

from __future__ import annotations

import numpy as np

from daps_kit.colours import colour_map


def test_the_map_rises_in_lightness():
    colours = colour_map().astype(float)
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.3).all()
    assert luminance[0] < 15
    assert luminance[-1] > 230
    # Equal steps of the value are equal steps of lightness: L* of grey with the colour's own linear luminance.
    linear = np.where(
        colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4
    )
    y = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)
    assert np.abs(np.diff(lightness) - 92 / 255).max() < 1.0
    assert np.abs(lightness - np.linspace(4, 96, 256)).max() < 5
    # Back to CIELAB (white point D65, IEC 61966-2-1), where no channel is at its end.
    t = np.linspace(0, 1, 256)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ratio = linear @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    a, b = 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])
    inside = ((colours > 0) & (colours < 255)).all(1)
    assert inside.sum() > 150
    chroma = 62 * np.sin(np.pi * t) ** 0.8 + 14 * t
    assert np.abs(np.hypot(a, b) - chroma)[inside].max() < 2
    turn = np.degrees(np.arctan2(b, a)) - (285 + 170 * t)
    assert np.abs((turn + 180) % 360 - 180)[inside & (chroma > 10)].max() < 3
