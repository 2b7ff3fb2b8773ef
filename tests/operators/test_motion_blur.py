"""Motion blur against scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
import torch.nn.functional as F

from daps_operators.motion_blur import MotionBlur, fast_length
from tests.operators.inputs import NOISE, image


@pytest.mark.parametrize("size", [(15, 15), (4, 7), (1, 1), (61, 31)])
@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 9, 14), (1, 1, 6)], ids=str)
def test_motion_blur_is_scipys_correlation(shape, size):
    kernel = np.random.default_rng(1).random(size)
    x = image(1, *shape)
    expected = np.stack([ndi.correlate(channel, kernel, mode="mirror") for channel in x[0].numpy()])
    blurred = MotionBlur(shape, NOISE, torch.from_numpy(kernel)[None, None]).forward(x)
    np.testing.assert_allclose(blurred[0], expected, rtol=0, atol=1e-11)


def test_motion_blur_is_torchs_convolution_layer_at_256_pixels():
    kernel = torch.from_numpy(np.random.default_rng(1).random((31, 31)))
    kernel = (kernel / kernel.sum())[None, None]
    x = image(1, 3, 256, 200).float()
    padded = F.pad(x, (15, 15, 15, 15), mode="reflect")
    expected = F.conv2d(padded.double(), kernel.expand(3, 1, -1, -1), groups=3)
    error = MotionBlur((3, 256, 200), NOISE, kernel).forward(x) - expected
    assert error.abs().max() < 1e-6


def test_transform_lengths_are_fast_and_long_enough():
    for n in range(1, 1500):
        length = fast_length(n)
        assert n <= length < 1.25 * n + 16
        for prime in (2, 3, 5):
            while length % prime == 0:
                length //= prime
        assert length == 1
