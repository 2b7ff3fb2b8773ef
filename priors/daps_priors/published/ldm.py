r"""Latent diffusion as a prior: a denoiser of latents z and the first stage between latents and images.

    z = s E(x),   x = G(q(z / s)),   D(z, sigma) = z - sigma F(z / sqrt(1 + sigma^2), t(sigma))

s is the scale factor. F is told the step t of the noise schedule that it was trained with, which is in the checkpoint.
The published runs tell it the step that a linear schedule would have there (`schedule: published`), which is far off at
small sigma: at 0.1 it is 27.0 where 5.6 is right.

With a condition c and guidance w, F = F(no condition) + w (F(c) - F(no condition)).

Source: Rombach et al., arXiv 2112.10752; Ho and Salimans, arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from daps_kit.contracts import Prior, Shape
from daps_kit.discovery import BUILTIN
from daps_kit.errors import ComponentError, UserError
from daps_kit.weights.checkpoints import where
from daps_kit.weights.tensors import read_tensors

from .adm import Architecture
from .ddpm import infer_architecture
from .frozen import frozen, require_shape
from .latent_unet import LatentUNet
from .preconditioning import VP, Discrete, Preconditioning
from .vq import VQ, VQArchitecture, infer_vq

__all__ = ["LATENT_ARCHITECTURES", "LDMPrior", "LatentDiffusion", "build_ldm", "scaled_linear_betas"]

UNET, FIRST_STAGE, CLASSES = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.embedding.weight",
)
SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
    "scale_factor",
)
"""What checkpoints hold beside the networks: all but the first and the last follow from the first."""
NOT_USED = "first_stage_model.loss."


def scaled_linear_betas(low: float = 0.0015, high: float = 0.0195, steps: int = 1000) -> Tensor:
    """Variances whose square roots rise linearly, [M]: the schedule of the published networks."""
    return torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64) ** 2


class LatentDiffusion(nn.Module):
    """A network, its first stage and its classes, with the names of the published checkpoints.

    Args:
        arch: of the network.
        first_stage: of the first stage.
        classes: how many classes it is conditioned on, the last being none; 0 for a network without.
        context: channels of a class's vector.
        depth: transformer blocks wherever there is attention.
    """

    def __init__(
        self,
        arch: Architecture,
        first_stage: VQArchitecture,
        *,
        classes: int = 0,
        context: int = 0,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.model = nn.ModuleDict({"diffusion_model": LatentUNet(arch, context=context, depth=depth)})
        self.first_stage_model = VQ(first_stage)
        if classes:
            self.cond_stage_model = nn.ModuleDict({"embedding": nn.Embedding(classes, context)})

    @property
    def network(self) -> LatentUNet:
        """F."""
        return cast(LatentUNet, self.model["diffusion_model"])

    def condition(self, label: int, guidance: float) -> int:
        """Set the class and return how many conditions there are: one, or two where guidance weighs it against none."""
        none = self.classes - 1
        labels = [label] if guidance == 1 or label == none else [none, label]
        vectors = cast(nn.Embedding, self.cond_stage_model["embedding"]).weight[labels]
        self.network.condition(vectors[:, None])
        return len(labels)


LATENT_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "ffhq256": {
        "arch": Architecture(
            image_size=64,
            num_channels=224,
            channel_mult=(1, 2, 3, 4),
            attention_resolutions=(32, 16, 8),
            num_head_channels=32,
            use_scale_shift_norm=False,
        ),
        "first_stage": VQArchitecture(),
    },
    "imagenet256": {
        "arch": Architecture(
            image_size=64,
            num_channels=192,
            channel_mult=(1, 2, 3, 5),
            attention_resolutions=(32, 16, 8),
            num_heads=1,
            use_scale_shift_norm=False,
        ),
        "first_stage": VQArchitecture(),
        "classes": 1001,
        "context": 512,
    },
}
"""The published networks: arguments of `LatentDiffusion`."""


class LDMPrior(Prior):
    """A latent diffusion model.

    Args:
        model: frozen, on its device.
        precondition: the noise levels it was trained with.
        label: its class, where it has classes; None for the last, which means none.
        guidance: w above.
        quantize: whether latents are rounded to codes when they are decoded.
        scale_factor: s above.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        precondition: Preconditioning,
        *,
        label: int | None = None,
        guidance: float = 1.0,
        quantize: bool = True,
        scale_factor: float = 1.0,
    ) -> None:
        if not model.classes and (label is not None or guidance != 1):
            raise ComponentError("label and guidance need a network with classes, and this one has none")
        if model.classes and label is not None and label >= model.classes:
            raise ComponentError(
                f"label is {label}, but allowed is 0 to {model.classes - 1}, the last for none"
            )
        label = model.classes - 1 if label is None else label
        self.model, self.call = model, model.network.__call__
        self.first_stage = model.first_stage_model
        self.precondition, self.guidance = precondition, guidance
        self.quantize, self.scale_factor = quantize, scale_factor
        self.conditions = model.condition(label, guidance) if model.classes else 1
        self.factor = self.first_stage.arch.factor
        side = self.factor * model.network.arch.image_size
        self.shape = (self.first_stage.arch.channels, side, side)
        self.sigma_range = precondition.sigma_range

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latents of images of `image_shape`."""
        _, height, width = image_shape
        return self.first_stage.arch.latent_channels, height // self.factor, width // self.factor

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(z, sigma), [B, c, h, w]; differentiable by z."""
        return self.precondition.denoise(self._predict, x, sigma)

    def _predict(self, z: Tensor, t: Tensor) -> Tensor:
        if self.conditions == 1:
            return cast(Tensor, self.call(z.float(), t)).to(z.dtype)
        times = t.repeat(2) if len(t) > 1 else t
        none, wanted = self.call(torch.cat((z, z)).float(), times).to(z.dtype).chunk(2)
        return cast(Tensor, none + self.guidance * (wanted - none))

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents of images [B, 3, H, W], [B, c, H / f, W / f]."""
        return (self.scale_factor * self.first_stage.encode(self._ready(x)).float()).contiguous().to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents [B, c, h, w], [B, 3, f h, f w]; differentiable."""
        image = self.first_stage.decode(self._ready(z / self.scale_factor), quantize=self.quantize)
        return image.float().contiguous().to(z.dtype)

    def _ready(self, x: Tensor) -> Tensor:
        weight = self.first_stage.post_quant_conv.weight
        last = self.first_stage.decoder.conv_out.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return x.to(weight.dtype).contiguous(memory_format=layout)


