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
    """Any prior over pixels for pictures larger than its own, by overlapping windows."""

    name = "tiled"
    papers = (HU_2024,)
    of: PriorSettings = Field(description="the prior of a window, such as {use: ddpm}")
    window: int | None = Field(
        None, ge=2, description="side of the windows; that of the prior's images, where they have a size"
    )
    overlap: int | None = Field(
        None, ge=0, description="pixels that windows share with their neighbours; null: a quarter of a window"
    )
    batch_size: int = Field(8, ge=1, description="windows denoised at once")

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the prior of a window cannot be built, is latent or has another size, or the
                pictures of the run are smaller than a window.
        """
        from .prior import TiledPrior

        inner = self.of.build(shape=None, device=device)
        side = self.window
        if inner.latent:
            raise ComponentError("prior tiled: `of` must be a prior over pixels, not over latents")
        if inner.shape is None and side is None:
            raise ComponentError("prior tiled: window is needed, because the prior takes images of any size")
        if inner.shape is not None and side is not None and inner.shape[1:] != (side, side):
            known = f"{inner.shape[1]} x {inner.shape[2]}"
            raise ComponentError(
                f"prior tiled: window {side} does not fit the prior, which knows images of {known}"
            )
        window = inner.shape[1:] if inner.shape is not None else (side or 0, side or 0)
        overlap = min(window) // 4 if self.overlap is None else self.overlap
        if overlap >= min(window):
            raise ComponentError(
                f"prior tiled: an overlap of {overlap} leaves nothing of a window of {min(window)}"
            )
        prior = TiledPrior(inner, window, overlap, batch_size=self.batch_size)
        if shape is not None:
            prior.require_fit(shape)
        return prior
