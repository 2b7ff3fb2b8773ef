"""Down-sampling against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from daps_operators.down_sampling import KERNELS, DownSampling, resize_matrix
from tests.operators.inputs import NOISE, image


@pytest.mark.parametrize(("kernel", "method"), [("cubic", Image.Resampling.BICUBIC),
                                                ("linear", Image.Resampling.BILINEAR),
                                                ("lanczos3", Image.Resampling.LANCZOS)])  # fmt: skip
@pytest.mark.parametrize(("size", "factor"), [((64, 48), 4), ((60, 90), 3), ((64, 96), 3.2)])
def test_down_sampling_is_pillows_away_from_the_border(kernel, method, size, factor):
    """Pillow cuts the kernel off at the border instead of mirroring the image."""
    x = image(1, 1, *size).float()
    small = DownSampling((1, *size), NOISE, factor, kernel).forward(x)[0, 0]
    resized = np.asarray(Image.fromarray(x[0, 0].numpy()).resize(small.shape[::-1], method))
    np.testing.assert_allclose(small[3:-3, 3:-3], resized[3:-3, 3:-3], rtol=0, atol=2e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("antialiasing", [True, False])
@pytest.mark.parametrize(("n", "factor"), [(64, 4), (50, 4), (7, 3), (33, 2.5), (3, 8), (1, 2)])
def test_resize_weights(kernel, antialiasing, n, factor):
    matrix = resize_matrix(n, factor, kernel, antialiasing)
    assert matrix.shape == (-(-n // factor), n)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    if kernel != "box":  # the box is half open, so that a pixel on its edge is counted once
        np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)


def test_cubic_down_sampling_keeps_a_ramp():
    """Keys' kernel reproduces polynomials of degree 1 (and 2, without stretching)."""
    ramp = np.linspace(-1, 1, 64)
    small = resize_matrix(64, 4) @ ramp
    np.testing.assert_allclose(small[2:-2], ramp.reshape(16, 4).mean(1)[2:-2], atol=1e-12)


def matlab(n, factor, kernel, antialiasing):
    """Return the weights of imresize(x, 1 / factor) by MATLAB's rule, counting pixels from 1 as it does.

    The output pixel x lies at u = x / scale + (1 - 1 / scale) / 2 of the input, whose pixels are repeated in mirrored
    order, 1 2 ... n n ... 2 1; the kernel is stretched where the scale is below 1 and antialiasing asked for.
    """
    scale = 1 / factor
    function, width = KERNELS[kernel]
    stretch = min(scale, 1) if antialiasing else 1.0
    length = int(np.ceil(n * scale - 1e-9))
    matrix = np.zeros((length, n))
    for row in range(length):
        u = (row + 1) / scale + (1 - 1 / scale) / 2
        left = int(np.floor(u - width / stretch / 2))
        places = np.arange(left, left + int(np.ceil(width / stretch)) + 3)
        weights = function(stretch * (u - places))
        around = [*range(n), *range(n - 1, -1, -1)]
        for place, weight in zip(places, weights / weights.sum(), strict=True):
            matrix[row, around[(place - 1) % (2 * n)]] += weight
    return matrix


SIDES = [64, 63, 50, 7, 33, 8, 3, 1]
FACTORS = [2, 3, 4, 5, 2.5, 3.2]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("antialiasing", [True, False])
def test_every_size_is_matlabs_on_its_grid(kernel, antialiasing):
    for n in SIDES:
        for factor in FACTORS:
            expected = matlab(n, factor, kernel, antialiasing)
            found = resize_matrix(n, factor, kernel, antialiasing, "corner")
            np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{n} / {factor}")


def test_the_grids_are_one_where_the_factor_divides_the_side_and_differ_elsewhere():
    for n, factor in ((64, 4), (63, 3), (50, 2.5), (32, 3.2)):
        np.testing.assert_allclose(
            resize_matrix(n, factor, grid="corner"), resize_matrix(n, factor), atol=1e-12
        )
    assert abs(resize_matrix(50, 4, grid="corner") - resize_matrix(50, 4)).max() > 0.05


def test_matlabs_known_numbers():
    """imresize([0 0 0 1 0 0 0], 1/2, 'bilinear') weighs its peak by the triangle of width 4 around 1.5, 3.5, 5.5, 7.5."""
    peak = np.zeros(7)
    peak[3] = 1
    np.testing.assert_allclose(
        resize_matrix(7, 2, "linear", True, "corner") @ peak, [0, 0.375, 0.125, 0], atol=1e-12
    )


@pytest.mark.parametrize("phase", [-1.5, 0.0, 0.3, 2.0])
def test_a_phase_moves_the_coarse_grid(phase):
    """A ramp is seen at the coarse pixels' centres, to the right and below by the phase."""
    ramp = np.arange(64.0)
    matrix = resize_matrix(64, 4, phase=phase)
    np.testing.assert_allclose((matrix @ ramp)[3:-3], (4 * np.arange(16) + 1.5 + phase)[3:-3], atol=1e-9)
    x = image(1, 1, 64, 64)
    moved = DownSampling((1, 64, 64), NOISE, 4, phase=(0.0, phase)).forward(x)
    np.testing.assert_allclose(moved[0, 0], resize_matrix(64, 4) @ x[0, 0].numpy() @ matrix.T, atol=1e-12)
