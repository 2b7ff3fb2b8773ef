"""Where the images of a run come from: files, samples of the prior, or a measurement of the user's own."""

from __future__ import annotations

import glob
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from daps_kit.errors import UserError
from daps_kit.files import files_of
from daps_kit.paths import existing_file, readable_file, resolve_path
from daps_kit.reading import ARRAY_SUFFIXES, PICTURE_SUFFIXES
from daps_kit.remote import fetch, url_of
from daps_kit.settings import Settings

__all__ = ["DataSettings", "ImagesData", "MeasurementData", "PriorData", "chosen", "image_files"]


def image_files(patterns: tuple[Path, ...]) -> list[Path]:
    """Return the image files that the patterns stand for, in their order, each once."""
    return list(
        dict.fromkeys(file for pattern in patterns for file in files_of(pattern, PICTURE_SUFFIXES)[0])
    )


def _patterns(value: Any) -> Any:
    """Return the paths of a recipe as absolute ones, each of which stands for at least one file that is read."""
    paths = [resolve_path(item) for item in (value if isinstance(value, list | tuple) else [value])]
    for path in paths:
        if not isinstance(path, Path):
            continue
        try:
            fetch(path)
            found, _ = files_of(path, PICTURE_SUFFIXES)
        except UserError as error:
            raise ValueError(str(error)) from error
        except (OSError, ValueError) as error:
            raise ValueError(f"{str(path)[:300]}: {getattr(error, 'strerror', None) or error}") from None
        if not found and path.is_dir():
            pictures = ", ".join(sorted(PICTURE_SUFFIXES))
            raise ValueError(f"no image in the folder {path}; images are {pictures}")
        if not found and not glob.has_magic(str(path)):
            existing_file(path, "file or folder")
        if not found:
            raise ValueError(f"no image matches {url_of(path) or path}")
        if found == [path]:
            readable_file(path)
    return tuple(paths)


Patterns = Annotated[
    tuple[Path, ...],
    BeforeValidator(_patterns),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]
Side = Annotated[int, Field(ge=1)]


T = TypeVar("T")


SHUFFLE = Field(
    None,
    ge=0,
    description="seed of the order in which the items are taken; that of their names where not given",
)
OFFSET = Field(0, ge=0, description="how many items to leave out before the first")
LIMIT = Field(None, ge=1, description="how many items to take at most")


def chosen(data: ImagesData | MeasurementData, items: Iterable[T]) -> list[T]:
    """Return the items of the run, in its order, out of all that there are.

    Raises:
        UserError: none is left.
    """
    found = list(items)
    if data.shuffle is not None:
        random.Random(data.shuffle).shuffle(found)
    if data.offset and data.offset >= len(found):
        raise UserError(f"data.offset: {data.offset} leaves nothing of {len(found)} items")
    return found[data.offset :][: data.limit]


class ImagesData(Settings):
    """Images from files, which are measured by the operator."""

    use: Literal["images"] = "images"
    path: Patterns = Field(
        min_length=1,
        description="a file, a folder or a glob pattern, or a list of them; relative to the recipe",
    )
    size: Side | tuple[Side, Side] | None = Field(
        None,
        description="one number or [height, width] to resize and crop to; the prior's size where not given",
    )
    shuffle: int | None = SHUFFLE
    offset: int = OFFSET
    limit: int | None = LIMIT
    white_level: float | None = Field(
        None,
        gt=0,
        description="number that means white in the files, such as 4095 for 12 bits in a 16-bit file; the largest of "
        "their depth where not given",
    )

    @property
    def files(self) -> list[Path]:
        """The image files, in the order of the run."""
        return chosen(self, image_files(self.path))

    @property
    def notes(self) -> list[str]:
        """What was passed over in folders."""
        return [note for path in self.path if (note := files_of(path, PICTURE_SUFFIXES)[1])]


class PriorData(Settings):
    """Images drawn from the prior, which are measured by the operator."""

    use: Literal["prior"] = "prior"
    count: int = Field(ge=1, le=1_000_000, description="how many images to draw")
    offset: int = Field(0, ge=0, description="the number of the first; draws of another number are others")
    image_shape: tuple[Side, Side, Side] | None = Field(
        None, description="[channels, height, width] of the images; the prior's where not given"
    )

    @property
    def files(self) -> list[Path]:
        """No files are read."""
        return []


READ = (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES)
"""Suffixes of the files of a measurement."""


def _readable(value: Any) -> Any:
    path = readable_file(value)
    if isinstance(path, Path) and path.is_dir() and not files_of(path, READ)[0]:
        raise ValueError(f"nothing in the folder {path} is read; files are {' '.join(READ)}")
    return path


Readable = Annotated[Path, BeforeValidator(_readable)]
"""A file of a known format, or a folder that holds one."""


class MeasurementData(Settings):
    """A measurement of the user's own; the operator says how it came about."""

    use: Literal["measurement"] = "measurement"
    path: Readable = Field(
        description="a file, or a folder of them, one measurement each or several: an array (.npy, .npz, .pt, "
        ".safetensors, .mat; by the extra `formats` .h5, .nii, .nc) or a picture; relative to the recipe"
    )
    key: str | None = Field(None, description="name of the array in a file that holds several")
    axes: Literal["CHW", "HWC"] = Field(
        "CHW", description="order of the last axes of arrays: channels first, or last as in pictures"
    )
    white_level: float | None = Field(
        None,
        gt=0,
        description="number that means white, the value 1; 0 means black: 4095 for 12 bits in a 16-bit file, the peak "
        "of photon counts, 1 for an array on [0, 1]. Where not given, the largest of their depth for pictures and "
        "whole numbers, and arrays of real numbers are taken as they are",
    )
    image_shape: tuple[Side, Side, Side] | None = Field(
        None, description="[channels, height, width] of the images to find; the prior's where not given"
    )
    truth: Readable | None = Field(
        None,
        description="the true image, to compare with, where it is known; of a folder of measurements a folder, "
        "in which those with the same names belong together",
    )
    shuffle: int | None = SHUFFLE
    offset: int = OFFSET
    limit: int | None = LIMIT

    @property
    def files(self) -> list[Path]:
        """The files of measurements and true images."""
        paths = [self.path, *([self.truth] if self.truth else [])]
        return [file for path in paths for file in files_of(path, READ)[0]]


DataSettings = Annotated[ImagesData | PriorData | MeasurementData, Field(discriminator="use")]
