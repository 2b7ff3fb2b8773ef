"""Settings of the priors whose weights others published. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict, model_validator

from daps_kit.discovery import BUILTIN
from daps_kit.settings import FilePath, PriorSettings, Settings, Shape
from daps_priors.papers import DHARIWAL_2021, HO_2020

from .fields import (
    Average,
    Calibration,
    ChannelsLast,
    Compile,
    Dtype,
    HeadChannels,
    Heads,
    PublishedNetwork,
    require_own_checkpoint,
)

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from daps_kit.contracts import Prior

Multipliers = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False)]
Sides = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Strict(False)]


class ArchitectureSettings(Settings):
    """Flags of a guided-diffusion network, by their published names; what is not given is known or inferred."""

    image_size: int | None = Field(None, gt=0, description="side of the images that it was trained on")
    num_channels: int | None = Field(None, gt=0, description="base width")
    num_res_blocks: int | None = Field(None, gt=0, description="residual blocks at each resolution")
    channel_mult: Multipliers | None = Field(
        None, description="width at each resolution over the base width, finest first"
    )
    attention_resolutions: Sides | None = Field(
        None, description="sides of the feature maps that get attention"
    )
    num_heads: Heads = None
    num_head_channels: HeadChannels = None
    num_heads_upsample: int | None = Field(
        None, description="attention heads on the way up; -1 for num_heads"
    )
    use_new_attention_order: bool | None = Field(
        None, description="whether queries, keys and values are split before the heads"
    )
    use_scale_shift_norm: bool | None = Field(
        None, description="whether the embedding scales and shifts activations"
    )
    resblock_updown: bool | None = Field(
        None, description="whether residual blocks change the resolution, and not plain layers"
    )
    conv_resample: bool | None = Field(None, description="whether those plain layers convolve")
    learn_sigma: bool | None = Field(None, description="whether the output has a second half, for variances")
    num_classes: int | None = Field(None, ge=0, description="classes it is conditioned on; 0 for none")
    in_channels: int | None = Field(None, gt=0, description="channels of the images")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout it was trained with; not used here")


class DDPM(PriorSettings):
    """A diffusion model over pixels with the guided-diffusion U-Net (ADM), such as the published FFHQ and ImageNet."""

    name = "ddpm"
    papers = (HO_2020, DHARIWAL_2021)
    model: PublishedNetwork = "ffhq256"
    checkpoint: FilePath | None = Field(
        None,
        description="file of the weights (.pt, .pth, .ckpt, .safetensors); "
        "where not given, the one that `daps-kit checkpoints fetch` brought for the model",
    )
    weights: Average = "auto"
    label: int | None = Field(None, ge=0, description="class, for a class-conditional network")
    preconditioning: Literal["vp", "ddpm", "iddpm", "ve", "edm"] = Field(
        "vp",
        description="what the network predicts and the noise levels it knows: vp as in the published runs, ddpm "
        "(linear) or iddpm (cosine) for the steps of the discrete schedule it was trained with, ve, or edm",
    )
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of the data, for edm")
    dtype: Dtype = "float32"
    channels_last: ChannelsLast = True
    compile: Compile = False
    architecture: ArchitectureSettings = Field(
        ArchitectureSettings(), description="flags of the network; known for the models above, else inferred"
    )
    calibration: Calibration = None

    @model_validator(mode="after")
    def _own_checkpoint(self) -> Self:
        require_own_checkpoint(self.model, self.checkpoint)
        return self

    def checkpoints(self) -> tuple[str, ...]:
        """Return the one of the model, where none is given."""
        return () if self.checkpoint else (f"{BUILTIN}/{self.model}ddpm",)

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: weights are missing or damaged, or do not fit the network or the shape.
        """
        from daps_kit.calibration import calibrated

        from .ddpm import build_ddpm

        prior = build_ddpm(
            self.model,
            self.checkpoint,
            weights=self.weights,
            architecture=self.architecture.model_dump(exclude_none=True),
            label=self.label,
            process=self.preconditioning,
            sigma_data=self.sigma_data,
            dtype=self.dtype,
            channels_last=self.channels_last,
            compile=self.compile,
            shape=shape,
            device=device,
        )
        return calibrated(prior, self.calibration)
