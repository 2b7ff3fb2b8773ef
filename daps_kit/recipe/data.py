"""Where the images of a run come from: files, samples of the prior, or a measurement of the user's own."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from daps_kit.files import natural_key
from daps_kit.settings import FilePath, Settings, resolve_path

__all__ = ["DataSettings", "ImagesData", "MeasurementData", "PriorData", "image_files"]

IMAGE_SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".jp2",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
    }
)


def _matches(pattern: Path) -> list[Path]:
    """Return the image files that a file, a folder or a glob pattern stands for, in natural order."""
    if pattern.is_dir():
        return _ordered(file for file in pattern.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if pattern.is_file():
        return [pattern]
    found = map(Path, glob.glob(str(pattern), recursive=True)) if glob.has_magic(str(pattern)) else ()
    return _ordered(file for file in found if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES)


def _ordered(files: Iterable[Path]) -> list[Path]:
    """Return files in natural order: img2 before img10."""
    return sorted(files, key=lambda file: natural_key(str(file)))


def image_files(patterns: tuple[Path, ...]) -> list[Path]:
    """Return the image files that the patterns stand for, in their order, each once."""
    return list(dict.fromkeys(file for pattern in patterns for file in _matches(pattern)))


def _patterns(value: Any) -> Any:
    """Return the paths of a recipe as absolute ones, each of which stands for at least one file."""
    paths = [resolve_path(item) for item in (value if isinstance(value, list | tuple) else [value])]
    for path in paths:
        if isinstance(path, Path) and not _matches(path):
            if path.is_dir():
                raise ValueError(
                    f"no image in the folder {path}; images are {', '.join(sorted(IMAGE_SUFFIXES))}"
                )
            magic = glob.has_magic(str(path))
            raise ValueError(f"no image matches {path}" if magic else f"no such file or folder: {path}")
    return tuple(paths)


Patterns = Annotated[
    tuple[Path, ...],
    BeforeValidator(_patterns),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]
Side = Annotated[int, Field(ge=1)]


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
    limit: int | None = Field(None, ge=1, description="how many images to take at most")

    @property
    def files(self) -> list[Path]:
        """The image files, in the order of the run."""
        return image_files(self.path)[: self.limit]


class PriorData(Settings):
    """Images drawn from the prior, which are measured by the operator."""

    use: Literal["prior"] = "prior"
    count: int = Field(ge=1, description="how many images to draw")
    image_shape: tuple[Side, Side, Side] | None = Field(
        None, description="[channels, height, width] of the images; the prior's where not given"
    )


class MeasurementData(Settings):
    """A measurement of the user's own; the operator says how it came about."""

    use: Literal["measurement"] = "measurement"
    path: FilePath = Field(
        description="a .npy, .npz, .pt or .safetensors file or an image; relative to the recipe"
    )
    key: str | None = Field(None, description="name of the array in a file that holds several")
    image_shape: tuple[Side, Side, Side] | None = Field(
        None, description="[channels, height, width] of the images to find; the prior's where not given"
    )
    truth: FilePath | None = Field(None, description="the true image, to compare with, where it is known")


DataSettings = Annotated[ImagesData | PriorData | MeasurementData, Field(discriminator="use")]
