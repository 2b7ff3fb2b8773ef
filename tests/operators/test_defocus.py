"""The kernel of a lens out of focus against counting, closed forms and known squares."""

from __future__ import annotations

import numpy as np
import pytest

from daps_kit.errors import UserError
from daps_operators import DefocusBlur
from daps_operators.defocus import disc
from tests.operators.inputs import build, image


@pytest.mark.parametrize("radius", [0.6, 1.0, 1.5, 2.37, 5.0, 9.9])
def test_pixels_are_shares_of_the_disc(radius):
    """Counted on a grid of 401 x 401 points in each pixel."""
    kernel = disc(radius)
    reach = len(kernel) // 2
    assert reach == int(np.ceil(radius - 0.5))
    fine = (np.arange(401) + 0.5) / 401 - 0.5
    for row, column in [(0, reach), (reach, reach), (reach - 1, 1), (0, 0), (reach, 0)]:
        y, x = row - reach + fine[:, None], column - reach + fine
        share = (x**2 + y**2 <= radius**2).mean() / (np.pi * radius**2)
        assert kernel[row, column] == pytest.approx(share, abs=2e-4 / radius**2)


@pytest.mark.parametrize("radius", [0.3, 1.0, 3.7, 12.0])
def test_sum_symmetry_and_spread(radius):
    """A pixel adds the variance of its own width, 1/12, to r^2 / 4 of a disc, where it is not all of it."""
    kernel = disc(radius)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.min() >= 0
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        np.testing.assert_allclose(kernel, other, atol=1e-15)
    x = np.arange(len(kernel)) - len(kernel) // 2
    spread = (kernel * x**2).sum()
    assert spread == pytest.approx(radius**2 / 4 + 1 / 12, abs=0.1) if radius > 0.5 else spread == 0


@pytest.mark.parametrize("radius", [1.287857571514303, 1.5147029405881178])
def test_a_radius_whose_square_is_rounded_in_two_ways(radius):
    """radius**2 is less than radius * radius there, with the usual C library."""
    np.testing.assert_allclose(disc(radius), disc(radius * (1 + 1e-12)), rtol=1e-9, atol=1e-12)


def test_it_is_continuous_in_the_radius():
    for radius in (0.5, 1.5, 2.0, 2.5):
        below, above = disc(radius - 1e-6), disc(radius + 1e-6)
        edge = (len(above) - len(below)) // 2
        np.testing.assert_allclose(np.pad(below, edge), above, atol=1e-5)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_discs_that_there_are_not(radius):
    with pytest.raises(UserError, match="positive and finite"):
        disc(radius)


def test_a_point_becomes_the_disc():
    x = image(1, 1, 15, 15) * 0
    x[..., 7, 7] = 1
    y = build(DefocusBlur(radius=2.3, kernel_size=9), (1, 15, 15)).forward(x)[0, 0].numpy()
    np.testing.assert_allclose(y[5:10, 5:10], disc(2.3), atol=1e-12)


def test_a_kernel_that_does_not_fit_is_told():
    with pytest.raises(UserError, match="the kernel has 9 x 9 pixels; kernel_size is 7"):
        build(DefocusBlur(radius=4.0, kernel_size=7))
    with pytest.raises(UserError, match="boundary 'valid' needs kernel_size"):
        build(DefocusBlur(radius=4.0, boundary="valid"))
    assert build(DefocusBlur(radius=4.0, boundary="valid", kernel_size=9)).forward(
        image(1, 3, 32, 48)
    ).shape == (1, 3, 24, 40)
