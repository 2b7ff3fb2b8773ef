"""Shifts against whole pixels, waves that are known between pixels, and scipy's borders."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch

from daps_operators import Shift
from daps_operators.shift import shift_matrix
from tests.operators.inputs import build, image

SHAPE = (2, 17, 23)


@pytest.mark.parametrize(
    ("boundary", "mode"), [("reflect", "mirror"), ("periodic", "wrap"), ("zero", "constant")]
)
@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, -2), (-20, 30)])
def test_whole_pixels_are_moved(boundary, mode, x, y):
    """scipy moves by spline interpolation of order 0."""
    given = image(1, *SHAPE)
    found = build(Shift(x=float(x), y=float(y), boundary=boundary), SHAPE).forward(given)
    mode = {"wrap": "grid-wrap", "constant": "grid-constant"}.get(mode, mode)
    expected = ndi.shift(given.numpy(), (0, 0, y, x), order=0, mode=mode)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("distance", [0.25, -0.5, 1.7, -4.9])
def test_a_wave_is_moved_by_parts_of_a_pixel(distance):
    n = 64
    for frequency in (1, 5, 9):
        wave = np.cos(2 * np.pi * frequency * np.arange(n) / n)
        moved = np.cos(2 * np.pi * frequency * (np.arange(n) - distance) / n)
        np.testing.assert_allclose(shift_matrix(n, distance, "periodic") @ wave, moved, atol=0.015)


def test_it_is_continuous_and_goes_to_the_right_and_down():
    for distance in (-1.0, 0.0, 2.0):
        near = shift_matrix(20, distance + 1e-7) - shift_matrix(20, distance)
        assert np.abs(near).max() < 1e-5
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    point[..., 4, 4] = 1
    row, column = divmod(int(build(Shift(x=2.0, y=1.0), (1, 9, 9)).forward(point).argmax()), 9)
    assert (row, column) == (5, 6)
