"""Settings of the priors over latents, and of those that the diffusers library runs. Importing this module does not
import torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from daps_kit.discovery import BUILTIN
from daps_kit.settings import FilePath, PriorSettings, Settings, Shape, resolve_path
from daps_priors.papers import HO_2020, HO_2022, ROMBACH_2022

from .fields import (
    Average,
    Calibration,
    ChannelsLast,
    Compile,
    DeviceMap,
    Dtype,
    HeadChannels,
    Heads,
    MaxMemory,
    PublishedNetwork,
    require_own_checkpoint,
    require_spreadable,
)

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from daps_kit.contracts import Prior

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class LatentArchitectureSettings(Settings):
    """What the weights of a latent diffusion model do not show."""

    image_size: int | None = Field(
        None, gt=0, description="side of the images; that of the run where not given"
    )
    num_heads: Heads = None
    num_head_channels: HeadChannels = None


class LDM(PriorSettings):
    """A latent diffusion model (VQ first stage), such as the published FFHQ and ImageNet."""

    name = "ldm"
    papers = (ROMBACH_2022,)
    model: PublishedNetwork = "ffhq256"
    checkpoint: FilePath | None = Field(
        None,
        description="file of the weights (.ckpt, .pt, .safetensors); "
        "where not given, the one that `daps-kit checkpoints fetch` brought for the model",
    )
    weights: Average = "auto"
    schedule: Literal["model", "published"] = Field(
        "model",
        description="the noise schedule that the network was trained with, or the linear one of the published runs, "
        "which tells the network wrong times",
    )
    label: int | None = Field(
        None,
        ge=0,
        description="class, for a network with classes; where not given the last, which means none",
    )
    guidance: float = Field(
        1.0, ge=0, description="weight of classifier-free guidance towards the label; 1 for none"
    )
    quantize: bool = Field(True, description="whether latents are rounded to the codebook when decoded")
    scale_factor: float | None = Field(
        None, gt=0, description="latents are multiplied by it; known from the checkpoint, or 1"
    )
    dtype: Dtype = "float32"
    half_decoder: bool = Field(
        False, description="whether the first stage computes in dtype as well, and not in float32"
    )
    channels_last: ChannelsLast = True
    compile: Compile = False
    architecture: LatentArchitectureSettings = Field(
        LatentArchitectureSettings(), description="for model: custom, what its weights do not show"
    )
    calibration: Calibration = None

    @model_validator(mode="after")
    def _own_checkpoint(self) -> Self:
        require_own_checkpoint(self.model, self.checkpoint)
        if self.model != "custom" and self.architecture != LatentArchitectureSettings():
            raise ValueError(f"architecture is for model: custom; that of {self.model} is known")
        return self

    def checkpoints(self) -> tuple[str, ...]:
        """Return the one of the model, where none is given."""
        return () if self.checkpoint else (f"{BUILTIN}/{self.model}ldm",)

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: weights are missing or damaged, or do not fit the network or the shape.
        """
        from daps_kit.calibration import calibrated

        from .ldm import build_ldm

        prior = build_ldm(
            self.model,
            self.checkpoint,
            weights=self.weights,
            architecture=self.architecture.model_dump(exclude_none=True),
            schedule=self.schedule,
            label=self.label,
            guidance=self.guidance,
            quantize=self.quantize,
            scale_factor=self.scale_factor,
            dtype=self.dtype,
            half_decoder=self.half_decoder,
            channels_last=self.channels_last,
            compile=self.compile,
            shape=shape,
            device=device,
        )
        return calibrated(prior, self.calibration)


def _folder_or_id(value: Any) -> Any:
    """Return an existing folder as an absolute path, an id of the hub as it is; refuse anything else."""
    if not isinstance(value, str):
        return value
    folder = resolve_path(value)
    if folder.is_dir():
        return str(folder)
    if folder.exists():
        raise ValueError(f"{folder} is a file; give the folder of a pipeline that diffusers saved")
    if HUB_ID.fullmatch(value):
        return str(value)
    raise ValueError(
        f"no such folder: {folder} (and '{value}' is not an id of the Hugging Face hub, owner/name)"
    )


