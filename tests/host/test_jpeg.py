"""What JPEG files say of themselves, against what Pillow was told to write and what scipy's transforms find."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image
from scipy.fft import dctn

from daps_kit.errors import UserError
from daps_kit.jpeg import BLOCK, TRANSFORM, read_coding, read_planes, usual_coding
from daps_kit.restore.picture import read
from tests.host.restore.conftest import noisy

SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}

each_sampling = pytest.mark.parametrize("sampling", SAMPLINGS)


def coefficients(plane: np.ndarray) -> np.ndarray:
    """Return those of whole blocks, [rows, columns, 8, 8]."""
    rows, columns = (side // BLOCK for side in plane.shape)
    blocks = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
    return dctn(blocks - 128, axes=(2, 3), norm="ortho")


def test_the_transform_is_that_of_another_library():
    block = np.random.default_rng(0).standard_normal((BLOCK, BLOCK))
    np.testing.assert_allclose(TRANSFORM @ block @ TRANSFORM.T, dctn(block, norm="ortho"), atol=1e-12)


def test_steps_are_those_of_the_standard():
    """ITU-T T.81, tables K.1 and K.2, which quality 50 has as they are."""
    coding = usual_coding(50, "4:2:0", grey=False)
    brightness, blue, red = coding.steps
    assert brightness[0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert brightness[:, 0].tolist() == [16, 12, 14, 14, 18, 24, 49, 72]
    assert blue[1].tolist() == red[1].tolist() == [18, 21, 26, 66, 99, 99, 99, 99]
    assert coding.unit == (16, 16)
    assert len(usual_coding(50, "4:2:0", grey=True).steps) == 1


@each_sampling
@pytest.mark.parametrize("size", [(64, 96), (61, 77)], ids=str)
def test_coefficients_are_multiples_of_the_steps(sampling, size, tmp_path):
    """But for a few, which rounding to 8 bits and black and white have moved."""
    noisy(0, size).save(tmp_path / "a.jpg", quality=60, subsampling=sampling)
    planes = read_planes(tmp_path / "a.jpg")
    down, across = SAMPLINGS[sampling]
    assert planes.coding.coarse == (down, across)
    for place, plane in enumerate(planes.values):
        share = (down, across) if place else (1, 1)
        assert plane.shape == tuple(-(-side // by) for side, by in zip(size, share, strict=True))
        steps = planes.coding.steps[place]
        ratio = coefficients(plane) / steps
        off = np.abs(ratio - np.rint(ratio)) * steps
        assert np.quantile(off, 0.95) < 0.9
        assert np.abs(np.rint(ratio)).max() > 3


@each_sampling
def test_planes_are_means_of_what_was_saved(sampling, tmp_path):
    picture = noisy(1, (32, 48))
    picture.save(tmp_path / "a.jpg", quality=100, subsampling=sampling)
    down, across = SAMPLINGS[sampling]
    brightness, *colours = np.moveaxis(np.asarray(picture.convert("YCbCr"), float), -1, 0)
    means = [plane.reshape(32 // down, down, 48 // across, across).mean((1, 3)) for plane in colours]
    for found, due in zip(read_planes(tmp_path / "a.jpg").values, (brightness, *means), strict=True):
        assert np.abs(found - due).mean() < 0.7
        assert np.abs(found - due).max() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    noisy(0, (20, 36), sigma=0.02).save(tmp_path / "a.jpg", quality=98, subsampling="4:4:4", exif=exif)
    seen, found = read(tmp_path / "a.jpg").seen, read_planes(tmp_path / "a.jpg").upright()
    assert found.shape == seen.shape
    assert np.abs(found - seen).max() < 4 / 127.5


def test_grey_pictures_have_one_plane(tmp_path):
    noisy(0, (20, 36), channels=1).save(tmp_path / "a.jpg", quality=98)
    planes = read_planes(tmp_path / "a.jpg")
    assert planes.coding.unit == (BLOCK, BLOCK)
    np.testing.assert_allclose(planes.upright(), read(tmp_path / "a.jpg").seen, atol=1e-6)


def test_other_files_say_nothing(tmp_path):
    picture = noisy(0, (20, 36))
    picture.save(tmp_path / "a.png")
    picture.convert("CMYK").save(tmp_path / "inks.jpg")
    picture.save(tmp_path / "rgb.jpg", keep_rgb=True)
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("a.png", "inks.jpg", "rgb.jpg", "text.jpg"):
        assert read_coding(tmp_path / name) is None
        assert read_planes(tmp_path / name) is None


def test_codings_differ(tmp_path):
    one = usual_coding(60, "4:2:0", grey=False)
    assert one.same(usual_coding(60, "4:2:0", grey=False))
    for other in ((61, "4:2:0", False), (60, "4:4:4", False), (60, "4:2:0", True)):
        assert not one.same(usual_coding(other[0], other[1], grey=other[2]))


def test_a_file_that_would_become_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "1")
    Image.new("RGB", (1200, 1200)).save(tmp_path / "a.jpg", quality=50)
    assert read_coding(tmp_path / "a.jpg") is not None
    with pytest.raises(UserError, match="would become 4.12 MiB"):
        read_planes(tmp_path / "a.jpg")
