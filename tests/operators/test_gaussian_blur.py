"""Gaussian blur against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch

from daps_kit.errors import UserError
from daps_operators.down_sampling import DownSampling
from daps_operators.gaussian_blur import GaussianBlur
from tests.operators.inputs import NOISE, image


@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 5, 60), (1, 3, 3)], ids=str)
def test_gaussian_blur_is_scipys_with_mirrored_borders(shape):
    """scipy's 'mirror' is our reflection, repeated where the kernel is larger than the image."""
    x = image(1, *shape)
    expected = ndi.gaussian_filter(x.numpy(), 3.0, axes=(2, 3), mode="mirror", truncate=4)
    blurred = GaussianBlur(shape, NOISE, 61, 3.0).forward(x)
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("boundary", "mode"), [("periodic", "wrap"), ("zero", "constant")])
@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 31, 60)], ids=str)
def test_other_borders_are_scipys(shape, boundary, mode):
    x = image(1, *shape)
    expected = ndi.gaussian_filter(x.numpy(), 3.0, axes=(2, 3), mode=mode, truncate=4)
    blurred = GaussianBlur(shape, NOISE, 25, 3.0, boundary).forward(x)
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-12)


def test_only_what_is_valid():
    x = image(1, 2, 30, 27)
    whole = GaussianBlur((2, 30, 27), NOISE, 9, 1.0).forward(x)
    valid = GaussianBlur((2, 30, 27), NOISE, 9, 1.0, "valid").forward(x)
    np.testing.assert_allclose(valid, whole[..., 4:-4, 4:-4], rtol=0, atol=1e-12)
    with pytest.raises(UserError, match="a blur of 61 pixels leaves nothing valid of 30"):
        GaussianBlur((2, 30, 27), NOISE, 61, 1.0, "valid")


@pytest.mark.parametrize("boundary", ["reflect", "periodic", "zero", "valid"])
def test_large_images_are_seen_by_waves(monkeypatch, boundary):
    """They make the same measurements as the singular vectors of small ones, mirrored or left out at the border."""
    operator = GaussianBlur((2, 18, 15), NOISE, 7, 1.2, boundary)
    x = image(2, 2, 18, 15)
    small = operator.modes(x)
    monkeypatch.setattr("daps_operators.gaussian_blur.SMALL", 8)
    large = operator.modes(x)
    assert (small.waves, large.waves) == (boundary in ("periodic", "zero"), True)
    none = torch.zeros((), dtype=torch.float64)
    for modes in (small, large):
        seen = modes.measured(modes.gain * modes.seen(x, none))
        torch.testing.assert_close(seen, operator.forward(x), rtol=0, atol=1e-5)


def test_singular_vectors_of_very_large_images_are_left_out(monkeypatch):
    operator = DownSampling((1, 8, 8), NOISE, 2)
    assert operator.modes(torch.zeros(1, 1, 8, 8)) is not None
    monkeypatch.setattr("daps_kit.separable.LARGEST", 7)
    assert operator.modes(torch.zeros(1, 1, 8, 8)) is None
