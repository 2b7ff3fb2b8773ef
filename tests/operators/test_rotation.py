"""Turns against numpy's quarter turns, scipy, and the exact transpose."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch

from daps_kit.covariance import CosineCovariance
from daps_operators import Rotation
from tests.operators.inputs import build, image


@pytest.mark.parametrize("quarters", [0, 1, 2, -1])
def test_quarter_turns_are_numpys(quarters):
    x = image(1, 2, 15, 15)
    found = build(Rotation(angle=90.0 * quarters), (2, 15, 15)).forward(x)
    np.testing.assert_allclose(found, np.rot90(x.numpy(), quarters, (2, 3)), atol=1e-10)


@pytest.mark.parametrize("angle", [12.0, -33.3, 170.0])
@pytest.mark.parametrize("size", [(40, 40), (31, 46)])
def test_smooth_images_turn_as_in_scipy(angle, size):
    """scipy takes cubic splines, which differ from Keys' kernel by little where an image is smooth."""
    x = ndi.gaussian_filter(np.random.default_rng(0).normal(size=size), 2.5)
    found = build(Rotation(angle=angle), (1, *size)).forward(torch.from_numpy(x)[None, None])[0, 0]
    expected = ndi.rotate(x, angle, reshape=False, order=3, mode="mirror")
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(x).max())


@pytest.mark.parametrize("boundary", ["reflect", "periodic", "zero"])
def test_the_adjoint_is_the_transpose(boundary):
    operator = build(Rotation(angle=25.0, boundary=boundary), (1, 9, 7))
    eye = torch.eye(63, dtype=torch.float64).reshape(63, 1, 9, 7)
    matrix = operator.forward(eye).flatten(1).T
    torch.testing.assert_close(operator.adjoint(eye).flatten(1).T, matrix.T, atol=1e-12, rtol=0)


def test_the_spectrum_is_about_that_of_the_turned_image():
    size, angle = 24, 30.0
    down, across = torch.arange(size)[:, None], torch.arange(size)
    power = (1 / (1 + (down / 3) ** 2 + (across / 6) ** 2) ** 1.5)[None].double()
    covariance = CosineCovariance(power, torch.eye(1, dtype=torch.float64))
    operator = build(Rotation(angle=angle), (1, size, size))
    draws = operator.forward(covariance.sqrt(torch.randn(4000, 1, size, size, dtype=torch.float64,
                                                         generator=torch.Generator().manual_seed(0))))  # fmt: skip
    from daps_kit.covariance import cosine_transform

    exact = cosine_transform(draws).square().mean(0)[0]
    ours = operator.spectrum(covariance)[0]
    low = torch.hypot(down.double(), across.double()) < size / 2
    ratio = (ours / exact)[low].log()
    assert float(ratio.mean().abs()) < 0.15
    assert float(ratio.std()) < 0.35
    plain = (power[0] / exact)[low].log()
    assert float(plain.std()) > 1.3 * float(ratio.std())
