r"""PNG of 16 bits a channel, which Pillow reads as 8 and of which it writes grey alone.

A line of pixels is stored as what a filter leaves of its bytes: with a, b, c the bytes of the pixel to the left, above,
and above to the left, x - {0, a, b, (a + b) / 2, P(a, b, c)} by the line's filter, P the one of a, b, c that is nearest
to a + b - c. An anti-diagonal of the picture depends only on the two before it, so all lines are undone at
once, an anti-diagonal at a time.

Source: Portable Network Graphics Specification (Third Edition), W3C, 2025, sections 7 to 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from daps_kit.errors import UserError

__all__ = ["DeepPng", "decode", "encode", "is_deep"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""How many numbers a pixel has, by the type of colour: grey, red-green-blue, and either with opacity."""
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row and column, and steps down and across, of the passes of an interlaced picture."""

Bytes = NDArray[np.int16]
Deep = NDArray[np.uint16]


class DeepPng:
    """The header of a PNG file.

    Args:
        data: the file.

    Attributes:
        channels: numbers a pixel: grey or three colours, and opacity.
        unpacked: bytes that the lines of pixels take, with the number of the filter of each.

    Raises:
        UserError: it is damaged, or has not 16 bits a channel.
    """

    def __init__(self, data: bytes) -> None:
        self.chunks = list(_chunks(data))
        kind, header = self.chunks[0]
        if kind != b"IHDR" or len(header) != 13 or not is_deep(data):
            raise UserError("it is no PNG picture of 16 bits a channel")
        self.width, self.height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        if colour not in CHANNELS or not self.width or not self.height or interlaced > 1:
            raise UserError("it is damaged: its header makes no sense")
        self.channels = CHANNELS[colour]
        passes = PASSES if interlaced else [(0, 0, 1, 1)]
        self.passes = [
            (rows, columns)
            for top, left, down, across in passes
            if (rows := range(top, self.height, down)) and (columns := range(left, self.width, across))
        ]
        self.unpacked = sum(
            len(rows) * (1 + len(columns) * 2 * self.channels) for rows, columns in self.passes
        )

    def pixels(self) -> Deep:
        """Return the numbers, [H, W, channels].

        Raises:
            UserError: they are damaged.
        """
        packed = b"".join(content for kind, content in self.chunks if kind == b"IDAT")
        try:
            stored = zlib.decompressobj().decompress(packed, self.unpacked)
        except zlib.error as error:
            raise UserError(f"it is damaged ({error})") from error
        if len(stored) < self.unpacked:
            raise UserError("it is cut short")
        lines = np.frombuffer(stored, np.uint8)
        out: Deep = np.zeros((self.height, self.width, self.channels), np.uint16)
        start = 0
        for rows, columns in self.passes:
            size = 1 + len(columns) * 2 * self.channels
            part = lines[start : start + len(rows) * size].reshape(len(rows), size)
            undone = _undo(part[:, 0], part[:, 1:].reshape(len(rows), len(columns), -1))
            out[rows.start :: rows.step, columns.start :: columns.step] = undone.view(">u2")
            start += part.size
        return out

    def transparent(self) -> Deep | None:
        """Return the colour that stands for a hole, [channels], where the file names one."""
        for kind, content in self.chunks:
            if kind == b"tRNS" and len(content) == 2 * self.channels:
                return np.frombuffer(content, ">u2").astype(np.uint16)
        return None


def is_deep(data: bytes) -> bool:
    """Whether these are the first bytes, 26 at least, of a PNG file of 16 bits a channel."""
    return data.startswith(SIGNATURE) and data[24:25] == b"\x10"


def decode(data: bytes, check: Callable[[int], None] = lambda unpacked: None) -> tuple[Deep, Deep | None]:
    """Return the numbers of a PNG file of 16 bits a channel, [H, W, 1 or 3], and its opacity [H, W], if it has one.

    Args:
        data: the file.
        check: told how many bytes it unpacks to before it is unpacked; may refuse.

    Raises:
        UserError: it is damaged, or has not 16 bits a channel.
    """
    file = DeepPng(data)
    check(file.unpacked)
    pixels, hole = file.pixels(), file.transparent()
    if file.channels in (2, 4):
        return pixels[..., :-1], pixels[..., -1]
    return pixels, None if hole is None else np.where((pixels == hole).all(-1), 0, 65535).astype(np.uint16)


def encode(pixels: Deep, *, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """Return a PNG file of 16 bits a channel.

    Args:
        pixels: [H, W, 1, 2, 3 or 4]: grey or three colours, and opacity.
        icc: a profile of the colours.
        exif: metadata, from the header of TIFF on.
    """
    height, width, channels = pixels.shape
    colour = {count: kind for kind, count in CHANNELS.items()}[channels]
    wide: Bytes = np.zeros((height + 1, width + 1, 2 * channels), np.int16)
    wide[1:, 1:] = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8)
    lines = np.full((height, 1 + width * 2 * channels), 4, np.uint8)
    for top in range(0, height, 64):  # a few at a time, for what they take on the way
        here, above = wide[top + 1 : top + 65], wide[top : top + 64][: height - top]
        left = here[:, 1:] - _nearest(here[:, :-1], above[:, 1:], above[:, :-1])
        lines[top : top + 64, 1:] = left.astype(np.uint8).reshape(len(here), -1)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    parts += [(b"iCCP", b"profile\0\0" + zlib.compress(icc))] if icc else []
    parts += [(b"eXIf", exif)] if exif else []
    parts += [(b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return kind and content of each part of a file.

    Raises:
        UserError: one is cut short, or is not what its checksum says.
    """
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise UserError("it is cut short")
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content, end = data[place + 8 : place + 8 + length], place + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(kind + content)):
            raise UserError("it is damaged: a checksum is wrong")
        yield kind, content
        place = end + 4


def _nearest(a: Bytes, b: Bytes, c: Bytes) -> Bytes:
    """Return P(a, b, c); of those equally near the first."""
    by_a, by_b = np.abs(b - c), np.abs(a - c)  # the distances of a + b - c from a and from b
    by_c = np.abs(a + b - 2 * c)
    chosen: Bytes = np.where((by_a <= by_b) & (by_a <= by_c), a, np.where(by_b <= by_c, b, c))
    return chosen


def _undo(filters: NDArray[np.uint8], stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes [h, w, n] of pixels whose lines were filtered.

    Raises:
        UserError: there is no such filter.
    """
    height, width, size = stored.shape
    if filters.max() > 4:
        raise UserError("it is damaged: there is no such filter")
    wide: Bytes = np.zeros(
        (height + 1, width + 1, size), np.int16
    )  # a line above and a column to the left of zeros
    kinds = filters[:, None]
    for place in range(height + width - 1):
        i = np.arange(max(0, place - width + 1), min(height, place + 1))
        j = place - i
        a, b, c = wide[i + 1, j], wide[i, j + 1], wide[i, j]
        guess = np.choose(kinds[i], [np.zeros_like(a), a, b, (a + b) // 2, _nearest(a, b, c)])
        wide[i + 1, j + 1] = (stored[i, j] + guess) & 255
    return np.ascontiguousarray(wide[1:, 1:]).astype(np.uint8)
