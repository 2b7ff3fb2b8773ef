r"""Stable Diffusion as a prior over latents, with a prompt.

    z = s E(U x),   x = R G(z / s),   D(z, sigma) = c_skip z + c_out F(z / sqrt(1 + sigma^2), t(sigma))

    F = F(negative prompt) + w (F(prompt) - F(negative prompt))                      classifier-free guidance

The variational autoencoder E, G knows images of the inner resolution; R scales them down to the resolution of the run
(bilinear, antialiased) and U up. F predicts the noise or the velocity, as the scheduler's configuration says, and is
told the step of the model's own noise schedule, interpolated in log sigma. The prompts are encoded once, when the prior
is built; the text encoder is not kept.

Source: Rombach et al., arXiv 2112.10752; Ho and Salimans, arXiv 2207.12598; Salimans and Ho, arXiv 2202.00512.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from daps_kit.contracts import Prior, Shape
from daps_kit.errors import ComponentError, UserError

from .pipeline_files import Pipeline, schedule
from .preconditioning import Preconditioning
from .spreading import Spread, handed

__all__ = ["StableDiffusionPrior", "build_stable_diffusion", "encode_prompts"]


class StableDiffusionPrior(Prior):
    """A text-conditional network over latents, with its autoencoder.

    Args:
        unet: a UNet2DConditionModel, frozen, on its device; it computes in the type of its weights.
        vae: an AutoencoderKL, the same.
        precondition: how the network was trained.
        prompts: what it is conditioned on, [1, L, D]: the prompt; or [2, L, D]: the negative prompt, then the prompt.
        guidance: w above, where there are two.
        inner: side of the images that the model makes, in pixels.
        resolution: side of the images of the run; `inner` where None.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        precondition: Preconditioning,
        prompts: Tensor,
        *,
        guidance: float = 1.0,
        inner: int = 512,
        resolution: int | None = None,
    ) -> None:
        self.unet, self.vae, self.precondition = unet, vae, precondition
        self.prompts, self.guidance, self.inner = prompts, guidance, inner
        resolution = resolution or inner
        self.shape = (3, resolution, resolution)
        self.scale_factor = float(vae.config.scaling_factor)
        self.side = inner // 2 ** (len(vae.config.block_out_channels) - 1)
        self.sigma_range = precondition.sigma_range

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latents, which is that of the inner resolution."""
        return int(self.unet.config.in_channels), self.side, self.side

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(z, sigma), [B, c, h, w]; differentiable by z."""
        return self.precondition.denoise(self._predict, x, sigma)

    def _predict(self, z: Tensor, t: Tensor) -> Tensor:
        count, batch = len(self.prompts), len(z)
        prompts = self.prompts.repeat_interleave(batch, dim=0)
        times = t.float().expand(batch).repeat(count)
        latents, prompts = (handed(each, self.unet) for each in (z.repeat(count, 1, 1, 1), prompts))
        out = self.unet(latents, times, encoder_hidden_states=prompts, return_dict=False)[0].to(z)
        if count == 1:
            return cast(Tensor, out)
        negative, wanted = out.chunk(2)
        return cast(Tensor, negative + self.guidance * (wanted - negative))

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents of images [B, 3, H, W], [B, c, h, w]: the mean of the encoder's Gaussian."""
        images = handed(_resize(x, self.inner), self.vae)
        return cast(Tensor, self.scale_factor * self.vae.encode(images).latent_dist.mode().to(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents [B, c, h, w], [B, 3, H, W], those of the run; differentiable."""
        latents = handed(z / self.scale_factor, self.vae)
        images = self.vae.decode(latents, return_dict=False)[0]
        return _resize(images.to(z), cast(tuple[int, int, int], self.shape)[1])


def build_stable_diffusion(
    model: str,
    *,
    prompt: str,
    negative_prompt: str,
    guidance: float,
    inner_resolution: int | None,
    resolution: int | None,
    dtype: str,
    half_decoder: bool,
    vae_slicing: bool,
    vae_tiling: bool,
    spread: Spread,
    shape: Shape | None,
    device: torch.device,
) -> StableDiffusionPrior:
    """Return the prior of a pipeline.

    Args:
        model: see `Pipeline`; "v1.5" and "v2.1" are fetched checkpoints.
        prompt, negative_prompt: what the images show, and what they do not.
        guidance: towards the prompt; 1 for none.
        inner_resolution: side of the images that the model makes; that of its training where None.
        resolution: side of the images of the run; that of `shape`, or the inner one, where None.
        dtype: what the network computes in.
        half_decoder: whether the autoencoder does so too, and not in float32.
        vae_slicing, vae_tiling: whether it decodes image by image, and in overlapping tiles.
        spread: over which devices network and autoencoder are.
        shape: (C, H, W) of the images of the run; None where any will do.
        device: where to compute.

    Raises:
        UserError: diffusers is not installed, or the pipeline is missing, damaged, of another kind, or cannot make
            images of this shape.
    """
    pipeline = Pipeline(f"stable-diffusion-{model}" if model in ("v1.5", "v2.1") else model)
    pipeline.require("unet", "UNet2DConditionModel")
    pipeline.require("vae", "AutoencoderKL")
    pipeline.require("text_encoder", "CLIPTextModel")
    precondition = schedule(pipeline.read("scheduler"))
    kind: torch.dtype = getattr(torch, dtype)
    prompts = [negative_prompt, prompt]
    if guidance == 1:
        prompts = prompts[1:]
    encoded = encode_prompts(pipeline, prompts).to(device=device, dtype=kind)
    unet = pipeline.placed("unet", device, kind, spread)
    vae = pipeline.placed("vae", device, kind if half_decoder else torch.float32, spread)
    if unet.config.in_channels != vae.config.latent_channels or unet.config.addition_embed_type is not None:
        raise ComponentError(
            f"{pipeline.folder} ({pipeline.kind}) needs more than a prompt (a mask, a picture, a size), "
            "which this prior does not give"
        )
    if unet.config.cross_attention_dim != encoded.shape[2]:
        raise UserError(
            f"{pipeline.folder}: the text encoder gives {encoded.shape[2]} numbers a token, "
            f"the network takes {unet.config.cross_attention_dim}"
        )
    if vae_slicing:
        vae.enable_slicing()
    if vae_tiling:
        vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    inner = inner_resolution or unet.config.sample_size * factor
    step = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    if inner % step:
        raise ComponentError(
            f"prior stable_diffusion: inner_resolution must be divisible by {step}, got {inner}"
        )
    resolution = resolution or (shape[1] if shape else inner)
    if shape is not None and tuple(shape) != (3, resolution, resolution):
        raise ComponentError(
            f"prior stable_diffusion is over images of shape {[3, resolution, resolution]}, "
            f"but those of the run have {list(shape)}"
        )
    if resolution > inner:
        raise ComponentError(
            f"prior stable_diffusion: images of {resolution} x {resolution} pixels are larger than those of the "
            f"model, {inner} x {inner}; give a larger inner_resolution"
        )
    return StableDiffusionPrior(
        unet,
        vae,
        precondition,
        encoded,
        guidance=guidance,
        inner=inner,
        resolution=resolution,
    )


@torch.no_grad()
def encode_prompts(pipeline: Pipeline, prompts: list[str]) -> Tensor:
    """Return what the pipeline's text encoder makes of prompts, [n, L, D].

    Raises:
        UserError: a part is missing or damaged, or a prompt is longer than the encoder can take.
    """
    tokenizer = pipeline.read("tokenizer", "transformers")
    encoder = pipeline.network("text_encoder", "transformers")
    limit = tokenizer.model_max_length
    for prompt, tokens in zip(prompts, tokenizer(prompts).input_ids, strict=True):
        if len(tokens) > limit:
            raise ComponentError(
                f"prior stable_diffusion: the prompt '{prompt[:40]}...' has {len(tokens)} tokens, "
                f"allowed are {limit} (with its start and end)"
            )
    batch = tokenizer(prompts, padding="max_length", max_length=limit, return_tensors="pt")
    mask = batch.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
    return cast(Tensor, encoder(batch.input_ids, attention_mask=mask)[0])


def _resize(x: Tensor, side: int) -> Tensor:
    """Scale images [B, C, H, W] to a side; differentiable."""
    if x.shape[2] == side and x.shape[3] == side:
        return x
    return functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
