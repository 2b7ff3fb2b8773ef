"""Motion blur against scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
import torch.nn.functional as F
from PIL import Image

from daps_kit.errors import UserError
from daps_operators import MotionBlur as Settings
from daps_operators.motion_blur import MotionBlur, fast_length
from tests.operators.inputs import NOISE, build, image


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


def test_kernel_files_are_scaled_to_sum_1(tmp_path):
    kernel = np.random.default_rng(0).random((7, 9))
    np.save(tmp_path / "k.npy", 5 * kernel)
    grey = np.round(255 * kernel).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "k.png")
    for name, expected in (("k.npy", kernel / kernel.sum()), ("k.png", grey / grey.sum())):
        settings = Settings(kernel=str(tmp_path / name), draw="per_image")
        assert not settings.per_image
        read = build(settings).state()["kernel"]
        np.testing.assert_allclose(read[0, 0], expected, rtol=1e-12)


def test_a_deep_png_keeps_its_16_bits(tmp_path):
    kernel = np.random.default_rng(0).integers(0, 65536, (5, 5)).astype(np.uint16)
    Image.fromarray(kernel).save(tmp_path / "k.png")
    read = build(Settings(kernel=tmp_path / "k.png")).state()["kernel"]
    np.testing.assert_allclose(read[0, 0], kernel / kernel.sum(dtype=float), rtol=1e-12)


WRONG = [
    (-np.ones((3, 3)), "the sum -9; allowed: a positive sum"),
    (np.array([[1.0, -1.0]]), "the sum 0"),
    (np.ones((2, 3, 3)), "3 axes"),
    (np.full((3, 3), np.inf), "not finite"),
    (np.zeros((0, 3)), "empty"),
    (np.ones((3, 3), dtype=complex), "real numbers"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda v: str(v)[:12])
def test_wrong_arrays(tmp_path, values, message):
    np.save(tmp_path / "wrong.npy", values, allow_pickle=values.dtype == object)
    with pytest.raises(UserError, match=message) as caught:
        build(Settings(kernel=tmp_path / "wrong.npy"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wrong.npy", "wrong.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        build(Settings(kernel=tmp_path / name))
