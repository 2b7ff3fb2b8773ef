"""A guided-diffusion network as a prior over pixels: its architecture, its weights, its preconditioning."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from daps_kit.contracts import Prior
from daps_kit.discovery import BUILTIN
from daps_kit.errors import ComponentError, UserError
from daps_kit.settings import Shape
from daps_kit.weights.checkpoints import where
from daps_kit.weights.tensors import read_tensors, rooted

from .adm import ADM, Architecture
from .frozen import frozen, require_shape
from .preconditioning import Preconditioning, preconditioning

ARCHITECTURES = {
    "ffhq256": Architecture(
        image_size=256,
        num_channels=128,
        num_res_blocks=1,
        attention_resolutions=(16,),
        num_head_channels=64,
        resblock_updown=True,
        learn_sigma=True,
    ),
    "imagenet256": Architecture(
        image_size=256,
        num_channels=256,
        num_res_blocks=2,
        attention_resolutions=(32, 16, 8),
        num_head_channels=64,
        resblock_updown=True,
        learn_sigma=True,
    ),
}
"""The published networks."""


class DDPMPrior(Prior):
    """D(x, sigma) of a network with a preconditioning.

    Args:
        network: frozen, on its device.
        precondition: how it was trained.
        label: its class, where it is class-conditional.
        size: side of its images; where not given, that of its architecture.
    """

    def __init__(self, network: ADM, precondition: Preconditioning, *, label: int | None = None) -> None:
        arch = network.arch
        if arch.num_classes and label is None:
            raise ComponentError(f"the network is class-conditional: give label, 0 to {arch.num_classes - 1}")
        if label is not None and label >= arch.num_classes:
            allowed = (
                f"0 to {arch.num_classes - 1}" if arch.num_classes else "none, as the network has no classes"
            )
            raise ComponentError(f"label is {label}, but allowed is {allowed}")
        self.network = network
        self.call = network.__call__
        self.precondition = precondition
        self.shape = (arch.in_channels, arch.image_size, arch.image_size)
        self.sigma_range = precondition.sigma_range
        self.label = (
            None if label is None else torch.tensor([label], device=next(network.parameters()).device)
        )

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(x, sigma), [B, C, H, W]; differentiable by x."""
        return self.precondition.denoise(self._predict, x, sigma)

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.call(x.float(), t, self.label)
        return out[:, : x.shape[1]].to(x.dtype)


def build_ddpm(
    model: Literal["ffhq256", "imagenet256", "custom"],
    checkpoint: Path | None,
    *,
    weights: Literal["auto", "ema", "raw"],
    architecture: Mapping[str, Any],
    label: int | None,
    process: Literal["vp", "ddpm", "iddpm", "ve", "edm"],
    sigma_data: float,
    dtype: str,
    channels_last: bool,
    compile: bool,
    shape: Shape | None,
    device: torch.device,
) -> DDPMPrior:
    """Return the prior with weights that were read, checked and frozen.

    Args:
        model: which network.
        checkpoint: the file of its weights; None for the one that was fetched for a published network.
        weights: see `read_tensors`.
        architecture: arguments of `Architecture` that are given; the others are known or inferred.
        label: class, for a class-conditional network.
        process: see `preconditioning`.
        sigma_data: of the data, for edm.
        dtype: what the network computes in.
        channels_last: the memory layout.
        compile: whether the network is compiled.
        shape: (C, H, W) of the images of the run; None where any will do.
        device: where to compute.

    Raises:
        UserError: weights are missing or damaged, or do not fit the network or the shape.
    """
    path = checkpoint or where(f"{BUILTIN}/{model}ddpm")
    tensors = rooted(read_tensors(path, weights=weights), "time_embed.0.weight", path)
    if model != "custom":
        arch = dataclasses.replace(ARCHITECTURES[model], **architecture)
    else:
        arch = infer_architecture(
            {name: tuple(t.shape) for name, t in tensors.items()}, architecture, path, shape
        )
    network = load_adm(arch, tensors, path, channels_last=channels_last)
    network.compute_in(getattr(torch, dtype)).to(device)
    precondition = preconditioning(process, sigma_data=sigma_data)
    prior = DDPMPrior(network, precondition, label=label)
    require_shape("ddpm", prior, shape)
    if compile:
        prior.call = torch.compile(network)
    return prior


