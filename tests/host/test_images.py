"""Files of every kind become the tensors the module promises, and go back without loss."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit.arrays import with_channels
from daps_kit.errors import UserError
from daps_kit.images import (
    encode_png,
    fit,
    load_image,
    png_is_whole,
    save_png,
    to_uint8,
)


def test_equals_the_recorded_pipeline(golden, tmp_path):
    arrays, _ = golden("image_pipeline_32")
    for index in range(4):
        Image.fromarray(arrays[f"raw_{index}"]).save(tmp_path / "x.png")
        image = fit(load_image(tmp_path / "x.png", channels=3), (32, 32))
        np.testing.assert_allclose(image.numpy(), arrays[f"tensor_{index}"], atol=1e-5, rtol=0)


def test_all_256_levels_survive_the_round_trip(tmp_path):
    levels = torch.arange(256.0).reshape(1, 16, 16)
    save_png(levels / 127.5 - 1, tmp_path / "levels.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "levels.png")).ravel(), np.arange(256))
    back = load_image(tmp_path / "levels.png")
    torch.testing.assert_close(back, levels / 127.5 - 1, atol=1e-6, rtol=0)


def test_pixels_are_rounded_not_truncated():
    image = torch.tensor([-2.0, -1.0, 0.4999 / 127.5 - 1, 0.5001 / 127.5 - 1, 0.999, 3.0, float("nan")])
    assert to_uint8(image.reshape(1, 1, 7)).ravel().tolist() == [0, 0, 0, 1, 255, 255, 0]


COLOUR = (250, 100, 30)
LUMA = 0.299 * 250 + 0.587 * 100 + 0.114 * 30


def as_levels(image: torch.Tensor) -> list[float]:
    """Return the first pixel on the scale 0 to 255."""
    return ((image[:, 0, 0] + 1) * 127.5).tolist()


@pytest.mark.parametrize(
    ("mode", "pixel", "levels"),
    [
        ("RGB", COLOUR, COLOUR),
        ("L", 77, [77]),
        ("1", 1, [255]),
        ("LA", (100, 51), [100 * 0.2 + 255 * 0.8]),
        ("RGBA", (*COLOUR, 255), COLOUR),
        ("RGBA", (*COLOUR, 51), [0.2 * c + 0.8 * 255 for c in COLOUR]),
        ("RGBA", (0, 0, 0, 0), [255, 255, 255]),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("I;16", 30000, [30000 / 257]),
        ("F", 0.25, [0.25 * 255]),
    ],
)
def test_every_mode(tmp_path, mode, pixel, levels):
    path = tmp_path / ("x.png" if mode in ("RGB", "L", "1", "LA", "RGBA", "I;16") else "x.tif")
    Image.new(mode, (5, 4), pixel).save(path)
    image = load_image(path)
    assert image.shape == (len(levels), 4, 5)
    # Pillow composites in whole grey levels.
    assert as_levels(image) == pytest.approx(levels, abs=0.51 if mode in ("LA", "RGBA") else 1e-3)


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, *COLOUR])
    picture.save(tmp_path / "opaque.png")
    assert as_levels(load_image(tmp_path / "opaque.png")) == pytest.approx(COLOUR, abs=1e-3)
    picture.save(tmp_path / "clear.gif", transparency=1)
    assert as_levels(load_image(tmp_path / "clear.gif")) == pytest.approx([255] * 3, abs=1e-3)


def png_rgb16(values: np.ndarray) -> bytes:
    """Encode [H, W, 3] 16-bit colour as PNG, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_sixteen_bit_colour_is_scaled_to_the_same_colour(tmp_path):
    values = np.broadcast_to(np.array(COLOUR, dtype=np.uint16) * 257, (3, 2, 3))
    (tmp_path / "x.png").write_bytes(png_rgb16(values))
    assert as_levels(load_image(tmp_path / "x.png")) == pytest.approx(COLOUR, abs=1e-3)


def test_orientation_of_a_camera_is_applied(tmp_path):
    picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    assert load_image(tmp_path / "x.png").tolist() == [[[-1.0], [1.0]]]


def test_channels_follow_the_prior(tmp_path):
    Image.new("RGB", (2, 2), COLOUR).save(tmp_path / "colour.png")
    Image.new("L", (2, 2), 50).save(tmp_path / "grey.png")
    assert as_levels(load_image(tmp_path / "colour.png", 1)) == pytest.approx([LUMA], abs=1e-3)
    assert as_levels(load_image(tmp_path / "grey.png", 3)) == pytest.approx([50] * 3, abs=1e-3)
    with pytest.raises(UserError, match="3 channels cannot be given 4"):
        with_channels(torch.zeros(3, 2, 2), 4)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (33, 32), (7, 9)])
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (5, 3)])
def test_fit_covers_and_keeps_the_centre(shape, size):
    ramp = torch.linspace(-1, 1, shape[1]).expand(1, *shape)
    fitted = fit(ramp, size)
    assert fitted.shape == (1, *size)
    half_a_pixel = float(fitted[0, 0, 1] - fitted[0, 0, 0]) / 2
    assert fitted.mean().item() == pytest.approx(0, abs=1.1 * half_a_pixel + 1e-3)


def test_damaged_and_foreign_files_name_themselves(tmp_path):
    good = encode_png(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    )
    (tmp_path / "cut.png").write_bytes(good[:3000])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    flipped = bytearray(good)
    flipped[1000] ^= 255
    (tmp_path / "flipped.png").write_bytes(bytes(flipped))
    for name in ("cut.png", "text.png", "empty.png", "flipped.png", "missing.png"):
        with pytest.raises(UserError, match=name) as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    Image.fromarray(np.array([[0.5, 7.0]], dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float.tif.*0 to 1"):
        load_image(tmp_path / "float.tif")


def test_a_cut_png_is_noticed(tmp_path: Path):
    path = tmp_path / "x.png"
    assert not png_is_whole(path)
    save_png(torch.zeros(3, 8, 8), path)
    assert png_is_whole(path)
    path.write_bytes(path.read_bytes()[:-3])
    assert not png_is_whole(path)
