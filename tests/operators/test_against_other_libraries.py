"""The operators against scipy, Pillow and torch's own convolution, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
import torch.nn.functional as F
from PIL import Image

from daps_kit.contracts import Operator
from daps_kit.noise import GaussianNoise
from daps_operators.down_sampling import KERNELS, DownSampling, resize_matrix
from daps_operators.gaussian_blur import GaussianBlur
from daps_operators.high_dynamic_range import HighDynamicRange
from daps_operators.motion_blur import MotionBlur, fast_length
from daps_operators.reflection import fold, reflect, reflected_indices

NOISE = GaussianNoise(0.05)


def image(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 5, 60), (1, 3, 3)], ids=str)
def test_gaussian_blur_is_scipys_with_mirrored_borders(shape):
    """scipy's 'mirror' is our reflection, repeated where the kernel is larger than the image."""
    x = image(1, *shape)
    expected = ndi.gaussian_filter(x.numpy(), 3.0, axes=(2, 3), mode="mirror", truncate=4)
    blurred = GaussianBlur(shape, NOISE, 61, 3.0).forward(x)
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("border", [(0, 0), (1, 1), (2, 5), (9, 9), (31, 7)])
def test_reflection_and_its_adjoint(n, border):
    mirrored = np.pad(np.arange(n), border, mode="reflect") if n > 1 else np.zeros(1 + sum(border))
    np.testing.assert_array_equal(reflected_indices(n, border), mirrored)
    x = image(1, 1, n, 12)
    reflected = reflect(x, border, (3, 2))
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), border, (3, 2)), mode="reflect" if n > 1 else "edge")
    if n > 1:
        np.testing.assert_array_equal(reflected, expected)
    y = image(*reflected.shape, seed=1)
    folded = fold(y, border, (3, 2))
    assert (reflected * y).sum().item() == pytest.approx((x * folded).sum().item(), rel=1e-12)


def test_transform_lengths_are_fast_and_long_enough():
    for n in range(1, 1500):
        length = fast_length(n)
        assert n <= length < 1.25 * n + 16
        for prime in (2, 3, 5):
            while length % prime == 0:
                length //= prime
        assert length == 1


@pytest.mark.parametrize("scale", [2.0, 0.5, 7.0])
def test_high_dynamic_range(scale):
    operator = HighDynamicRange((3, 8, 9), NOISE, scale)
    x = image(2, 3, 8, 9)
    x[0, 0, 0, :3] = torch.tensor([1 / scale, -1 / scale, 0.0])  # a derivative at the edge of the clip
    kept = x.clone()
    np.testing.assert_array_equal(operator.forward(x), np.clip(scale * x.numpy(), -1, 1))
    y, vjp = operator.forward_vjp(x)
    by_autograd = Operator.forward_vjp(operator, x)
    v = image(2, 3, 8, 9, seed=1)
    assert torch.equal(y, by_autograd[0])
    assert torch.equal(vjp(v), by_autograd[1](v))
    assert torch.equal(operator.jvp(x, v), Operator.jvp(operator, x, v))
    assert torch.equal(x, kept)
    inside = x.clamp(-0.9 / scale, 0.9 / scale).requires_grad_()
    assert torch.autograd.gradcheck(operator.forward, (inside,))
