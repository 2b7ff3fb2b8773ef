"""Image files to tensors in [-1, 1] and back.

What a file of any kind becomes, before it is scaled linearly to [-1, 1] (black is -1, white is 1):

    1-bit, grey, 16-bit grey   one channel, at full depth
    floating point             values must lie in [0, 1]
    palette, CMYK, YCbCr       red, green and blue
    16-bit colour              full depth (TIFF: by tifffile)
    transparency               composited over white
    EXIF orientation           applied
    animations, multi-page     the first picture
    an array                   [H, W] or [C, H, W]; whole numbers by their depth, real numbers must lie in [-1, 1]

For a prior over colour images, grey is tripled; for one over grey images, colour becomes its luma (BT.601).
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from daps_kit.errors import UserError
from daps_kit.files import write_atomic

from .arrays import on_scale, read_numbers, with_channels
from .reading import naming

__all__ = [
    "encode_png",
    "fit",
    "image_png",
    "load_image",
    "png_is_whole",
    "save_png",
    "to_uint8",
]


def load_image(path: Path, channels: int | None = None, white_level: float | None = None) -> Tensor:
    """Return the image of a file, [C, H, W] in [-1, 1].

    Args:
        path: a picture or an array in one of the formats of `daps_kit.reading`.
        channels: 1 or 3; None keeps the file's own.
        white_level: the number that means white, where it is not the largest of the file's depth.

    Raises:
        UserError: the file is missing, is no image, is damaged, or has no meaning in [-1, 1].
    """
    numbers = read_numbers(path)
    with naming(path):
        values = on_scale(numbers, white_level=white_level)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or not values.size:
            raise UserError(f"an image has the shape [H, W] or [C, H, W], not {list(numbers.values.shape)}")
        if wrong := int((~np.isfinite(values)).sum()):
            raise UserError(f"{wrong} of {values.size} values are infinite or NaN")
        if abs(values).max() > 1 + 1e-6:
            low, high = numbers.values.min(), numbers.values.max()
            white = white_level or numbers.white
            allowed = (
                "-1 to 1"
                if white is None
                else f"floating point: 0 to 1; white_level sets more than {white:g}"
            )
            raise UserError(f"values out of range, {low:g} to {high:g} ({allowed})")
        image = torch.from_numpy(np.ascontiguousarray(values.clip(-1, 1)))
        return image if channels is None else with_channels(image, channels)


def fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image [C, H, W] at the size (h, w): resized until it just covers that, cropped at the centre.

    Bilinear with antialiasing. A square size fixes the short side, as in the published implementation.
    """
    (h, w), (target_h, target_w) = image.shape[-2:], size
    if target_h * w >= target_w * h:
        new = (target_h, max(target_w, int(target_h * w / h)))
    else:
        new = (max(target_h, int(target_w * h / w)), target_w)
    if new != (h, w):
        image = interpolate(image[None], new, mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = round((new[0] - target_h) / 2), round((new[1] - target_w) / 2)
    return image[:, top : top + target_h, left : left + target_w].contiguous()


def to_uint8(image: Tensor) -> npt.NDArray[np.uint8]:
    """Return an image [C, H, W] in [-1, 1] as [H, W, 1 or 3] bytes: rounded, clipped, NaN as black.

    Of other numbers of channels the first three are shown, or the first of two.
    """
    shown = image[:3] if len(image) >= 3 else image[:1]
    levels = ((shown.detach().float().cpu().nan_to_num(nan=-1) + 1) * 127.5).round().clamp(0, 255)
    return np.ascontiguousarray(levels.to(torch.uint8).permute(1, 2, 0).numpy())


def encode_png(picture: Image.Image, *, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """Return the picture as the bytes of a PNG file, with a profile of its colours and EXIF where they are given."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", icc_profile=icc, exif=exif)
    return buffer.getvalue()


def save_png(image: Tensor, path: Path) -> None:
    """Write an image [C, H, W] in [-1, 1] as an 8-bit PNG, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    write_atomic(path, image_png(image))


def image_png(image: Tensor) -> bytes:
    """Return an image [C, H, W] in [-1, 1] as the bytes of an 8-bit PNG file."""
    levels = to_uint8(image)
    return encode_png(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels))


def png_is_whole(path: Path, size: tuple[int, int] | None = None) -> bool:
    """Return whether a PNG file is there, reaches to its end mark, and all its chunks have the checksums they say.

    Args:
        path: of the file.
        size: height and width that it must have.
    """
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    if size is not None and data[16:24] != size[1].to_bytes(4, "big") + size[0].to_bytes(4, "big"):
        return False
    at, kind = 8, b""
    while kind != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        kind, checksum = data[at + 4 : at + 8], data[end : end + 4]
        if len(checksum) < 4 or zlib.crc32(data[at + 4 : end]) != int.from_bytes(checksum, "big"):
            return False
        at = end + 4
    return data.startswith(b"\x89PNG\r\n\x1a\n") and at == len(data)
