"""The noise before JPEG saved a picture, against noise that was put there and then saved by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from daps_kit.jpeg import Planes, read_planes, usual_coding
from daps_kit.jpeg_noise import POWERS, SMOOTH, SPREADS, _Blocks, _pictures, jpeg_noise_level
from tests.host.test_noise_level import smooth, textured


def saved(image: np.ndarray, path: Path, **how: object) -> Planes:
    """Return what is in the JPEG file of an image, [C, H, W] in [-1, 1]."""
    pixels = np.rint(127.5 * (image + 1)).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    picture.save(path, "JPEG", **how)
    return read_planes(path)


def noisy(sigma: float, channels: int = 3) -> np.ndarray:
    image = smooth(128, 144)[:channels]
    return image + sigma * np.random.default_rng(0).standard_normal(image.shape)


@pytest.mark.parametrize(
    ("quality", "sampling", "sigma"),
    [(95, "4:4:4", 0.02), (95, "4:2:0", 0.05), (90, "4:2:2", 0.1), (75, "4:2:0", 0.1), (75, "4:4:4", 0.2)],
)
def test_known_noise_is_found(quality, sampling, sigma, tmp_path):
    planes = saved(noisy(sigma), tmp_path / "a.jpg", quality=quality, subsampling=sampling)
    assert jpeg_noise_level(planes) == pytest.approx(sigma, rel=0.06)


def test_grey_pictures_have_the_noise_of_their_own(tmp_path):
    planes = saved(noisy(0.1, 1), tmp_path / "a.jpg", quality=90)
    assert jpeg_noise_level(planes) == pytest.approx(0.1, rel=0.06)


def test_textures_of_brightness_are_no_noise(tmp_path):
    """Colours tell the noise where all is texture, and in grey pictures what is smooth."""
    planes = saved(textured(noisy(0.05), 0), tmp_path / "a.jpg", quality=95, subsampling="4:4:4")
    assert jpeg_noise_level(planes) == pytest.approx(0.05, rel=0.1)
    planes = saved(textured(noisy(0.05, 1), 60), tmp_path / "a.jpg", quality=95)
    assert jpeg_noise_level(planes) == pytest.approx(0.05, rel=0.1)


def test_what_is_cut_off_at_white_does_not_count(tmp_path):
    image = noisy(0.1)
    image[:, :, 40:] = 1
    planes = saved(image, tmp_path / "a.jpg", quality=90, subsampling="4:2:0")
    assert jpeg_noise_level(planes) == pytest.approx(0.1, rel=0.1)


def test_where_noise_is_cut_off_everywhere_the_least_of_it_counts(tmp_path):
    """Of a bright picture each block has some white pixels."""
    image = 0.2 * noisy(0) + 0.65 + 0.2 * np.random.default_rng(0).standard_normal((3, 128, 144))
    planes = saved(image, tmp_path / "a.jpg", quality=90, subsampling="4:2:0")
    assert jpeg_noise_level(planes) == pytest.approx(0.2, rel=0.1)


def test_of_pictures_without_noise_little_is_found(tmp_path):
    assert jpeg_noise_level(saved(noisy(0), tmp_path / "a.jpg", quality=95)) < 0.01


def test_where_nothing_tells_there_is_no_estimate(tmp_path):
    assert jpeg_noise_level(saved(noisy(0.1)[:, :20, :20], tmp_path / "a.jpg", quality=90)) is None
    assert jpeg_noise_level(saved(noisy(0.1) + 9, tmp_path / "a.jpg", quality=90)) is None


def test_the_likelihood_is_the_mean_over_what_a_block_may_be():
    """Of two coefficients, by the distribution function of scipy."""
    steps, share, rounded, sigma = np.array([3.0, 7.0]), 50.0**2, 0.1, 0.05
    counts, pictures = np.array([[0, 2], [5, 0], [1, 1]]), np.array([[9.0, 4.0], [1.0, 100.0]])
    logs = np.zeros(len(SMOOTH))
    for row in counts:
        each = []
        for picture in (0.0, *pictures):
            law = norm(0, np.sqrt((sigma * 50.0) ** 2 + rounded + picture))
            each.append(np.prod(law.cdf((row + 0.5) * steps) - law.cdf((row - 0.5) * steps)))
        logs += np.log(SMOOTH * each[0] + (1 - SMOOTH) * np.mean(each[1:]))
    blocks = _Blocks(counts, steps, share, rounded)
    assert blocks.log_likelihood(sigma, pictures) == pytest.approx(logs.max(), rel=1e-9)


def test_pictures_have_the_spreads_and_fall_with_frequency():
    pictures = _pictures().reshape(len(POWERS), len(SPREADS), 63)
    np.testing.assert_allclose(pictures.mean(2), np.tile(SPREADS**2, (len(POWERS), 1)))
    # From frequency (0, 1) to (7, 7), whose squares are 98 times those.
    np.testing.assert_allclose(pictures[:, 0, 0] / pictures[:, 0, -1], 98 ** np.array(POWERS))


def test_a_coding_that_rounds_all_away_tells_little():
    coding = usual_coding(1, "4:2:0", grey=False)
    values = tuple(np.full((64 >> (p > 0), 64 >> (p > 0)), 128.0) for p in range(3))
    assert jpeg_noise_level(Planes(coding, values)) < 0.01
