"""The forward models that ship with daps-kit: their settings, and the door through which the host finds them.

Importing this module does not import torch; each `build` imports the file of its family.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from daps_kit.hooks import hookimpl
from daps_kit.settings import (
    DrawnOperatorSettings,
    FilePath,
    FloatRange,
    IntRange,
    OperatorSettings,
)

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Operator

Shape = tuple[int, int, int]


class Identity(OperatorSettings):
    """Denoising: the image itself is measured."""

    name = "identity"

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .mask import Identity

        return Identity(shape, self.noise.build())


class Inpainting(DrawnOperatorSettings):
    """Inpainting: some pixels are hidden, by a box, at random, or by a mask of the user's own."""

    name = "inpainting"
    mask: Literal["box", "random"] | FilePath = Field(
        "box", description="'box', 'random', or a .npy or .png file (0 or black: hidden)"
    )
    mask_len_range: IntRange | None = Field(
        None, description="side of the box in pixels, low <= side < high; half of the image where not given"
    )
    margin: int | None = Field(
        None, ge=0, description="least distance of the box from the border; an eighth of the image where not given"
    )
    mask_prob_range: FloatRange = Field(
        (0.70, 0.71), description="share of pixels hidden at random, drawn uniformly from low to high"
    )

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator with its mask."""
        from .mask import build_inpainting

        return build_inpainting(self, shape, seed, device)


class HighDynamicRange(OperatorSettings):
    """High dynamic range: the image is over-exposed and clipped."""

    name = "high_dynamic_range"
    scale: float = Field(2.0, gt=0, description="exposure; values beyond 1 / scale are clipped")

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .high_dynamic_range import HighDynamicRange

        return HighDynamicRange(shape, self.noise.build(), self.scale)


@hookimpl
def daps_operators() -> Iterable[type[OperatorSettings]]:
    """Return the settings of the forward models of this package."""
    return [Identity, Inpainting, HighDynamicRange]
