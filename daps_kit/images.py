"""Image files to tensors in [-1, 1] and back.

What a file of any kind becomes, before it is scaled linearly to [-1, 1] (black is -1, white is 1):

    1-bit, grey, 16-bit grey   one channel, at full depth
    floating point             one channel, values must lie in [0, 1]
    palette, CMYK, YCbCr       red, green and blue
    16-bit colour              the 8 bits that Pillow reads
    transparency               composited over white
    EXIF orientation           applied
    animations, multi-page     the first picture

For a prior over colour images, grey is tripled; for one over grey images, colour becomes its luma (BT.601).
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from daps_kit.errors import UserError
from daps_kit.files import write_atomic

__all__ = [
    "encode_png",
    "fit",
    "load_image",
    "png_is_whole",
    "save_png",
    "to_uint8",
    "with_channels",
]

_LUMA = (0.299, 0.587, 0.114)
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


def load_image(path: Path, channels: int | None = None) -> Tensor:
    """Return the image of a file, [C, H, W] in [-1, 1].

    Args:
        path: a file in any format that Pillow reads.
        channels: 1 or 3; None keeps one channel for grey files and three for the others.

    Raises:
        UserError: the file is missing, is no image, is damaged, or has no meaning in [-1, 1].
    """
    try:
        with warnings.catch_warnings():
            # A large photograph is no attack: Pillow refuses only what would not fit in memory.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                picture = ImageOps.exif_transpose(file)
        unit = _unit_array(picture)
    except UserError as error:
        raise UserError(f"cannot use {path}: {error}") from None
    except _DAMAGED as error:
        foreign = isinstance(error, UnidentifiedImageError)
        raise UserError(
            f"cannot read {path}: {'it is no known kind of image' if foreign else error}"
        ) from error
    image = torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1))) * 2 - 1
    return image if channels is None else with_channels(image, channels)


def _unit_array(picture: Image.Image) -> npt.NDArray[np.float32]:
    """Return the picture as [H, W, 1 or 3] in [0, 1]."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        values = np.asarray(picture).astype(np.float32) / np.float32(65535)
    elif picture.mode == "F":
        values = np.asarray(picture).astype(np.float32)
    else:
        grey = picture.mode in ("1", "L", "LA", "La")
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        values = np.asarray(picture.convert("RGB")).astype(np.float32) / np.float32(255)
        values = values[..., :1] if grey else values
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise UserError("values out of range (floating point: 0 to 1; whole numbers: 0 to 65535)")
    return values if values.ndim == 3 else values[..., None]


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Return an image [C, H, W] with 1 or 3 channels: grey is tripled, colour becomes its luma.

    Raises:
        UserError: there is no conversion to that many channels.
    """
    if len(image) == channels:
        return image
    if len(image) == 1:
        return image.expand(channels, -1, -1).clone()
    if len(image) == 3 and channels == 1:
        return (image * image.new_tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
    raise UserError(f"an image with {len(image)} channels cannot be given {channels}")


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
    """Return an image [C, H, W] in [-1, 1] as [H, W, 1 or 3] bytes: rounded, clipped, not-a-number as black.

    Of other numbers of channels the first three are shown, or the first of two.
    """
    shown = image[:3] if len(image) >= 3 else image[:1]
    levels = ((shown.detach().float().cpu().nan_to_num(nan=-1) + 1) * 127.5).round().clamp(0, 255)
    return np.ascontiguousarray(levels.to(torch.uint8).permute(1, 2, 0).numpy())


def encode_png(picture: Image.Image) -> bytes:
    """Return the picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(image: Tensor, path: Path) -> None:
    """Write an image [C, H, W] in [-1, 1] as an 8-bit PNG, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    levels = to_uint8(image)
    write_atomic(path, encode_png(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)))


def png_is_whole(path: Path) -> bool:
    """Return whether a PNG file is there and reaches to its end mark."""
    try:
        with path.open("rb") as file:
            file.seek(-8, io.SEEK_END)
            return file.read() == b"IEND\xaeB`\x82"
    except OSError:
        return False
