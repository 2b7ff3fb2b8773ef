"""PNG of 16 bits a channel, judged by Pillow, which reads the upper half of each number."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from daps_kit.arrays import read_numbers
from daps_kit.errors import UserError
from daps_kit.reading import deep_png
from tests.host.conftest import photograph

KINDS = {2: 3, 6: 4}
"""Channels by the type of colour."""


def numbers(channels: int, height: int = 9, width: int = 13) -> np.ndarray:
    """Smooth numbers, for which every filter does something else, with some of any size among them."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([30000 + 2500 * y - 700 * x * (c - 1) for c in range(channels)], -1)
    rng = np.random.default_rng(channels)
    return np.where(rng.random(smooth.shape) < 0.2, rng.integers(0, 65536, smooth.shape), smooth).astype(
        np.uint16
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    height: int, width: int, colour: int, lines: bytes, *, interlaced: int = 0, more: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlaced)
    return (
        deep_png.SIGNATURE
        + chunk(b"IHDR", header)
        + more
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def halves(data: bytes, pixels: np.ndarray) -> None:
    """Compare the upper half of the numbers with what Pillow reads."""
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.asarray(picture), pixels >> 8)


@pytest.mark.parametrize("colour", KINDS)
def test_any_lines_are_read_as_pillow_reads_them(colour):
    """Lines of random bytes under all filters; all bytes of pixels depend on each other through them."""
    channels, height, width = KINDS[colour], 11, 17
    rng = np.random.default_rng(colour)
    stored = rng.integers(0, 256, (height, 1 + 2 * channels * width), dtype=np.uint8)
    stored[:, 0] = [0, 1, 2, 3, 4, 4, 3, 1, 2, 4, 3]
    data = png(height, width, colour, stored.tobytes())
    values, alpha = deep_png.decode(data)
    halves(data, values if alpha is None else np.concatenate([values, alpha[..., None]], -1))


@pytest.mark.parametrize("colour", KINDS)
def test_the_lower_half_is_read_as_well(colour):
    """The same lines with the two bytes of every number swapped have the two bytes of every result swapped."""
    channels, height, width = KINDS[colour], 11, 17
    rng = np.random.default_rng(colour)
    stored = rng.integers(0, 256, (height, width * channels, 2), dtype=np.uint8)
    kinds = np.array([0, 1, 2, 3, 4, 4, 3, 1, 2, 4, 3], np.uint8)[:, None]
    read = []
    for lines in (stored, stored[..., ::-1]):
        data = png(height, width, colour, np.concatenate([kinds, lines.reshape(height, -1)], 1).tobytes())
        values, alpha = deep_png.decode(data)
        read.append(values if alpha is None else np.concatenate([values, alpha[..., None]], -1))
    assert np.array_equal(read[0], read[1].byteswap())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read_again(channels):
    pixels = numbers(channels)
    data = deep_png.encode(pixels, exif=b"MM\0*\0\0\0\x08\0\0", icc=b"colours")
    values, alpha = deep_png.decode(data)
    assert np.array_equal(values if alpha is None else np.dstack([values, alpha]), pixels)
    if channels > 2:
        halves(data, pixels)
        halves(deep_png.encode(pixels.byteswap()), pixels.byteswap())
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["icc_profile"] == b"colours"
        if channels == 1:
            assert np.array_equal(np.asarray(picture), pixels[..., 0])


def test_high_pictures_are_written_in_pieces():
    pixels = numbers(3, 150, 5)
    data = deep_png.encode(pixels)
    assert np.array_equal(deep_png.decode(data)[0], pixels)
    halves(data, pixels)


@pytest.mark.parametrize("size", [(9, 13), (1, 1), (2, 3), (5, 8)])
def test_interlaced(size):
    pixels = numbers(3, *size)
    lines = b""
    for top, left, down, across in deep_png.PASSES:
        part = pixels[top::down, left::across]
        if part.size:
            lines += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
    data = png(*size, 2, lines, interlaced=1)
    halves(data, pixels)
    assert np.array_equal(deep_png.decode(data)[0], pixels)


def test_a_colour_may_stand_for_a_hole(tmp_path):
    pixels = numbers(3)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    data = png(9, 13, 2, lines, more=chunk(b"tRNS", pixels[4, 5].astype(">u2").tobytes()))
    (tmp_path / "hole.png").write_bytes(data)
    read = read_numbers(tmp_path / "hole.png")
    assert read.alpha is not None
    assert read.alpha[4, 5] == 0
    assert read.alpha.sum() == 9 * 13 - 1
    assert np.array_equal(read.values, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_applies_it(tmp_path, orientation):
    shallow = photograph(1, (9, 13))
    exif = Image.Exif()
    exif[0x0112] = orientation
    shallow.save(tmp_path / "8.png", exif=exif)
    deep = np.asarray(shallow).astype(np.uint16) * 257
    (tmp_path / "16.png").write_bytes(deep_png.encode(deep, exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    eight, sixteen = (read_numbers(tmp_path / name) for name in ("8.png", "16.png"))
    assert sixteen.white == 65535
    assert np.array_equal(eight.values.astype(int) * 257, sixteen.values)


def test_damage_is_a_line(tmp_path, monkeypatch):
    whole = deep_png.encode(numbers(3))
    broken = {
        "cut short": whole[:-6],
        "cut short ": whole[:200] + whole[-12:],
        "a checksum is wrong": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        "no such filter": png(9, 13, 2, b"\7" * 9 * 79),
        "its header makes no sense": png(9, 13, 3, b""),
        "it is cut short": png(9, 13, 2, b"\0" * 9),
    }
    for number, (what, data) in enumerate(broken.items()):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        with pytest.raises(UserError, match=what.strip() if number != 1 else "damaged|cut"):
            read_numbers(path)
    path.write_bytes(png(4000, 4000, 2, b"\0" * 4000 * 24001))
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "8")
    with pytest.raises(UserError, match="would become 91.6 MiB"):
        read_numbers(path)
    with pytest.raises(UserError, match="no PNG picture of 16 bits"):
        deep_png.decode(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0" * 13) + chunk(b"IEND", b""))