PipelineName = Annotated[str, BeforeValidator(_folder_or_id)]


class Diffusers(PriorSettings):
    """An unconditional pipeline of the diffusers library: DDPM, DDIM, latent diffusion, score-SDE-VE.

    Needs the extra `sd`. What the network predicts and its noise schedule are read from its configuration.
    """

    name = "diffusers"
    papers = (HO_2020,)
    model: PipelineName = Field(
        description="folder of the pipeline, or its id on the Hugging Face hub, such as google/ddpm-celebahq-256"
    )
    quantize: bool = Field(
        True, description="whether latents are rounded to the codebook when decoded, where there is one"
    )
    calibration: Calibration = None
    dtype: Dtype = "float32"
    device_map: DeviceMap = None
    max_memory: MaxMemory = None

    @model_validator(mode="after")
    def _spreadable(self) -> Self:
        require_spreadable(self.device_map, self.max_memory, "unet")
        return self

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: diffusers is not installed, or the pipeline is missing, damaged, of another kind,
                or over images of another shape.
        """
        from daps_kit.calibration import calibrated

        from .diffusers_prior import build_diffusers
        from .spreading import Spread

        prior = build_diffusers(
            self.model,
            quantize=self.quantize,
            dtype=self.dtype,
            spread=Spread(self.device_map, self.max_memory or {}),
            shape=shape,
            device=device,
        )
        return calibrated(prior, self.calibration)


class StableDiffusion(PriorSettings):
    """Stable Diffusion: v1.5, v2.1, or any pipeline of their kind that the diffusers library can read.

    Needs the extra `sd`. What the network predicts and its noise schedule are read from its configuration.
    """

    name = "stable_diffusion"
    papers = (ROMBACH_2022, HO_2022)
    model: Literal["v1.5", "v2.1"] | PipelineName = Field(
        "v1.5",
        union_mode="left_to_right",
        description="v1.5 or v2.1, as `daps-kit checkpoints fetch` brought them; else the folder of a pipeline, or its "
        "id on the Hugging Face hub",
    )
    prompt: str = Field("a natural looking image", description="what the images show")
    negative_prompt: str = Field(
        "", description="what the images do not show; without effect where guidance is 1"
    )
    guidance: float = Field(
        7.5, ge=0, description="weight of classifier-free guidance towards the prompt; 1 for none"
    )
    inner_resolution: int | None = Field(
        None,
        gt=0,
        description="side of the images that the model makes; that of its training where not given",
    )
    resolution: int | None = Field(
        None,
        gt=0,
        description="side of the images of the run, to which those of the model are scaled down; "
        "that of the run's data where not given",
    )
    dtype: Dtype = "float32"
    half_decoder: bool = Field(
        False, description="whether the autoencoder computes in dtype as well, and not in float32"
    )
    vae_slicing: bool = Field(False, description="decode one image after the other, to save memory")
    vae_tiling: bool = Field(
        False,
        description="decode large images in overlapping tiles, to save memory; not quite the same images",
    )
    calibration: Calibration = None
    device_map: DeviceMap = None
    max_memory: MaxMemory = None

    @model_validator(mode="after")
    def _spreadable(self) -> Self:
        require_spreadable(self.device_map, self.max_memory, "unet", "vae")
        return self

    def checkpoints(self) -> tuple[str, ...]:
        """Return that of the version, where the model is no other pipeline."""
        return (f"{BUILTIN}/stable-diffusion-{self.model}",) if self.model in ("v1.5", "v2.1") else ()

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: diffusers is not installed, or the pipeline is missing, damaged, of another kind,
                or cannot make images of this shape.
        """
        from daps_kit.calibration import calibrated

        from .spreading import Spread
        from .stable_diffusion import build_stable_diffusion

        prior = build_stable_diffusion(
            self.model,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            guidance=self.guidance,
            inner_resolution=self.inner_resolution,
            resolution=self.resolution,
            dtype=self.dtype,
            half_decoder=self.half_decoder,
            vae_slicing=self.vae_slicing,
            vae_tiling=self.vae_tiling,
            spread=Spread(self.device_map, self.max_memory or {}),
            shape=shape,
            device=device,
        )
        return calibrated(prior, self.calibration)
