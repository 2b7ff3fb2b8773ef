"""What JPEG keeps, against files that Pillow writes of pictures with known noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from pydantic import ValidationError

import daps_kit
import daps_operators
from daps_kit.errors import UserError
from daps_kit.settings import GaussianNoiseSettings
from daps_operators.jpeg import UNKNOWN
from daps_operators.noises import Poisson
from tests.operators.inputs import build, image


def jpeg(sigma=0.05, **settings):
    return daps_operators.Jpeg(noise=GaussianNoiseSettings(sigma=sigma), **settings)


def save(picture, path, **how):
    """Save an image [C, H, W] in [-1, 1]."""
    pixels = np.rint(127.5 * (np.asarray(picture) + 1)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path, "JPEG", **how)


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("shape", [(3, 32, 48), (3, 21, 45), (1, 19, 8), (3, 5, 3)], ids=str)
def test_it_turns_and_keeps_lengths(shape, sampling):
    operator = build(jpeg(sampling=sampling), shape)
    x, y = image(2, *shape), image(2, *shape, seed=1)
    torch.testing.assert_close(operator.adjoint(operator.forward(x)), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(operator.forward(operator.adjoint(y)), y, rtol=0, atol=1e-10)
    torch.testing.assert_close((operator.forward(x) * y).sum(), (x * operator.adjoint(y)).sum())
    assert operator.orthonormal


def test_as_many_numbers_are_observed_as_the_file_has():
    for sampling, share in (("4:4:4", 1), ("4:2:2", 2 / 3), ("4:2:0", 1 / 2)):
        operator = build(jpeg(sampling=sampling), (3, 32, 48))
        observed = operator.project(torch.ones(1, 3, 32, 48))
        assert float(observed.mean()) == pytest.approx(share)
        deviation = operator.noise.std(observed)
        assert bool(((deviation > UNKNOWN / 2) == (observed == 0)).all())


@pytest.mark.parametrize(
    ("sampling", "size"), [("4:4:4", (16, 16)), ("4:2:0", (16, 16)), ("4:2:0", (12, 23))]
)
def test_files_have_the_noise_that_it_says(sampling, size, tmp_path):
    """Of noise at least as strong as most steps: each number has its standard deviation, and none follows another."""
    sigma, count, shape = 0.15, 600, (3, *size)
    rows, columns = np.mgrid[: size[0], : size[1]]
    clean = np.stack([0.2 * np.sin(rows / 5 + c) * np.cos(columns / 7) for c in range(3)])
    rng, path, read = np.random.default_rng(0), tmp_path / "a.jpg", []
    save(clean, path, quality=95, subsampling=sampling)
    operator = build(jpeg(sigma, file=path), shape)
    for _ in range(count):
        save(clean + sigma * rng.standard_normal(shape), path, quality=95, subsampling=sampling)
        read.append(operator.read(path)[0])
    y = torch.stack(read)
    e = (y - operator.forward(torch.from_numpy(clean)[None])) / operator.noise.std(y)
    seen = operator.project(torch.ones_like(y[:1]))[0] > 0
    e = e[:, seen].double()
    assert float(e.mean(0).abs().max()) < 5 / np.sqrt(count)
    variances = e.var(0)
    assert float(variances.mean()) == pytest.approx(1, abs=0.03)
    whole = all(side % 16 == 0 for side in size)
    assert float((variances - 1).abs().max()) < (0.4 if whole else 0.8)
    # Squared correlations of independent numbers are 1 / count on average.
    correlation = torch.corrcoef(e.T) - torch.eye(e.shape[1], dtype=e.dtype)
    assert float(correlation.square().mean()) < (1.1 if whole else 1.5) / count


@pytest.mark.parametrize("orientation", range(1, 9))
def test_squares_begin_where_the_file_does(orientation, tmp_path):
    """A picture that was turned, against one that was not and is turned by Pillow before and after."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation

    def upright(planes):
        each = []
        for plane in planes:
            turned = Image.fromarray(plane.astype(np.float32))
            turned.getexif()[ExifTags.Base.Orientation] = orientation
            each.append(np.asarray(ImageOps.exif_transpose(turned)))
        return torch.from_numpy(np.stack(each))[None]

    stored = image(3, 20, 37).numpy()
    save(stored, tmp_path / "plain.jpg", quality=90)
    save(stored, tmp_path / "a.jpg", quality=90, exif=exif)
    plain = build(jpeg(file=tmp_path / "plain.jpg"), stored.shape)
    operator = build(jpeg(file=tmp_path / "a.jpg"), tuple(upright(stored).shape[1:]))
    y = plain.forward(torch.from_numpy(stored).float()[None])
    torch.testing.assert_close(operator.forward(upright(stored)), upright(y[0].numpy()), rtol=0, atol=1e-5)
    assert torch.equal(
        operator.read(tmp_path / "a.jpg"), upright(plain.read(tmp_path / "plain.jpg")[0].numpy())
    )


def test_only_what_rounding_leaves_tells_of_the_noise():
    for sigma, share in ((0.5, 0.5), (1e-4, 0)):
        operator = build(jpeg(sigma, quality=90), (3, 32, 32))
        telling = operator.telling(torch.zeros(2, 3, 32, 32))
        assert telling.shape == (2, 3, 32, 32)
        assert float(telling.float().mean()) == share
    cut = build(jpeg(0.5, quality=90), (3, 40, 33)).telling(torch.zeros(1, 3, 40, 33))
    assert bool(cut[..., :32, :32].any())
    assert not bool(cut[..., 32:, :].any() | cut[..., 32:].any())


def test_errors_are_told(tmp_path):
    picture = image(3, 16, 16)
    save(picture, tmp_path / "a.jpg", quality=90)
    save(picture, tmp_path / "b.jpg", quality=80)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    operator = build(jpeg(file=tmp_path / "a.jpg"), (3, 16, 16))
    assert operator.read(tmp_path / "a.png") is None
    with pytest.raises(UserError, match="other steps, sampling, orientation or size"):
        operator.read(tmp_path / "b.jpg")
    with pytest.raises(UserError, match=r"a\.png is no JPEG file with the usual colours"):
        build(jpeg(file=tmp_path / "a.png"), (3, 16, 16))
    with pytest.raises(UserError, match="the file has 3 channel"):
        build(jpeg(file=tmp_path / "a.jpg"), (1, 16, 16))
    for noise in (
        Poisson(),
        GaussianNoiseSettings(sigma=(0.1, 0.2, 0.1)),
        GaussianNoiseSettings(quantised=8),
    ):
        with pytest.raises(ValidationError, match="jpeg needs gaussian noise with one sigma, which is known"):
            daps_operators.Jpeg(noise=noise)
    unknown = {"use": "jpeg", "noise": {"use": "gaussian", "sigma": "unknown"}}
    with pytest.raises(UserError, match="one sigma, which is known"):
        daps_kit.build("operator", unknown, shape=(3, 16, 16))
    with pytest.raises(ValidationError, match="no chain can"):
        daps_operators.Chain(operators=(daps_operators.Jpeg(),))
