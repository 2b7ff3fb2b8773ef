"""The small U-Net of the learned prior.

It predicts what a linear denoiser cannot, so it may be small: it sees the image folded to half its resolution
(`pixel_unshuffle`), works on a pyramid of `len(channels)` resolutions, and is told the noise level by adaptive
group normalisation,

    AdaGN(h, e) = GroupNorm(h) * (1 + scale(e)) + shift(e)          (Dhariwal & Nichol 2021, arXiv 2105.05233, eq. 2 f.)

with e an embedding of log sigma. A learned map is added at every resolution: images of one aligned kind (faces, say)
have a meaning for each place, which convolutions alone cannot know. Self-attention runs at the coarsest resolution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP_CHANNELS = 8
HEAD = 32  # channels of a head of attention
FOLD = 2
FREQUENCIES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the sines and cosines of log sigma


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


class Blocks(nn.ModuleList):
    """Blocks one after the other."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """[B, in, H, W], [B, E] -> [B, out, H, W]."""
        for block in self:
            h = block(h, embedding)
        return h


class Attention(nn.Module):
    """Residual multi-head self-attention over all places (starting as the identity)."""

    def __init__(self, channels: int, head_channels: int = HEAD) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = _zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        batch, channels, height, width = h.shape
        qkv = self.qkv(self.norm(h)).flatten(2).view(batch, 3, self.heads, channels // self.heads, -1)
        q, k, v = qkv.unbind(1)
        # A few dozen places: the plain product is several times faster here than the fused kernel, backward above all.
        weights = (q.transpose(-1, -2) @ k * q.shape[-2] ** -0.5).softmax(-1)
        out = v @ weights.transpose(-1, -2)
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
            raise ValueError(
                f"one number of blocks for each of {len(channels)} resolutions, not {len(blocks)}"
            )
        if size[0] % unit or size[1] % unit:
            raise ValueError(
                f"a U-Net with {len(channels)} resolutions needs sides divisible by {unit}, not {size}"
            )
        self.embed = nn.Sequential(
            nn.Linear(2 * len(FREQUENCIES), embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = nn.Conv2d(in_channels * FOLD**2, channels[0], 3, padding=1)
        self.maps = nn.ParameterList(
            nn.Parameter(torch.zeros(1, c, size[0] // (FOLD << i), size[1] // (FOLD << i)))
            for i, c in enumerate(channels)
        )
        self.down = nn.ModuleList(
            Blocks(Block(c, c, embedding) for _ in range(n))
            for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(channels)
        )
        self.middle = nn.ModuleList(
            Block(channels[-1], channels[-1], embedding) for _ in range(2 * blocks[-1])
        )
        self.attend = nn.ModuleList(Attention(channels[-1]) for _ in range(min(attention, 2 * blocks[-1])))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(channels))
        self.up = nn.ModuleList(
            Blocks(Block(2 * c if i == 0 else c, c, embedding) for i in range(n))
            for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.norm = nn.GroupNorm(_groups(channels[0]), channels[0])
        self.out = _zeroed(nn.Conv2d(channels[0], out_channels * FOLD**2, 3, padding=1))

    @staticmethod
    def multiple(resolutions: int) -> int:
        """Return the number that both sides of an image must be divisible by."""
        return FOLD << (resolutions - 1)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """[B, in_channels, H, W] and log sigma [B] -> [B, out_channels, H, W]."""
        angles = log_sigma[:, None] * log_sigma.new_tensor(FREQUENCIES)
        e = self.embed(torch.cat((angles.sin(), angles.cos()), dim=1))
        h = self.stem(functional.pixel_unshuffle(x, FOLD)) + self.maps[0]
        skips = []
        for i, blocks in enumerate(self.down):
            h = blocks(h, e)
            skips.append(h)
            h = self.shrink[i](h) + self.maps[i + 1]
        for i, block in enumerate(self.middle):
            h = block(h, e)
            if i < len(self.attend):
                h = self.attend[i](h)
        for i in reversed(range(len(self.up))):
            h = functional.interpolate(self.grow[i](h), scale_factor=2.0, mode="nearest")
            h = self.up[i](torch.cat((h, skips.pop()), dim=1), e)
        return functional.pixel_shuffle(self.out(functional.silu(self.norm(h))), FOLD)
