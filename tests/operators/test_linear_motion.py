"""The kernel of a motion against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from daps_kit.errors import UserError
from daps_operators.linear_motion import linear_motion


@pytest.mark.parametrize("length", [1, 5, 21])
def test_along_an_axis_a_motion_of_odd_length_is_equal_taps(length):
    taps = np.full((1, length), 1 / length)
    np.testing.assert_allclose(linear_motion(length, 0), taps, atol=1e-12)
    np.testing.assert_allclose(linear_motion(length, 90), taps.T, atol=1e-12)


def test_the_outermost_taps_are_fractions_for_other_lengths():
    np.testing.assert_allclose(linear_motion(4.5, 0) * 4.5, [[0.75, 1, 1, 1, 0.75]], atol=1e-12)


@pytest.mark.parametrize("length", [3, 9.5, 21])
@pytest.mark.parametrize("angle", [0, 12, 30, 45, 77, 90, 135, -20])
def test_moments(length, angle):
    """Mean 0; and along the motion the variance of a line, across it less than that of a tent two pixels wide."""
    kernel = linear_motion(length, angle)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    assert all(side % 2 for side in kernel.shape)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    y, x = (np.arange(n) - n // 2 for n in kernel.shape)
    up, across = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    along = x * across - y[:, None] * up
    beside = x * up + y[:, None] * across
    assert (kernel * along**2).sum() == pytest.approx(length**2 / 12, abs=0.1 * length)
    assert (kernel * beside**2).sum() <= 0.2
    assert (kernel * along * beside).sum() == pytest.approx(0, abs=0.1)


def test_symmetries():
    np.testing.assert_allclose(linear_motion(15, 30), linear_motion(15, 210), atol=1e-12)
    np.testing.assert_allclose(linear_motion(15, 30), linear_motion(15, -30)[::-1], atol=1e-12)
    np.testing.assert_allclose(linear_motion(15, 30), linear_motion(15, 60).T, atol=1e-12)
    assert linear_motion(15, 30)[0].argmax() > linear_motion(15, 30)[-1].argmax()  # it rises to the right


@pytest.mark.parametrize(
    ("length", "angle"), [(0.5, 0), (float("nan"), 0), (float("inf"), 0), (5, float("inf"))]
)
def test_motions_that_there_are_not(length, angle):
    with pytest.raises(UserError, match="at least 1 pixel"):
        linear_motion(length, angle)
