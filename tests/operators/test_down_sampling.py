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
