r"""An unconditional pipeline of the diffusers library as a prior: DDPM, DDIM, latent diffusion, score-SDE-VE.

Its network predicts the noise, the velocity, the clean image or the score, as its configuration says; D(x, sigma)
follows as `preconditioning` and `pipeline_files` have it. Times between the steps of its schedule are interpolated.

Source: Ho et al., arXiv 2006.11239; Rombach et al., arXiv 2112.10752; Song et al., arXiv 2011.13456.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from daps_kit.contracts import Prior, Shape
from daps_kit.errors import ComponentError

from .pipeline_files import Pipeline, schedule
from .preconditioning import Preconditioning
from .spreading import Spread, handed

__all__ = ["LatentPipelinePrior", "PixelPipelinePrior", "build_diffusers"]


class PixelPipelinePrior(Prior):
    """A network of diffusers over images.

    Args:
        unet: a UNet2DModel, frozen, on its device; it computes in the type of its weights.
        precondition: how it was trained.
    """

    def __init__(self, unet: Any, precondition: Preconditioning) -> None:
        self.unet, self.precondition = unet, precondition
        self.shape = (int(unet.config.in_channels), *_sides(unet))
        self.sigma_range = precondition.sigma_range

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(x, sigma), [B, C, H, W]; differentiable by x."""
        return self.precondition.denoise(self._predict, x, sigma)

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        out = self.unet(handed(x, self.unet), t.float(), return_dict=False)[0]
        return cast(Tensor, out[:, : x.shape[1]].to(x))  # the rest is a variance


class LatentPipelinePrior(PixelPipelinePrior):
    """A network of diffusers over latents, with its first stage.

    Args:
        unet: a UNet2DModel over latents.
        first_stage: a VQModel or an AutoencoderKL, frozen, on its device.
        precondition: how the network was trained.
        quantize: whether latents are rounded to the codebook when decoded, where there is one.
    """

    def __init__(
        self, unet: Any, first_stage: Any, precondition: Preconditioning, *, quantize: bool = True
    ) -> None:
        super().__init__(unet, precondition)
        self.first_stage, self.quantize = first_stage, quantize
        self.factor = 2 ** (len(first_stage.config.block_out_channels) - 1)
        self.scale_factor = float(first_stage.config.scaling_factor)
        self.codebook = type(first_stage).__name__ == "VQModel"
        self.latent_channels = int(unet.config.in_channels)
        height, width = _sides(unet)
        self.shape = (int(first_stage.config.in_channels), self.factor * height, self.factor * width)

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latents of images of `image_shape`."""
        _, height, width = image_shape
        return self.latent_channels, height // self.factor, width // self.factor

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents of images [B, 3, H, W], [B, c, H / f, W / f]: the mean, where the encoder draws them."""
        found = self.first_stage.encode(x.to(self.first_stage.dtype), return_dict=False)[0]
        latents = found if self.codebook else found.mode()
        return cast(Tensor, self.scale_factor * latents.to(x.dtype))

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents [B, c, h, w], [B, 3, f h, f w]; differentiable."""
        options = {"force_not_quantize": not self.quantize} if self.codebook else {}
        latents = (z / self.scale_factor).to(self.first_stage.dtype)
        images = self.first_stage.decode(latents, return_dict=False, **options)[0]
        return cast(Tensor, images.to(z.dtype))


def build_diffusers(
    model: str,
    *,
    quantize: bool,
    dtype: str,
    spread: Spread,
    shape: Shape | None,
    device: torch.device,
) -> PixelPipelinePrior:
    """Return the prior of a pipeline.

    Args:
        model: see `Pipeline`.
        quantize: see `LatentPipelinePrior`.
        dtype: what the network computes in.
        spread: over which devices it is; a first stage is on that of the run.
        shape: (C, H, W) of the images of the run; None where any will do.
        device: where to compute.

    Raises:
        UserError: diffusers is not installed, or the pipeline is missing, damaged, conditional or of another shape.
    """
    pipeline = Pipeline(model)
    pipeline.require("unet", "UNet2DModel")
    precondition = schedule(pipeline.read("scheduler"))
    unet = pipeline.placed("unet", device, getattr(torch, dtype), spread)
    if unet.config.class_embed_type is not None or unet.config.num_class_embeds is not None:
        raise ComponentError(
            f"{pipeline.folder} ({pipeline.kind}) is class-conditional; this prior has no classes"
        )
    stages = [part for part in ("vqvae", "vae") if part in pipeline.classes]
    if stages:
        pipeline.require(stages[0], "VQModel", "AutoencoderKL")
        first_stage = pipeline.network(stages[0]).to(device)
        prior: PixelPipelinePrior = LatentPipelinePrior(unet, first_stage, precondition, quantize=quantize)
    else:
        prior = PixelPipelinePrior(unet, precondition)
    if shape is not None and tuple(shape) != prior.shape:
        raise ComponentError(
            f"prior diffusers is over images of shape {list(prior.shape or ())}, "
            f"but those of the run have {list(shape)}"
        )
    return prior


def _sides(unet: Any) -> tuple[int, int]:
    size = unet.config.sample_size
    if size is None:
        raise ComponentError(
            "the configuration of the network does not say the size of its images (sample_size)"
        )
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