def load_adm(
    arch: Architecture, tensors: Mapping[str, Tensor], source: Path | str, *, channels_last: bool = True
) -> ADM:
    """Return a frozen network with these weights.

    Raises:
        UserError: the tensors do not fit the architecture, are not finite, or were never trained.
    """
    if any(width % 32 for width in arch.widths):
        raise ComponentError(f"the widths of the network, {list(arch.widths)}, must be multiples of 32")
    return frozen(lambda: ADM(arch), tensors, source, last="out.2.weight", channels_last=channels_last)


def infer_architecture(
    shapes: Mapping[str, tuple[int, ...]],
    given: Mapping[str, Any],
    source: Path | str,
    image: Shape | None = None,
) -> Architecture:
    """Work out a network's architecture from the shapes of its weights.

    The number of attention heads and the order of their parts leave no trace: the former must be given, the latter is
    the older one unless given. Nor does the size of the images, which is given or that of the run's.

    Args:
        shapes: of the state dict.
        given: flags that are known; they count for more.
        source: what to name in errors.
        image: (C, H, W) of the run's images.

    Raises:
        UserError: these are not the weights of such a network, or its heads or its size are not given.
    """
    first, last = "input_blocks.0.0.weight", "out.2.weight"
    if missing := [name for name in ("time_embed.0.weight", first, last) if name not in shapes]:
        raise UserError(f"{source} is not a guided-diffusion network: it has no {missing[0]}")
    if not {"num_heads", "num_head_channels"} & given.keys():
        raise UserError(
            f"{source}: give num_heads or num_head_channels in architecture; weights do not show them"
        )
    indices = {int(found[1]) for name in shapes if (found := re.match(r"input_blocks\.(\d+)\.", name))}
    count = max(indices) + 1
    convolved = sum(f"input_blocks.{i}.0.op.weight" in shapes for i in range(count))
    bare = count - len(indices)
    residual = sum(
        f"output_blocks.{i}.{j}.in_layers.0.weight" in shapes for i in range(count) for j in (1, 2)
    )
    # L levels with R blocks: the stem, L R blocks and L - 1 layers that halve are L (R + 1) in all.
    number = 1 + (convolved or residual or bare)
    per_level = count // number
    if count % number or per_level < 2:
        raise UserError(
            f"{source} is not a guided-diffusion network: {count} input blocks do not make {number} levels"
        )
    size = given.get("image_size") or (image[1] if image else None)
    if size is None:
        raise UserError(
            f"{source}: weights do not show the size of the images; give image_size in architecture, or the images"
        )
    base = shapes["time_embed.0.weight"][1]
    blocks = [i for i in range(1, count) if i % per_level]
    try:
        widths = [shapes[f"input_blocks.{i}.0.out_layers.3.weight"][0] for i in blocks[:: per_level - 1]]
        modulation = shapes["input_blocks.1.0.emb_layers.1.weight"][0]
    except KeyError as error:
        raise UserError(
            f"{source} is not a guided-diffusion network: blocks are missing ({error})"
        ) from error
    attention = {size >> i // per_level for i in blocks if f"input_blocks.{i}.1.qkv.weight" in shapes}
    inferred: dict[str, Any] = {
        "image_size": size,
        "num_channels": base,
        "num_res_blocks": per_level - 1,
        "channel_mult": tuple(width / base for width in widths),
        "attention_resolutions": tuple(sorted(attention, reverse=True)),
        "use_scale_shift_norm": modulation == 2 * widths[0],
        "resblock_updown": residual > 0,
        "conv_resample": not bare,
        "learn_sigma": shapes[last][0] == 2 * shapes[first][1],
        "num_classes": shapes.get("label_emb.weight", (0,))[0],
        "in_channels": shapes[first][1],
    }
    return Architecture(**{**inferred, **given})
