"""What a recipe may say about the priors of photographs. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from daps_kit.settings import PriorSettings, Shape
from daps_priors.papers import FIELD_1987, KARRAS_2022
from daps_priors.precision import Dtype

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Prior

WEIGHTS = Path(__file__).parents[1] / "weights"


class _OfPhotographs(PriorSettings):
    """A prior of photographs, with weights that ship with the package."""

    file: ClassVar[Path]

    dtype: Dtype = Field(
        "auto",
        description="what convolutions compute in: bfloat16 is as exact, and faster where the processor has it, which "
        "`auto` finds out",
    )
    head: bool = Field(
        True,
        description="whether its head tells how much fine detail the denoiser leaves open in the picture at hand "
        "(sampler.spread 'calibrated'): without it that is the mean over pictures",
    )

    def files(self) -> list[Path]:
        """Return the file of the weights."""
        return [self.file]

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the images of the run are too small or have another number of channels.
        """
        from .prior import load_photos

        return load_photos(self.file, shape=shape, device=device, dtype=self.dtype, head=self.head)


class Photos(_OfPhotographs):
    """Colour photographs of any kind and any size from 8 x 8 pixels up; it ships with the package."""

    name = "photos"
    papers = (KARRAS_2022, FIELD_1987)
    file = WEIGHTS / "photos.safetensors"


class PhotosGrey(_OfPhotographs):
    """Grey photographs of any kind and any size from 8 x 8 pixels up; it ships with the package."""

    name = "photos_grey"
    papers = (KARRAS_2022, FIELD_1987)
    file = WEIGHTS / "photos_grey.safetensors"


def shipped() -> list[type[PriorSettings]]:
    """Return the priors of photographs; grey ones only where their weights are there."""
    return [Photos, PhotosGrey] if PhotosGrey.file.exists() else [Photos]
