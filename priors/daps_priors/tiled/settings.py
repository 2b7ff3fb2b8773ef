"""What a recipe may say about a prior by windows. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from daps_kit.errors import ComponentError
from daps_kit.settings import PriorSettings, Shape
from daps_priors.papers import HU_2024

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Prior


class Tiled(PriorSettings):
    """Any prior for pictures of other sizes than its own: larger by overlapping windows, smaller as their middle."""

    name = "tiled"
    papers = (HU_2024,)
    of: PriorSettings = Field(description="the prior of a window, such as {use: ddpm}")
    window: int | None = Field(
        None, ge=2, description="side of the windows; that of the prior's images, where they have a size"
    )
    overlap: int | None = Field(
        None, ge=0, description="pixels that windows share with their neighbours; null: a quarter of a window"
    )
    batch_size: int = Field(8, ge=1, description="windows computed at once")

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the prior of a window cannot be built or has another size, or the pictures of the
                run have other channels, or, for a latent prior, sides between two latents.
        """
        from .padded import PaddedPrior
        from .prior import TiledLatentPrior, TiledPrior

        inner = self.of.build(shape=None, device=device)
        side = self.window
        if inner.shape is None and side is None:
            raise ComponentError("prior tiled: window is needed, because the prior takes images of any size")
        if inner.shape is not None and side is not None and inner.shape[1:] != (side, side):
            known = f"{inner.shape[1]} x {inner.shape[2]}"
            raise ComponentError(
                f"prior tiled: window {side} does not fit the prior, which knows images of {known}"
            )
        height, width = inner.shape[1:] if inner.shape is not None else (side or 0, side or 0)
        overlap = min(height, width) // 4 if self.overlap is None else self.overlap
        if overlap >= min(height, width):
            raise ComponentError(
                f"prior tiled: an overlap of {overlap} leaves nothing of a window of {min(height, width)}"
            )
        prior = (
            TiledLatentPrior(inner, overlap, batch_size=self.batch_size)
            if inner.latent
            else TiledPrior(inner, (height, width), overlap, batch_size=self.batch_size)
        )
        if shape is None:
            return prior
        padded = (shape[0], max(shape[1], height), max(shape[2], width))
        prior.require_fit(padded)
        return prior if padded == shape else PaddedPrior(prior, shape, padded)
