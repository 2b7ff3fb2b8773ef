"""Settings of the denoiser that ships with the package. Importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from daps_kit.settings import PriorSettings, Shape
from daps_priors.papers import KARRAS_2022
from daps_priors.precision import Dtype

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Prior


class DenoiserSettings(PriorSettings):
    """How a trained denoiser computes."""

    dtype: Dtype = Field(
        "float32",
        description="what convolutions compute in: bfloat16 is as exact and faster where the processor has it, which "
        "`auto` finds out; a sample then depends on its batch by about .001",
    )
    compile: bool = Field(
        False, description="compile the network (torch.compile): a slow start, then faster on GPUs"
    )


class Embedded(DenoiserSettings):
    """The prior that ships with the package: portraits of 64 x 64 pixels."""

    name = "embedded"
    papers = (KARRAS_2022,)
    weights: Literal["portraits64"] = Field(
        "portraits64", description="which of the priors that ship with the package"
    )
    head: bool = Field(
        True,
        description="whether its head tells at which places the denoiser is unsure (sampler.spread 'calibrated'): a "
        "smaller error for the same calls; without it draws take half the time, or little less",
    )

    def files(self) -> list[Path]:
        """Return the file of the weights."""
        return [Path(__file__).parents[1] / "weights" / f"{self.weights}.safetensors"]

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the images of the run have another shape.
        """
        from .prior import load_embedded

        return load_embedded(
            self.weights, head=self.head, shape=shape, device=device, dtype=self.dtype, compile=self.compile
        )
