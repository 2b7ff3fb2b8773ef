"""Training images: a folder, a glob or a .npz file -> one uint8 array [N, H, W, C], checked and of one size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from daps_kit.arrays import read_numbers
from daps_kit.errors import UserError
from daps_kit.images import load_image, to_uint8
from daps_kit.training_images import picture_files, split

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSet:
    """Where the images of a training are, and which of them are held out.

    Attributes:
        source: a folder, a glob or a .npz file.
        side: of the squares they become, pixels.
        held_out: how many are never trained on.
        seed: of the choice of those.
    """

    source: Path
    side: int
    held_out: int
    seed: int

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the images to train on and those held out, uint8 [N, side, side, C].

        Raises:
            UserError: see `load_images` and `split`.
        """
        images = torch.from_numpy(load_images(self.source, self.side))
        train, held_out = split(len(images), self.held_out, self.seed)
        return images[train], images[held_out]


def load_images(source: Path, side: int) -> Pixels:
    """Read all images as uint8 [N, side, side, C].

    Images in files are cropped to a centred square and reduced to `side`; those of a .npz file must be `side` wide and
    high or larger, and are reduced alike.

    Raises:
        UserError: nothing is found, a file cannot be read, an image is too small, or grey and colour are mixed.
    """
    if source.suffix == ".npz":
        return _from_npz(source, side)
    files = picture_files(source)
    images: list[Pixels] = []
    for file in files:
        image = load_pixels(file)
        if images and image.shape[2] != images[0].shape[2]:
            raise UserError(
                f"{file} has {image.shape[2]} channel(s) but {files[0]} has {images[0].shape[2]}: "
                "train on grey or on colour images, not on both"
            )
        images.append(_fit(image, side, str(file)))
    return np.stack(images)


def load_pixels(file: Path) -> Pixels:
    """Return uint8 [H, W, 1 or 3]; a file that cannot be read so is an error."""
    return to_uint8(load_image(file))


def _from_npz(source: Path, side: int) -> Pixels:
    images: Pixels = read_numbers(source, "images", setting=None).values
    if images.dtype != np.uint8 or images.ndim not in {3, 4}:
        raise UserError(
            f"{source}: `images` must be uint8 [N, H, W, C] or [N, H, W], not {images.dtype} {list(images.shape)}"
        )
    images = images.reshape(*images.shape[:3], -1)
    if images.shape[1:3] == (side, side):
        return images
    return np.stack([_fit(image, side, f"{source}, row {i}") for i, image in enumerate(images)])


def _fit(image: Pixels, side: int, what: str) -> Pixels:
    height, width, _ = image.shape
    least = min(height, width)
    if least < side:
        raise UserError(
            f"{what} is {width} x {height} pixels: too small, frame and margin need {side} x {side}"
        )
    top, left = (height - least) // 2, (width - least) // 2
    square = image[top : top + least, left : left + least]
    if least == side:
        return square
    planes = [
        Image.fromarray(plane).resize((side, side), Image.Resampling.LANCZOS)
        for plane in np.moveaxis(square, 2, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
