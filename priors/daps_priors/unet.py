"""The small U-Net of the learned prior.

It predicts what a linear denoiser cannot, so it may be small: it sees the image folded to half its resolution
(`pixel_unshuffle`), works on a pyramid of `len(channels)` resolutions, and is told the noise level by adaptive
group normalisation,

    AdaGN(h, e) = GroupNorm(h) * (1 + scale(e)) + shift(e)          (Dhariwal & Nichol 2021, arXiv 2105.05233, eq. 2 f.)

with e an embedding of log sigma. A learned map is added at every resolution: images of one aligned kind (faces, say)
have a meaning for each place, which convolutions alone cannot know. Self-attention runs at the coarsest resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP_CHANNELS = 8
FOLD = 2


def _groups(channels: int) -> int:
    return math.gcd(channels, max(1, channels // GROUP_CHANNELS))


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Residual block: norm, SiLU, 3 x 3 convolution, adaptive norm, SiLU, 3 x 3 convolution (starting at zero)."""

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(in_channels), in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * out_channels)
        self.norm2 = nn.GroupNorm(_groups(out_channels), out_channels, affine=False)
        self.conv2 = _zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """[B, in, H, W], [B, E] -> [B, out, H, W]."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        z = self.conv1(functional.silu(self.norm1(h)))
        z = torch.addcmul(shift, self.norm2(z), 1 + scale)
        return torch.add(self.skip(h), self.conv2(functional.silu(z)))


class Attention(nn.Module):
    """Residual multi-head self-attention over all places (starting as the identity)."""

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = _zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        batch, channels, height, width = h.shape
        qkv = self.qkv(self.norm(h)).flatten(2).view(batch, 3, self.heads, channels // self.heads, -1)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        out = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return torch.add(h, self.project(out.reshape(batch, channels, height, width)))


class UNet(nn.Module):
    """Residual U-Net on the folded image, conditioned on the noise level.

    Args:
        in_channels: channels of the input image.
        out_channels: channels of the output image.
        size: (height, width), each divisible by `multiple(len(channels))`.
        channels: width at each resolution, finest (half the image's) first; multiples of 8.
        blocks: residual blocks at each resolution (once on the way down and once on the way up).
        embedding: width of the noise embedding.
        attention: number of self-attention layers at the coarsest resolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: tuple[int, int],
        channels: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 2, 3),
        embedding: int = 128,
        attention: int = 2,
    ) -> None:
        super().__init__()
        unit = self.multiple(len(channels))
        if len(channels) != len(blocks) or not channels:
            raise ValueError(f"one number of blocks for each of {len(channels)} resolutions, not {len(blocks)}")
        if size[0] % unit or size[1] % unit:
            raise ValueError(f"a U-Net with {len(channels)} resolutions needs sides divisible by {unit}, not {size}")
        self.register_buffer("frequencies", 2.0 ** torch.arange(-2, 4, dtype=torch.float32), persistent=False)
        self.embed = nn.Sequential(nn.Linear(12, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.stem = nn.Conv2d(in_channels * FOLD**2, channels[0], 3, padding=1)
        self.maps = nn.ParameterList(
            nn.Parameter(torch.zeros(1, c, size[0] // (FOLD << i), size[1] // (FOLD << i)))
            for i, c in enumerate(channels)
        )
        self.down = nn.ModuleList(
            nn.ModuleList(Block(c, c, embedding) for _ in range(n))
            for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(channels, channels[1:], strict=False)
        )
        self.middle = nn.ModuleList(Block(channels[-1], channels[-1], embedding) for _ in range(2 * blocks[-1]))
        self.attend = nn.ModuleList(Attention(channels[-1]) for _ in range(min(attention, 2 * blocks[-1])))
        self.grow = nn.ModuleList(
            nn.Conv2d(b, a, 1) for a, b in zip(channels, channels[1:], strict=False)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(Block(2 * c if i == 0 else c, c, embedding) for i in range(n))
            for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.norm = nn.GroupNorm(_groups(channels[0]), channels[0])
        self.out = _zeroed(nn.Conv2d(channels[0], out_channels * FOLD**2, 3, padding=1))

    @staticmethod
    def multiple(resolutions: int) -> int:
        """The number that both sides of an image must be divisible by."""
        return FOLD << (resolutions - 1)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """[B, in_channels, H, W] and log sigma [B] -> [B, out_channels, H, W]."""
        angles = log_sigma[:, None] * self.frequencies
        e = self.embed(torch.cat((angles.sin(), angles.cos()), dim=1))
        h = self.stem(functional.pixel_unshuffle(x, FOLD)) + self.maps[0]
        skips = []
        for i, blocks in enumerate(self.down):
            for block in blocks:
                h = block(h, e)
            skips.append(h)
            h = self.shrink[i](h) + self.maps[i + 1]
        for i, block in enumerate(self.middle):
            h = block(h, e)
            if i < len(self.attend):
                h = self.attend[i](h)
        for i in reversed(range(len(self.up))):
            h = functional.interpolate(self.grow[i](h), scale_factor=2.0, mode="nearest")
            h = torch.cat((h, skips.pop()), dim=1)
            for block in self.up[i]:
                h = block(h, e)
        return functional.pixel_shuffle(self.out(functional.silu(self.norm(h))), FOLD)
