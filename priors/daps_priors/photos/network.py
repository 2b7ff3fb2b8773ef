"""A U-Net that is the same everywhere in the picture and sees no further than its receptive field.

The picture is folded 2 x 2 into channels; each resolution halves it again. A block is

    h <- skip(h) + conv(silu((1 + a) conv(norm(h)) + b)),    (a, b) affine in the embedding of log sigma,

with 3 x 3 convolutions and the root-mean-square norm over the channels of a pixel,

    norm(h) = w h / (mean over channels of h^2 + eps)^{1/2}.

Nothing is learned about places, nothing is averaged over them, and no place attends to all others. So an output depends
on the input within `reach` pixels alone, and the blocks of a resolution may be computed tile by tile (see `tiles`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .tiles import tiled

FOLD = 2
FREQUENCIES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
EPS = 1e-4


class Norm(nn.Module):
    """Divides a pixel by the root mean square of its channels.

    Args:
        channels: of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> the same, laid out channels last."""
        pixels = h.permute(0, 2, 3, 1)
        normed = functional.rms_norm(pixels, pixels.shape[-1:], self.weight.to(h.dtype), EPS)
        return normed.permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block, the identity (or `skip`) at the start of training.

    Args:
        channels_in, channels_out: of input and output.
        embedding: width of the embedding of the noise level.
    """

    reach = 2  # pixels of its own resolution: one for each 3 x 3 convolution

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.norm = Norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.conv2 = _zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """[B, channels_in, H, W] and embedding [B, E] -> [B, channels_out, H, W]."""
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        z = torch.addcmul(shift, self.conv1(self.norm(h)), 1 + scale)
        added: Tensor = self.skip(h) + self.conv2(functional.silu(z))
        return added


class Blocks(nn.ModuleList):
    """Blocks one after the other."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        super().__init__(blocks)

    def forward(self, maps: Sequence[Tensor], e: Tensor, cells: int | None = None) -> Tensor:
        """Apply all of them to maps that are joined by their channels, in tiles of so many cells."""

        def apply(*parts: Tensor) -> Tensor:
            h = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            for block in self:
                h = block(h, e)
            return h

        return tiled(apply, maps, Block.reach * len(self), cells)


class UNet(nn.Module):
    """The network, from features of a noisy picture to what the linear denoiser misses.

    Args:
        channels_in, channels_out: of the features and of the picture.
        channels: width at each resolution, finest (half the picture's) first.
        blocks: residual blocks at each resolution, once on the way down and once on the way up.
        embedding: width of the embedding of the noise level.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: Sequence[int] = (64, 96, 128, 144),
        blocks: Sequence[int] = (2, 2, 2, 1),
        embedding: int = 96,
    ) -> None:
        super().__init__()
        if len(channels) != len(blocks) or not channels:
            raise ValueError(
                f"one number of blocks for each of {len(channels)} resolutions, not {len(blocks)}"
            )
        self.blocks = tuple(blocks)
        finer, coarsest = list(zip(channels[:-1], blocks[:-1], strict=True)), channels[-1]
        pairs = list(itertools.pairwise(channels))
        self.embed = nn.Sequential(
            nn.Linear(2 * len(FREQUENCIES), embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = nn.Conv2d(channels_in * FOLD**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(Blocks(Block(c, c, embedding) for _ in range(n)) for c, n in finer)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.middle = Blocks(Block(coarsest, coarsest, embedding) for _ in range(2 * blocks[-1]))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up = nn.ModuleList(
            Blocks(Block(c if k else 2 * c, c, embedding) for k in range(n)) for c, n in finer
        )
        self.norm = Norm(channels[0])
        self.out = _zeroed(nn.Conv2d(channels[0], channels_out * FOLD**2, 3, padding=1))

    @property
    def multiple(self) -> int:
        """The number that both sides of a picture must be divisible by."""
        return FOLD << (len(self.blocks) - 1)

    @property
    def reach(self) -> int:
        """How far beyond a square of `multiple` pixels, placed at a multiple of it, the outputs inside look."""
        low, high = (
            -1,
            self.multiple // FOLD,
        )  # cells of the finest resolution that the last convolution reads
        skips = []
        for n in self.blocks[:-1]:
            low, high = low - n * Block.reach, high + n * Block.reach
            skips.append((low, high))
            low, high = low // 2, high // 2
        margin = 2 * self.blocks[-1] * Block.reach
        low, high = low - margin, high + margin
        for n, skip in zip(self.blocks[-2::-1], reversed(skips), strict=True):
            low, high = min(2 * low, skip[0]), max(2 * high + 1, skip[1])
            low, high = low - n * Block.reach, high + n * Block.reach
        low, high = FOLD * (low - 1), FOLD * (high + 1) + FOLD - 1
        return max(-low, high - (self.multiple - 1))

    def forward(self, x: Tensor, log_sigma: Tensor, *, cells: int | None = None) -> Tensor:
        """[B, channels_in, H, W] and log sigma [B] -> [B, channels_out, H, W].

        Args:
            x: features.
            log_sigma: of each picture.
            cells: places that are computed at once at each resolution; all where it is not given.
        """
        angles = log_sigma[:, None] * log_sigma.new_tensor(FREQUENCIES)
        e = self.embed(torch.cat((angles.sin(), angles.cos()), dim=1))
        folded = functional.pixel_unshuffle(x, FOLD).contiguous(memory_format=torch.channels_last)
        h = tiled(self.stem, [folded], 1, cells)
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            h = blocks([h], e, cells)
            skips.append(h)
            h = shrink(h)
        h = self.middle([h], e, cells)
        for grow, blocks in zip(reversed(self.grow), reversed(self.up), strict=True):
            h = functional.interpolate(grow(h), scale_factor=2.0, mode="nearest")
            h = blocks([h, skips.pop()], e, cells)
        given = tiled(lambda h: self.out(functional.silu(self.norm(h))), [h], 1, cells)
        return functional.pixel_shuffle(given, FOLD)


def _zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
