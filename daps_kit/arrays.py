"""Numbers out of a user's file, for each purpose by the same readers; nothing in a file is ever run.

    measurements     real numbers of an array as they are; pictures, and whole numbers, on the scale of the operator
    images, truths   likewise, on [-1, 1] (`daps_kit.images.load_image`)
    masks, kernels   numbers as they are; a picture's grey values (BT.601) times its opacity

A measurement that means light lies between black, -1 for images and 0 for magnitudes, and white, which is 1:

    y = black + (1 - black) v / white,

where v is the number in the file and white that of its depth (255, 65535; 1 for pictures of real numbers), or
`white_level` where that is given: 4095 for 12 bits in a 16-bit file, the expected count at white for photons, 1 for an
array on [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from daps_kit.errors import UserError

from .reading import ARRAY_SUFFIXES, Numbers, naming, reading, suffix_of, unknown_format

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LUMA", "Numbers", "on_scale", "read_array", "read_map", "read_numbers", "with_channels"]

LUMA = (0.299, 0.587, 0.114)


def read_numbers(
    path: Path,
    key: str | None = None,
    *,
    usual: Iterable[str] = ("y",),
    setting: str | None = "data.key",
) -> Numbers:
    """Return the numbers of a file as they are stored, in the byte order of this machine.

    Args:
        path: a file of one of the formats in `daps_kit.reading`.
        key: which array of a file that holds several; without it the only one, or the first of `usual` that is there.
        usual: see `key`.
        setting: how to call the setting that `key` comes from.

    Raises:
        UserError: its name tells no format, it cannot be read, holds something else than real numbers, or has no such
            key; one line that names the file.
    """
    if problem := unknown_format(path):
        raise UserError(problem)
    suffix = suffix_of(path)
    with reading(path):
        from .reading.array_formats import READERS, Choice
        from .reading.picture_formats import read_picture

        choice = Choice(key, usual, setting)
        if suffix not in ARRAY_SUFFIXES:
            return read_picture(path, suffix, choice)
        values = READERS[suffix](path, choice)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            kind = getattr(values, "dtype", type(values).__name__)
            complex_numbers = isinstance(values, np.ndarray) and values.dtype.kind == "c"
            hint = "; give magnitudes, or real and imaginary parts" if complex_numbers else ""
            raise UserError(f"expected an array of real numbers, got {kind}{hint}")
        white = {"b": 1.0, "u": float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else None}
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return Numbers(native, white.get(values.dtype.kind))


def on_scale(numbers: Numbers, black: float = -1.0, white_level: float | None = None) -> NDArray[np.float32]:
    """Return the numbers of a measurement or an image, from black to white = 1; opacity is laid over white.

    Args:
        numbers: as they were read.
        black: the value that means no light.
        white_level: the number that means white, in place of the file's own.

    Raises:
        UserError: whole numbers whose white is not known.
    """
    values, white = numbers.values, white_level or numbers.white
    whole = values.dtype.kind in "iub"
    if white is None and not whole:
        with np.errstate(over="ignore"):  # what is too large for single precision is infinite
            return values.astype(np.float32)
    if white is None:
        raise UserError(
            f"{values.dtype} does not tell which number is white; give real numbers on the scale of the operator's "
            "output, or white_level"
        )
    if whole and black != -1 and white_level is None:
        raise UserError(
            f"{values.dtype} has no scale as magnitudes; give real numbers, or white_level, the number that means 1"
        )
    precise = np.dtype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    unit = np.divide(values, white, dtype=precise, casting="unsafe").astype(np.float32, copy=False)
    if numbers.alpha is not None:
        unit *= numbers.alpha
        unit += 1 - numbers.alpha
        if white == 255:
            unit *= np.float32(255)
            np.rint(unit, out=unit)
            unit /= np.float32(255)
    unit *= np.float32(1 - black)  # in place: pictures may be large
    unit += np.float32(black)
    scaled: NDArray[np.float32] = unit
    return scaled


def read_array(
    path: Path,
    key: str | None = None,
    channels: int | None = None,
    *,
    black: float = -1.0,
    white_level: float | None = None,
    axes: Literal["CHW", "HWC"] = "CHW",
    doubt: Callable[[str], None] | None = None,
) -> Tensor:
    """Return the numbers of a file as a float32 tensor on the scale of an operator.

    Args:
        path: arrays of real numbers are taken as they are; pictures and whole numbers from black to white = 1.
        key: which array of a file that holds several; without it the only one, or the one called `y`.
        channels: of a picture; its own where not given.
        black: the value that means no light.
        white_level: the number that means white, in place of the file's own.
        axes: the order of an array's last three axes.
        doubt: is told where whole numbers use so little of their depth that white is likely another number.

    Raises:
        UserError: the file is damaged, holds something else than real numbers, or does not have the key; whole numbers
            use less than a hundredth of their depth.
    """
    import torch

    numbers = read_numbers(path, key)
    with naming(path):
        deep = numbers.values.dtype.kind == "u" and numbers.values.dtype.itemsize > 1 and numbers.values.size
        if doubt and deep and numbers.white and white_level is None:
            largest = int(numbers.values.max())
            text = f"the largest number is {largest} of {numbers.white:.0f}"
            if largest * 100 < numbers.white:
                raise UserError(
                    f"{text}, which is black everywhere; say which number means white as data.white_level, such as the "
                    "peak of photon counts"
                )
            if largest * 8 < numbers.white:
                doubt(
                    f"{path}: {text}; if another number means white (4095 for 12 bits), say data.white_level"
                )
        tensor = torch.from_numpy(np.ascontiguousarray(on_scale(numbers, black, white_level)))
        if axes == "HWC" and not numbers.picture and tensor.ndim >= 3:
            tensor = tensor.movedim(-1, -3).contiguous()
        return (
            with_channels(tensor, channels) if numbers.picture and channels and tensor.ndim == 3 else tensor
        )


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
        return (image * image.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    raise UserError(f"an image with {len(image)} channels cannot be given {channels}")


def read_map(path: Path, *usual: str) -> NDArray[np.float64]:
    """Return the numbers of a mask or a kernel as they are; those of a picture are [H, W], grey times opacity.

    A picture of one colour, which may be black, says all by its opacity.

    Args:
        path: a file of one of the formats in `daps_kit.reading`.
        usual: names of the array that is meant, in a file that holds several.

    Raises:
        UserError: the file cannot be read, or holds anything but finite real numbers.
    """
    numbers = read_numbers(path, usual=usual, setting=None)
    values: NDArray[Any] = numbers.values
    if numbers.picture:
        values = values.astype(np.float64)
        values = np.tensordot(LUMA, values, 1) if len(values) == 3 else values.squeeze()
        if numbers.alpha is not None:
            shaped = np.ptp(values) == 0 and np.ptp(numbers.alpha) > 0
            values = numbers.alpha * (numbers.white or 1) if shaped else values * numbers.alpha
    if not values.size or not np.isfinite(values).all():
        raise UserError(f"{path} is empty or has values that are not finite; allowed: finite numbers")
    return values.astype(np.float64)
