"""A picture of a user's own, and restored pictures in its form: depth, opacity, colour profile, EXIF.

Pictures are written as PNG, which loses nothing: 8 bits a channel where the file had at most 8, else 16, upright,
whatever way the camera lay. A prior sees a picture as it looks on white,

    z = a c + (1 - a)    of the colour c and the opacity a,

and a restored z is taken apart again: c = (z - 1 + a) / a, with the opacity of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from daps_kit.arrays import on_scale, read_numbers
from daps_kit.errors import UserError
from daps_kit.images import encode_png
from daps_kit.reading import PICTURE_SUFFIXES, deep_png, naming, optional, reading, suffix_of
from daps_kit.reading.picture_formats import open_picture

__all__ = ["Picture", "read"]

COLOUR_SPACE = {1: b"GRAY", 3: b"RGB "}
"""What a profile says it is about (ICC.1, 7.2.8), by the number of channels."""
TIFF_PROFILE = 34675
COARSE = (1, 2)
"""What Pillow calls the samplings 4:2:2 and 4:2:0 of JPEG: colours at half the pixels along one axis or both."""

Pixels = NDArray[Any]
"""Numbers of 8 or 16 bits, [H, W, channels]."""


@dataclass(frozen=True)
class Picture:
    """A picture as it was read.

    Attributes:
        path: its file.
        seen: how it looks on white, [1 or 3, H, W] in [-1, 1].
        levels: its numbers, [H, W, 1 or 3], of 8 or 16 bits.
        alpha: the opacity, [H, W] from 0 to 1; None where all is opaque.
        icc: the profile of its colours, where it has one.
        exif: what the camera wrote, without the orientation, which is applied.
        coarse_colours: whether the file has its colours at fewer pixels than its brightness, as most JPEG files.
    """

    path: Path
    seen: NDArray[np.float32]
    levels: Pixels
    alpha: NDArray[np.float32] | None
    icc: bytes | None
    exif: bytes | None
    coarse_colours: bool

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.levels.shape[0], self.levels.shape[1]

    def in_form(
        self,
        image: NDArray[np.float32],
        kept: NDArray[np.bool_] | None = None,
        filled: NDArray[np.bool_] | None = None,
    ) -> Pixels:
        """Return an image as numbers of this picture's depth, with its opacity as the last channel where it has one.

        Args:
            image: how it looks on white, [C, h, w] in [-1, 1]; of another size the opacity is resized.
            kept: [H, W], true where the picture stays as it is.
            filled: [H, W], true where the image is opaque even if the picture is not.
        """
        unit = (image.astype(np.float64).transpose(1, 2, 0) + 1) / 2
        if unit.shape[2] > self.levels.shape[2]:
            unit = unit.mean(2, keepdims=True)
        white, alpha = np.iinfo(self.levels.dtype).max, self._opacity(unit.shape[:2])
        if alpha is not None:
            alpha = alpha if filled is None else np.where(filled[..., None], 1, alpha)
            there = alpha > 0
            unit = np.where(there, (unit - 1 + alpha) / np.where(there, alpha, 1), unit)
            kept = ~there[..., 0] if kept is None else kept | ~there[..., 0]
        levels: Pixels = np.rint(unit.clip(0, 1) * white).astype(self.levels.dtype)
        if kept is not None and levels.shape == self.levels.shape:
            levels[kept] = self.levels[kept]
        if alpha is not None:
            levels = np.concatenate([levels, np.rint(alpha * white).astype(levels.dtype)], 2)
        return levels

    def own_form(self) -> Pixels:
        """Return the picture itself as `in_form` returns an image."""
        return self.in_form(self.seen, np.ones(self.size, bool))

    def encode(self, levels: Pixels) -> bytes:
        """Return numbers in this picture's form as a PNG file, with its profile and its EXIF."""
        if levels.dtype == np.uint16:
            return deep_png.encode(levels, icc=self.icc, exif=self.exif)
        return encode_png(_image(levels), icc=self.icc, exif=self.exif)

    def beside(self, pictures: Sequence[Pixels], gap: int = 8) -> bytes:
        """Return pictures in this form side by side, on white, as a PNG file; the first is enlarged to the last."""
        height, width = pictures[-1].shape[:2]
        canvas = Image.new("RGB", (len(pictures) * (width + gap) - gap, height), "white")
        for place, levels in enumerate(pictures):
            eight = levels if levels.dtype == np.uint8 else np.rint(levels / 257).astype(np.uint8)
            shown = _image(eight).convert("RGBA").resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(shown, (place * (width + gap), 0), shown)
        return encode_png(canvas.convert("L") if self.levels.shape[2] == 1 else canvas, icc=self.icc)

    def _opacity(self, size: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Return the opacity at a size, [h, w, 1]."""
        if self.alpha is None:
            return None
        alpha = self.alpha
        if alpha.shape != size:
            resized = Image.fromarray(alpha).resize((size[1], size[0]), Image.Resampling.BICUBIC)
            alpha = np.asarray(resized).clip(0, 1)
        return alpha.astype(np.float64)[..., None]


def _image(levels: Pixels) -> Image.Image:
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def read(path: Path) -> Picture:
    """Return a picture.

    Raises:
        UserError: the file cannot be read or is no picture between black and white, grey or in colour.
    """
    if suffix_of(path) not in PICTURE_SUFFIXES:
        raise UserError(f"{path} is no picture; pictures are {', '.join(PICTURE_SUFFIXES)}")
    numbers = read_numbers(path)
    with naming(path):
        seen, values = on_scale(numbers), numbers.values
        if values.ndim != 3 or len(values) not in COLOUR_SPACE:
            raise UserError(f"a picture is grey or in colour, this has the shape {list(values.shape)}")
        if numbers.white is None or not (np.isfinite(seen).all() and np.abs(seen).max() <= 1 + 1e-6):
            low, high = values.min(), values.max()
            raise UserError(
                f"its numbers, {low:g} to {high:g}, do not tell which is white; scale them to [0, 1]"
            )
    dtype = np.uint8 if numbers.white <= 255 and values.dtype.kind in "ub" else np.uint16
    unit = values.transpose(1, 2, 0) / np.float64(numbers.white)
    levels: Pixels = np.rint(unit * np.iinfo(dtype).max).astype(dtype)
    return Picture(path, seen.clip(-1, 1), levels, numbers.alpha, *_carried(path, len(values)))


def _carried(path: Path, channels: int) -> tuple[bytes | None, bytes | None, bool]:
    """Return the profile of a file, if it is about the colours that are read, its EXIF without orientation, and whether
    its colours are coarse.
    """
    icc: bytes | None = None
    coarse = False
    exif = Image.Exif()
    with reading(path):
        try:
            with open_picture(path) as file:
                icc = file.info.get("icc_profile")
                coarse = JpegImagePlugin.get_sampling(file) in COARSE
                if "exif" in file.info:
                    exif.load(file.info["exif"])
        except UnidentifiedImageError:
            if suffix_of(path) in (".tif", ".tiff"):
                with optional("tifffile").TiffFile(path) as tiff:
                    tag = tiff.pages.first.tags.get(TIFF_PROFILE)
                    icc = bytes(tag.value) if tag else None
        exif.pop(ExifTags.Base.Orientation, None)
        packed = exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None
    return icc if icc and icc[16:20] == COLOUR_SPACE[channels] else None, packed, coarse
