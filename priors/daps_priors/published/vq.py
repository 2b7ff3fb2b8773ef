r"""The first stage of latent diffusion (VQ-GAN), state-dict compatible with its published checkpoints.

    encode(x) = E(x)                                      x [B, 3, H, W] in [-1, 1], latents [B, 3, H / f, W / f]
    decode(z) = G(q(z)),   q(z) = argmin over the codebook of ||z - e||, for each place

E and G are convolutional, with self-attention at their coarsest resolution. q has no useful derivative, so gradients
take it for the identity (straight-through): z + (q(z) - z) with the bracket constant.

Source: Esser et al., arXiv 2012.09841; Rombach et al., arXiv 2112.10752.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from daps_kit.errors import UserError

from .adm import GROUPS, accumulate, normalise
from .convolution import add_projection, convolve, double_and_convolve

__all__ = ["VQ", "VQArchitecture", "infer_vq"]

EPS = 1e-6
PLACES = 4096  # compared with the codebook at once: 128 MiB of distances for 8192 codes


@dataclass(frozen=True)
class VQArchitecture:
    """What distinguishes one first stage from another.

    Attributes:
        channels: of the images.
        width: base width.
        multipliers: width at each resolution over the base width, finest first; each but the last is halved.
        blocks: residual blocks at each resolution of the encoder; one more in the decoder.
        attention: resolutions, 0 the finest, whose residual blocks are followed by attention.
        z_channels: channels at the ends of encoder and decoder.
        latent_channels: channels of the latents, the size of a code.
        codes: size of the codebook.
    """

    channels: int = 3
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    z_channels: int = 3
    latent_channels: int = 3
    codes: int = 8192

    @property
    def factor(self) -> int:
        """Side of an image over the side of its latent."""
        return 1 << len(self.multipliers) - 1


def normalise_shifted(x: Tensor, norm: nn.GroupNorm, *, silu: bool = True) -> Tensor:
    """Group norm and SiLU of x [B, C, H, W].

    Group norm does not see a constant added to a group, but its variance in channels-last layout is a difference of
    squares, which loses the digits of activations that are far from zero, as they are here: their means go first.
    """
    if not x.is_contiguous():
        means = x.detach().mean((2, 3)).view(len(x), norm.num_groups, -1).mean(2)
        x = x - means.repeat_interleave(x.shape[1] // norm.num_groups, dim=1)[:, :, None, None]
    return normalise(x, norm, silu=silu)


class ResBlock(nn.Module):
    """x + conv(silu(N(conv(silu(N(x))))))."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, EPS)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, out, EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)
        self.projects = channels != out

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out, H, W]."""
        h = convolve(normalise_shifted(x, self.norm1), self.conv1)
        h = convolve(normalise_shifted(h, self.norm2), self.conv2)
        return add_projection(h, x, self.nin_shortcut) if self.projects else accumulate(h, x)


class Attention(nn.Module):
    """Self-attention over all places, with one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        h = normalise_shifted(x, self.norm, silu=False)
        q, k, v = (layer(h).permute(0, 2, 3, 1).flatten(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        h = functional.scaled_dot_product_attention(q, k, v)[:, 0]
        h = h.view(len(h), *x.shape[2:], -1).permute(0, 3, 1, 2)
        return accumulate(self.proj_out(h), x)


class Resample(nn.Module):
    """Halve or double the resolution."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = (
            nn.Conv2d(channels, channels, 3, padding=1) if up else nn.Conv2d(channels, channels, 3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2 H, 2 W] or [B, C, H / 2, W / 2]."""
        if self.up:
            return double_and_convolve(x, self.conv)
        return cast(Tensor, self.conv(functional.pad(x, (0, 1, 0, 1))))


class Level(nn.Module):
    """The layers of one resolution: blocks, attention after each or none, and then a change of resolution or none."""

    def __init__(self, widths: list[int], *, attention: bool, resample: str) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.block = nn.ModuleList(ResBlock(a, b) for a, b in pairs)
        self.attn = nn.ModuleList(Attention(b) for _, b in pairs if attention)
        if resample:
            self.add_module(resample, Resample(widths[-1], up=resample == "upsample"))
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """Apply them."""
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return cast(Tensor, getattr(self, self.resample)(x)) if self.resample else x


class Middle(nn.Module):
    """The layers at the coarsest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels)
        self.attn_1 = Attention(channels)
        self.block_2 = ResBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return cast(Tensor, self.block_2(self.attn_1(self.block_1(x))))


class Encoder(nn.Module):
    """E without its last 1 x 1 convolution."""

    def __init__(self, arch: VQArchitecture) -> None:
        super().__init__()
        widths = [arch.width * m for m in arch.multipliers]
        self.conv_in = nn.Conv2d(arch.channels, arch.width, 3, padding=1)
        self.down = nn.ModuleList()
        before = arch.width
        for i, width in enumerate(widths):
            resample = "downsample" if i + 1 < len(widths) else ""
            self.down.append(
                Level([before] + [width] * arch.blocks, attention=i in arch.attention, resample=resample)
            )
            before = width
        self.mid = Middle(before)
        self.norm_out = nn.GroupNorm(GROUPS, before, EPS)
        self.conv_out = nn.Conv2d(before, arch.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, z, H / f, W / f]."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return cast(Tensor, self.conv_out(normalise_shifted(self.mid(h), self.norm_out)))


class Decoder(nn.Module):
    """G without its first 1 x 1 convolution."""

    def __init__(self, arch: VQArchitecture) -> None:
        super().__init__()
        widths = [arch.width * m for m in arch.multipliers]
        self.conv_in = nn.Conv2d(arch.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        levels, before = [], widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            levels.append(
                Level(
                    [before] + [width] * (arch.blocks + 1),
                    attention=i in arch.attention,
                    resample="upsample" if i else "",
                )
            )
            before = width
        self.up = nn.ModuleList(reversed(levels))  # numbered like the encoder's, the finest first
        self.norm_out = nn.GroupNorm(GROUPS, before, EPS)
        self.conv_out = nn.Conv2d(before, arch.channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """[B, z, h, w] -> [B, 3, f h, f w]."""
        h = self.mid(self.conv_in(z))
        for level in reversed(list(self.up)):
            h = level(h)
        return convolve(normalise_shifted(h, self.norm_out), self.conv_out)


class Codebook(nn.Module):
    """The codes, and the nearest of them."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)

    def nearest(self, z: Tensor) -> Tensor:
        """Return the index of the code nearest to each place of z [B, C, h, w], [B, h, w]."""
        codes = self.embedding.weight.float()
        half = codes.square().sum(1) / 2
        places = z.detach().float().permute(0, 2, 3, 1).flatten(0, 2)
        # ||z - e||^2 / 2 up to ||z||^2 / 2, which is the same for all codes.
        indices = [
            torch.addmm(half, part, codes.t(), alpha=-1).argmin(1) for part in torch.split(places, PLACES)
        ]
        return torch.cat(indices).view(len(z), *z.shape[2:])

    def forward(self, z: Tensor) -> Tensor:
        """q(z), with the identity for derivative."""
        nearest = self.embedding(self.nearest(z)).permute(0, 3, 1, 2).to(z.dtype)
        rounding: Tensor = nearest - z
        return z + rounding.detach()


class VQ(nn.Module):
    """A first stage.

    Args:
        arch: its architecture.
    """

    def __init__(self, arch: VQArchitecture) -> None:
        super().__init__()
        self.arch = arch
        self.encoder = Encoder(arch)
        self.decoder = Decoder(arch)
        self.quantize = Codebook(arch.codes, arch.latent_channels)
        self.quant_conv = nn.Conv2d(arch.z_channels, arch.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(arch.latent_channels, arch.z_channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents of images [B, 3, H, W], [B, C, H / f, W / f], before they are rounded to codes."""
        return cast(Tensor, self.quant_conv(self.encoder(x)))

    def decode(self, z: Tensor, *, quantize: bool = True) -> Tensor:
        """Return the images of latents [B, C, h, w], [B, 3, f h, f w], rounded to codes or as they are."""
        return cast(Tensor, self.decoder(self.post_quant_conv(self.quantize(z) if quantize else z)))


def infer_vq(shapes: Mapping[str, tuple[int, ...]], source: Path | str) -> VQArchitecture:
    """Work out a first stage's architecture from the shapes of its weights.

    Raises:
        UserError: these are not the weights of such a network.
    """

    def count(pattern: str) -> set[int]:
        return {int(found[1]) for name in shapes if (found := re.match(pattern, name))}

    try:
        width, channels = shapes["encoder.conv_in.weight"][:2]
        levels = len(count(r"encoder\.down\.(\d+)\."))
        widths = [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
        codes, latent = shapes["quantize.embedding.weight"]
        z = shapes["encoder.conv_out.weight"][0]
    except KeyError as error:
        raise UserError(
            f"{source} has no first stage with a codebook (VQ): first_stage_model.{error.args[0]} is missing"
        ) from error
    return VQArchitecture(
        channels=channels,
        width=width,
        multipliers=tuple(w // width for w in widths),
        blocks=len(count(r"encoder\.down\.0\.block\.(\d+)\.")),
        attention=tuple(sorted(count(r"encoder\.down\.(\d+)\.attn\."))),
        z_channels=z,
        latent_channels=latent,
        codes=codes,
    )
