"""What a picture is, kept: depth, opacity, colour profile, EXIF; judged by Pillow and by closed forms."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from daps_kit.arrays import read_numbers
from daps_kit.errors import UserError
from daps_kit.images import load_image
from daps_kit.reading import deep_png
from daps_kit.restore.picture import Picture, read
from tests.host.conftest import photograph

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def again(picture: Picture, folder: Path) -> Picture:
    """Return what is read of the picture in its own form, as a restored one is written."""
    (folder / "again.png").write_bytes(picture.encode(picture.in_form(picture.seen)))
    return read(folder / "again.png")


def save(folder: Path, kind: str) -> Path:
    """Write a picture of a kind."""
    rng = np.random.default_rng(0)
    path = folder / f"{kind}.png"
    if kind.startswith("deep"):
        channels = {"deep": 3, "deep-grey": 1, "deep-alpha": 4, "deep-grey-alpha": 2}[kind]
        pixels = rng.integers(0, 65536, (7, 9, channels)).astype(np.uint16)
        path.write_bytes(deep_png.encode(pixels))
    elif kind == "palette":
        photograph(0, (7, 9)).quantize(16).save(path)
    elif kind == "bits":
        Image.fromarray(rng.random((7, 9)) < 0.5).save(path)
    else:
        channels = {"colour": 3, "grey": 1, "alpha": 4, "grey-alpha": 2}[kind]
        values = rng.integers(0, 256, (7, 9, channels), dtype=np.uint8)
        Image.fromarray(values[..., 0] if channels == 1 else values).save(path)
    return path


KINDS = {
    "colour": (8, "RGB"), "grey": (8, "L"), "alpha": (8, "RGBA"), "grey-alpha": (8, "LA"), "palette": (8, "RGB"),
    "bits": (8, "L"), "deep": (16, None), "deep-grey": (16, "I;16"), "deep-alpha": (16, None),
    "deep-grey-alpha": (16, None),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_itself_comes_out_as_it_went_in(tmp_path, kind):
    """Numbers, depth, channels and opacity; colours that are faint are known no better than white allows."""
    depth, mode = KINDS[kind]
    picture = read(save(tmp_path, kind))
    data = picture.encode(picture.own_form())
    (tmp_path / "own.png").write_bytes(data)
    before, after = read_numbers(tmp_path / f"{kind}.png"), read_numbers(tmp_path / "own.png")
    scale = 255 if kind == "bits" and before.values.max() == 1 else 1
    assert np.array_equal(before.values * scale, after.values)
    assert (before.alpha is None) == (after.alpha is None)
    if before.alpha is not None:
        assert np.array_equal(before.alpha, after.alpha)
    assert deep_png.is_deep(data) == (depth == 16)
    if mode is not None:
        with Image.open(io.BytesIO(data)) as written:
            assert written.mode == mode
    np.testing.assert_allclose(again(picture, tmp_path).seen, picture.seen, atol=2.1 / (2**depth - 1))


def test_what_is_seen_is_what_a_run_measures(tmp_path):
    for kind in KINDS:
        path = save(tmp_path, kind)
        assert np.array_equal(read(path).seen, load_image(path).numpy())


def test_opacity_is_taken_out_again(tmp_path):
    """Of z = a c + 1 - a comes c, but where nothing is seen of it."""
    alpha = np.tile(np.array([0, 51, 128, 255], np.uint8), (5, 1))
    colour = np.full((5, 4, 3), (10, 100, 200), np.uint8)
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    restored = np.array([80, 120, 160]) / 255  # another colour
    opacity = alpha / 255
    on_white = opacity[..., None] * restored + 1 - opacity[..., None]
    levels = picture.in_form((2 * on_white - 1).transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(levels[..., 3], alpha)
    assert np.array_equal(levels[:, 1:, :3], np.broadcast_to([80, 120, 160], (5, 3, 3)))
    assert np.array_equal(levels[:, 0, :3], colour[:, 0])


def test_some_pixels_are_kept(tmp_path):
    picture = read(save(tmp_path, "deep"))
    kept = np.zeros((7, 9), bool)
    kept[2:4, 3:] = True
    levels = picture.in_form(np.zeros((3, 7, 9), np.float32), kept)
    assert np.array_equal(levels[kept], picture.levels[kept])
    assert (levels[~kept] == 32768).all()


def test_numbers_are_rounded_and_clipped(tmp_path):
    picture = read(save(tmp_path, "grey"))
    image = np.array([[[-1.5, -1, 0.00393, 1, 2]]], np.float32)
    assert picture.in_form(image)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    three = np.broadcast_to(np.array([-1, 0, 0.5], np.float32)[:, None, None], (3, 7, 9))
    assert (picture.in_form(three) == round(127.5 * (1 - 0.5 / 3))).all()


def test_opacity_is_resized_with_the_picture(tmp_path):
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[:, :4] = 0
    Image.fromarray(np.dstack([np.zeros((6, 8, 3), np.uint8), alpha])).save(tmp_path / "a.png")
    levels = read(tmp_path / "a.png").in_form(np.zeros((3, 12, 16), np.float32))
    assert levels.shape == (12, 16, 4)
    assert (levels[:, :6, 3] <= 16).all()
    assert (levels[:, 10:, 3] >= 239).all()


@pytest.mark.parametrize("deep", [False, True])
def test_profile_and_exif_are_kept_and_the_picture_is_upright(tmp_path, deep):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 6
    exif.get_ifd(0x8769)[0x829A] = 0.01
    pixels = np.asarray(photograph(0, (8, 12)))
    if deep:
        packed = exif.tobytes().removeprefix(b"Exif\0\0")
        (tmp_path / "x.png").write_bytes(
            deep_png.encode(pixels.astype(np.uint16) * 257, icc=SRGB, exif=packed)
        )
    else:
        Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=SRGB, exif=exif)
    picture = read(tmp_path / "x.png")
    assert picture.size == (12, 8)
    with Image.open(io.BytesIO(picture.encode(picture.own_form()))) as written:
        assert written.size == (8, 12)
        assert np.array_equal(np.asarray(written), np.rot90(pixels, -1))
        assert written.info["icc_profile"] == SRGB
        found = written.getexif()
        assert found[0x010F] == "a maker"
        assert 0x0112 not in found
        assert found.get_ifd(0x8769)[0x829A] == pytest.approx(0.01)


def test_profiles_of_other_colours_are_left_out(tmp_path):
    cmyk = bytearray(SRGB)
    cmyk[16:20] = b"CMYK"
    photograph(0).convert("CMYK").save(tmp_path / "c.jpg", icc_profile=bytes(cmyk))
    assert read(tmp_path / "c.jpg").icc is None
    photograph(0).save(tmp_path / "r.jpg", icc_profile=SRGB)
    assert read(tmp_path / "r.jpg").icc == SRGB
    assert read(tmp_path / "r.jpg").exif is None


def test_tiff_of_sixteen_bits(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 65536, (7, 9, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", iccprofile=SRGB)
    picture = read(tmp_path / "x.tif")
    assert picture.icc == SRGB
    assert np.array_equal(deep_png.decode(picture.encode(picture.own_form()))[0], pixels)
    tifffile.imwrite(tmp_path / "f.tif", (pixels / 65535).astype(np.float32), photometric="rgb")
    picture = read(tmp_path / "f.tif")
    assert np.array_equal(picture.levels, pixels)


def test_before_and_after_side_by_side(tmp_path):
    picture = read(save(tmp_path, "deep-alpha"))
    small, large = np.full((7, 9, 4), 65535, np.uint16), np.zeros((14, 18, 4), np.uint16)
    small[..., :3] = 0  # black and opaque; beside it black and transparent, which is white on white
    with Image.open(io.BytesIO(picture.beside([small, large], gap=2))) as shown:
        assert shown.mode == "RGB"
        assert shown.size == (38, 14)
        assert (np.asarray(shown)[:, :18] == 0).all()
        assert (np.asarray(shown)[:, 18:] == 255).all()


def test_what_is_no_picture(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 4)))
    (tmp_path / "x.png").write_bytes(b"nothing")
    for name, what in {
        "x.npy": "is no picture; pictures are .png",
        "x.png": "no picture",
        "y.png": "No such",
    }.items():
        with pytest.raises(UserError, match=what):
            read(tmp_path / name)
    Image.fromarray(np.full((4, 4), 3.0, np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=r"x.tif: its numbers, 3 to 3, do not tell which is white"):
        read(tmp_path / "x.tif")
