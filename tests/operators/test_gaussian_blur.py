"""Gaussian blur against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi

from daps_operators.gaussian_blur import GaussianBlur
from tests.operators.inputs import NOISE, image


@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 5, 60), (1, 3, 3)], ids=str)
def test_gaussian_blur_is_scipys_with_mirrored_borders(shape):
    """scipy's 'mirror' is our reflection, repeated where the kernel is larger than the image."""
    x = image(1, *shape)
    expected = ndi.gaussian_filter(x.numpy(), 3.0, axes=(2, 3), mode="mirror", truncate=4)
    blurred = GaussianBlur(shape, NOISE, 61, 3.0).forward(x)
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-12)
