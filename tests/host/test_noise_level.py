"""The noise level of a picture, against noise that was put there and against other implementations of the rule."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from daps_kit.noise_level import BLOCK, ENERGY, SHARE, noise_level


def smooth(height: int = 240, width: int = 200) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([0.6 * np.sin(x / 17 + c) * np.cos(y / 23) for c in range(3)])


def noisy(sigma: float, seed: int = 0) -> np.ndarray:
    image = smooth()
    return image + sigma * np.random.default_rng(seed).standard_normal(image.shape)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1, 0.4])
def test_known_noise_is_found(sigma):
    assert noise_level(noisy(sigma)) == pytest.approx(sigma, rel=0.05)


def test_flat_places_do_not_count():
    """Most of the picture is white, as under a cut-out: there is the noise of what is left."""
    image = noisy(0.1)
    image[:, 60:] = 1
    assert noise_level(image) == pytest.approx(0.1, rel=0.05)


def test_few_large_details_change_little():
    image = noisy(0.05)
    image[:, ::40, ::40] = 1
    assert noise_level(image) == pytest.approx(0.05, rel=0.05)


def test_hidden_pixels_do_not_count():
    image, hidden = noisy(0.05), np.zeros((240, 200), bool)
    hidden[::8] = True
    image[:, hidden] = np.random.default_rng(1).uniform(-1, 1, (3, int(hidden.sum())))
    assert noise_level(image) > 0.06
    assert noise_level(image, hidden) == pytest.approx(0.05, rel=0.05)


def test_channels_are_pooled_by_their_variance():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 200, 200)) * np.array([0.1, 0.3])[:, None, None]
    assert noise_level(image) == pytest.approx(np.sqrt((0.1**2 + 0.3**2) / 2), rel=0.05)


def textured(image: np.ndarray, columns: int) -> np.ndarray:
    """Return an image with a fine texture of grey in all but some columns."""
    texture = 0.12 * np.random.default_rng(7).standard_normal(image.shape[-2:])
    texture[:, :columns] = 0
    return image + texture


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_textures_of_brightness_are_no_noise(sigma):
    """Colours tell the noise where all is texture, and in pictures without colours what is smooth."""
    image = noisy(sigma)
    if sigma == 0.1:
        assert noise_level(textured(image, 0)) == pytest.approx(sigma, rel=0.05)
    assert noise_level(textured(image, 60)) == pytest.approx(sigma, rel=0.1)
    assert noise_level(textured(image[:1], 60)) == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("sigma", [0.1, 0.2])
def test_jpeg_leaves_the_noise_of_brightness(sigma):
    """With colours at half the pixels what is left of fine noise is that of JPEG's own brightness, in all channels."""
    pixels = np.rint(127.5 * (0.5 * noisy(2 * sigma) + 1)).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling="4:2:0")
    with Image.open(file) as saved:
        found = noise_level(np.asarray(saved).transpose(2, 0, 1) / 127.5 - 1)
    assert found == pytest.approx(sigma * np.sqrt(3) * np.linalg.norm([0.299, 0.587, 0.114]), rel=0.06)


def test_the_energy_of_noise_in_a_block():
    stats = pytest.importorskip("scipy.stats")
    assert pytest.approx(stats.chi2.ppf(SHARE, BLOCK**2) / BLOCK**2, abs=1e-4) == ENERGY


def test_where_nothing_tells_there_is_no_estimate():
    assert noise_level(np.ones((3, 64, 64))) is None
    assert noise_level(noisy(0.1)[:, :12, :12]) is None
    assert noise_level(noisy(0.1)[:, :3, :2]) is None
    assert noise_level(noisy(0.1), np.random.default_rng(0).random((240, 200)) < 0.8) is None
    assert noise_level(noisy(0.1)[:, :16, :16]) == pytest.approx(0.1, rel=0.4)


def test_the_rule_by_another_wavelet_library():
    pywt = pytest.importorskip("pywt")
    image = noisy(0.03)
    levels = [
        np.median(np.abs(pywt.dwtn(channel, "db2", mode="periodization")["dd"])) / 0.6745 for channel in image
    ]
    assert noise_level(image) == pytest.approx(np.sqrt(np.mean(np.square(levels))), rel=0.02)


def test_the_rule_by_another_image_library():
    restoration = pytest.importorskip("skimage.restoration")
    image = noisy(0.03)
    theirs = restoration.estimate_sigma(image, channel_axis=0, average_sigmas=True)
    assert noise_level(image) == pytest.approx(theirs, rel=0.02)
