r"""What a JPEG file says of itself: which numbers it keeps, in what steps, and what they are.

Of red, green and blue p it keeps brightness and two differences of colours, c = K p, the colours often as means of two
or four pixels. Blocks of 8 x 8 of each are transformed by an orthonormal cosine transform T; coefficient (u, v) is
rounded to a multiple of the step q_uv, which the file tells for brightness and for colours.

Decoders fill in coarse colours by lines between them, of values a and b side by side they make (3 a + b) / 4 and
(a + 3 b) / 4, and round these, from which a and b follow within a level.

Sources: ITU-T T.81 (1992), annex A, and T.871 (2011), section 7, for K; the filling in is that of libjpeg.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin
from scipy.linalg import solveh_banded

from daps_kit.reading import reading, require_size

__all__ = [
    "BLOCK",
    "COLOURS",
    "LEVELS",
    "TRANSFORM",
    "Coding",
    "Planes",
    "read_coding",
    "read_planes",
    "usual_coding",
]

BLOCK = 8
"""Pixels along a side of a block."""

COLOURS = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float64
)
"""K: brightness, blue and red."""

LEVELS = 127.5
"""Levels of 8 bits from grey to white."""

COARSE = {0: (1, 1), 1: (1, 2), 2: (2, 2)}
"""How many pixels share a colour, down and across, by what Pillow calls the samplings 4:4:4, 4:2:2 and 4:2:0."""

TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}
"""Whether rows are turned round, columns are, and then both change places, by the orientation that EXIF gives."""

Plane = NDArray[np.float64]


def _transform() -> Plane:
    k = np.arange(BLOCK)
    matrix: Plane = np.cos(np.pi * np.outer(k, 2 * k + 1) / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    matrix[0] /= np.sqrt(2)
    return matrix


TRANSFORM = _transform()
"""The cosine transform of 8 numbers, orthonormal."""


@dataclass(frozen=True)
class Coding:
    """How a file keeps a picture.

    Attributes:
        steps: q of each plane, [8, 8] in levels of 8 bits, u the row: one of a grey picture, or three.
        coarse: how many pixels share a colour, down and across, 1 or 2.
        turn: what makes the stored picture upright, see `TURNS`.
    """

    steps: tuple[Plane, ...]
    coarse: tuple[int, int]
    turn: tuple[bool, bool, bool]

    @property
    def colours(self) -> Plane:
        """K, [planes, channels]."""
        return COLOURS if len(self.steps) == len(COLOURS) else np.ones((1, 1))

    @property
    def unit(self) -> tuple[int, int]:
        """Height and width of what is coded together: a block of each colour."""
        down, across = self.coarse
        return BLOCK * down, BLOCK * across

    def same(self, other: Coding) -> bool:
        """Return whether another is the same."""
        steps = len(self.steps) == len(other.steps) and np.array_equal(self.steps, other.steps)
        return steps and (self.coarse, self.turn) == (other.coarse, other.turn)

    def shared(self, plane: int) -> tuple[int, int]:
        """Return how many pixels share a number of a plane, down and across."""
        return self.coarse if plane else (1, 1)


@dataclass(frozen=True)
class Planes:
    """What is in a file.

    Attributes:
        coding: how it is kept.
        values: brightness, blue and red, [h, w] of 0 to 255, the colours at fewer pixels where they are coarse; as
            stored, not turned.
    """

    coding: Coding
    values: tuple[Plane, ...]

    def picture(self) -> Plane:
        """Return the picture as stored, [C, H, W] about in [-1, 1]: colours filled in by themselves, nothing clipped.

        The means over the pixels that share a colour are those that were kept, which is not so where colours are filled
        in by lines.
        """
        height, width = self.values[0].shape
        whole = [self.values[0]]
        for plane in self.values[1:]:
            down, across = self.coding.coarse
            whole.append(plane.repeat(down, 0).repeat(across, 1)[:height, :width] - 128)
        pixels: Plane = np.tensordot(np.linalg.inv(self.coding.colours), np.stack(whole), 1)
        return pixels / LEVELS - 1

    def upright(self) -> Plane:
        """Return the picture as it is seen, [C, H, W]."""
        rows, columns, swapped = self.coding.turn
        seen = self.picture()[:, :: -1 if rows else 1, :: -1 if columns else 1]
        return np.ascontiguousarray(seen.swapaxes(1, 2) if swapped else seen)


def usual_coding(quality: int, sampling: str, *, grey: bool) -> Coding:
    """Return the coding of a quality, 1 to 100, and a sampling, such as 4:2:0, as libjpeg has it."""
    file = io.BytesIO()
    Image.new("L" if grey else "RGB", (BLOCK, BLOCK)).save(
        file, "JPEG", quality=quality, subsampling=sampling
    )
    coding = _coding(JpegImagePlugin.JpegImageFile(io.BytesIO(file.getvalue())))
    assert coding is not None
    return coding


def read_coding(path: Path) -> Coding | None:
    """Return how a file keeps a picture; None where it is no JPEG, or one of other colours or samplings than usual."""
    with reading(path), path.open("rb") as file:
        opened = _opened(file)
        return None if opened is None else _coding(opened)


def read_planes(path: Path) -> Planes | None:
    """Return what is in a file; None where `read_coding` does."""
    with reading(path), path.open("rb") as file:
        opened = _opened(file)
        coding = None if opened is None else _coding(opened)
        if opened is None or coding is None:
            return None
        if len(coding.steps) > 1:
            opened.draft("YCbCr", opened.size)
        require_size(path, math.prod(opened.size) * len(coding.steps))
        stored = np.asarray(opened, dtype=np.float64)
    values = [stored] if stored.ndim == 2 else list(np.moveaxis(stored, -1, 0))
    for axis, shared in enumerate(coding.coarse):
        if shared > 1:
            values[1:] = [_coarse(plane, axis) for plane in values[1:]]
    return Planes(coding, tuple(values))


def _opened(file: IO[bytes]) -> JpegImagePlugin.JpegImageFile | None:
    """Return a JPEG file, or the first picture of several, by Pillow; None of others."""
    try:
        return JpegImagePlugin.JpegImageFile(file)
    except SyntaxError:
        return None


def _coding(file: JpegImagePlugin.JpegImageFile) -> Coding | None:
    usual = file.mode == "L" or (file.mode == "RGB" and file.info.get("adobe_transform", 1) == 1)
    coarse = (1, 1) if file.mode == "L" else COARSE.get(JpegImagePlugin.get_sampling(file))
    if not usual or coarse is None or [part[0] for part in file.layer] == list(b"RGB"):
        return None
    steps = tuple(
        np.array(file.quantization[part[3]], dtype=np.float64).reshape(BLOCK, BLOCK) for part in file.layer
    )
    return Coding(steps, coarse, TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1), TURNS[1]))


def _coarse(filled: Plane, axis: int) -> Plane:
    """Return the numbers between which a decoder has filled in along an axis, by least squares."""
    filled = np.moveaxis(filled, axis, 0)
    count, odd = -(-len(filled) // 2), len(filled) % 2
    if count == 1:
        return np.moveaxis(filled[:1], 0, axis)
    # Of the matrix F of the filling in, F^T F has three diagonals.
    bands = np.full((2, count), 6 / 16)
    bands[1] = 20 / 16
    bands[1, 0], bands[1, -1] = 26 / 16, 10 / 16 if odd else 26 / 16
    beyond = np.zeros((2, *filled.shape[1:])) if odd else filled[-1:]
    whole = np.concatenate([filled[:1], filled, beyond])
    near, far = (
        whole[begin : begin + 2 * count : 2] + whole[begin + step : begin + step + 2 * count : 2]
        for begin, step in ((1, 1), (0, 3))
    )
    return np.moveaxis(solveh_banded(bands, (3 * near + far) / 4), 0, axis)