def build_ldm(
    name: Literal["ffhq256", "imagenet256", "custom"],
    checkpoint: Path | None,
    *,
    weights: Literal["auto", "ema", "raw"],
    architecture: Mapping[str, Any],
    schedule: Literal["model", "published"],
    label: int | None,
    guidance: float,
    quantize: bool,
    scale_factor: float | None,
    dtype: str,
    half_decoder: bool,
    channels_last: bool,
    compile: bool,
    shape: Shape | None,
    device: torch.device,
) -> LDMPrior:
    """Return the prior with weights that were read, checked and frozen.

    Args:
        name: which network.
        checkpoint: the file of its weights; None for the one that was fetched for a published network.
        weights: see `read_tensors`.
        architecture: for a network of one's own, what its weights do not show.
        schedule: of the noise: the model's, or the linear one of the published runs.
        label, guidance, quantize: see `LDMPrior`.
        scale_factor: of the latents; None for that of the checkpoint, or 1.
        dtype: what the network computes in.
        half_decoder: whether the first stage does so too, and not in float32, as its gradients drive the sampler.
        channels_last: the memory layout.
        compile: whether the network is compiled.
        shape: (C, H, W) of the images of the run; None where any will do.
        device: where to compute.

    Raises:
        UserError: weights are missing or damaged, or do not fit the network or the shape.
    """
    path = checkpoint or where(f"{BUILTIN}/{name}ldm")
    tensors = read_tensors(path, weights=weights)
    betas, scale = tensors.get("betas"), tensors.get("scale_factor")
    inferred = _infer(architecture, tensors, path, shape) if name == "custom" else None
    used = {k: v for k, v in tensors.items() if k not in SCHEDULE and not k.startswith(NOT_USED)}
    model = frozen(
        lambda: LatentDiffusion(**(inferred or LATENT_ARCHITECTURES[name])),
        used,
        path,
        last=f"{UNET}out.2.weight",
        channels_last=channels_last,
    )
    kind: torch.dtype = getattr(torch, dtype)
    model.network.compute_in(kind)
    model.first_stage_model.to(kind if half_decoder else torch.float32)
    model.to(device)
    if schedule == "published":
        precondition: Preconditioning = VP()
    else:
        precondition = Discrete(scaled_linear_betas() if betas is None else betas)
    prior = LDMPrior(
        model,
        precondition,
        label=label,
        guidance=guidance,
        quantize=quantize,
        scale_factor=scale_factor or (1.0 if scale is None else float(scale)),
    )
    require_shape("ldm", prior, shape)
    if compile:
        prior.call = torch.compile(model.network)
    return prior


def _infer(
    given: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path, shape: Shape | None
) -> dict[str, Any]:
    """Work out the arguments of `LatentDiffusion` from the shapes of weights.

    Raises:
        UserError: these are not the weights of a latent diffusion model, or its heads are not given.
    """
    parts: dict[str, dict[str, tuple[int, ...]]] = {UNET: {}, FIRST_STAGE: {}}
    for name, tensor in tensors.items():
        for prefix, found in parts.items():
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = tuple(tensor.shape)
    if missing := [prefix for prefix, found in parts.items() if not found]:
        raise UserError(f"{path} is not a latent diffusion model: it holds no {missing[0]}*")
    first_stage = infer_vq(parts[FIRST_STAGE], path)
    shapes = parts[UNET]
    keys = [name for name in shapes if name.endswith(".attn2.to_k.weight")]
    depth = max((int(name.split(".transformer_blocks.")[1].split(".")[0]) + 1 for name in keys), default=1)
    # A transformer has the place of plain attention, which is what the inference below knows.
    places = {name.split("transformer_blocks.")[0] + "qkv.weight": (0,) for name in keys}
    side = given.get("image_size", shape[1] if shape else None)
    if side is None:
        raise UserError(
            f"{path}: weights do not show the size of the images; give image_size in architecture, or the images"
        )
    if side % first_stage.factor or (shape and shape[1] != shape[2]):
        raise ComponentError(
            f"prior ldm: images must be square with a side divisible by {first_stage.factor}, got {side}"
        )
    given = {**given, "image_size": side // first_stage.factor}
    return {
        "arch": infer_architecture({**places, **shapes}, given, path),
        "first_stage": first_stage,
        "classes": len(tensors[CLASSES]) if CLASSES in tensors else 0,
        "context": shapes[keys[0]][1] if keys else 0,
        "depth": depth,
    }
