"""The denoiser of photographs: the best linear one plus what a U-Net adds to it.

    D(x, sigma) = D_L(x, sigma) + w(sigma) e(sigma) U([D_L, (x - D_L) / s(sigma)], log sigma)

D_L, e and s are the linear denoiser and its root mean squares (`linear`), so features and target of the U-Net are of
unit size at every noise level. Both limits are right: D -> x as sigma -> 0 since e < sigma, and D -> D_L -> the mean
colour as sigma -> infinity, since w is 1 at the noise levels that the U-Net was trained on and falls as 1 / sigma
beyond.

The U-Net is computed in tiles where the picture is large. A tile is a rectangle of the picture, whose sides lie at
multiples of what the U-Net divides by, and a halo of its receptive field around it, cut off where the picture ends: so
what comes out for the rectangle is, to rounding, what the whole picture gives. Rows and columns of tiles are chosen
such that a tile with its halo has no more than so many pixels, and that all tiles together have as few as can be.
D_L is computed of the whole picture.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .linear import LinearDenoiser
from .network import UNet

PIXELS = 1 << 21  # of a tile with its halo, in all pictures that are computed at once


@dataclass(frozen=True)
class Span:
    """A stretch of an axis: what a tile gives, and what it reads for it.

    Attributes:
        start, stop: what is given.
        first, last: what is read, [first, last) with the halo.
    """

    start: int
    stop: int
    first: int
    last: int


def spans(length: int, parts: int, multiple: int, halo: int) -> list[Span]:
    """Split an axis, whose length is divisible by `multiple`, into parts of about the same number of pixels."""
    units = length // multiple
    edges = [multiple * (units * part // parts) for part in range(parts + 1)]
    return [
        Span(start, stop, max(0, start - halo), min(length, stop + halo))
        for start, stop in itertools.pairwise(edges)
    ]


def tiling(height: int, width: int, multiple: int, halo: int, pixels: int) -> tuple[list[Span], list[Span]]:
    """Return the rows and columns of tiles with the least work, of at most so many pixels each where that can be."""

    def options(length: int) -> list[tuple[int, int, list[Span]]]:
        """Return, for each number of parts, the longest tile, the sum of all and the parts; useful ones only."""
        found: list[tuple[int, int, list[Span]]] = []
        for parts in range(1, length // multiple + 1):
            split = spans(length, parts, multiple, halo)
            read = [span.last - span.first for span in split]
            if not found or max(read) < found[-1][0]:
                found.append((max(read), sum(read), split))
        return found

    pairs = list(itertools.product(options(height), options(width)))
    fitting = [pair for pair in pairs if pair[0][0] * pair[1][0] <= pixels]
    if fitting:
        down, across = min(fitting, key=lambda pair: pair[0][1] * pair[1][1])
    else:
        down, across = min(pairs, key=lambda pair: pair[0][0] * pair[1][0])
    return down[2], across[2]


class PhotoDenoiser(nn.Module):
    """D(x, sigma) = E[x0 | x0 + sigma n = x] for pictures [B, C, H, W] in [-1, 1] of any size from `least` up.

    Args:
        channels: of the pictures.
        widths, blocks, embedding: see `UNet`.
        sigma_range: noise levels the U-Net is told apart.
    """

    least = 8

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int] = (64, 96, 128, 144),
        blocks: Sequence[int] = (2, 2, 2, 1),
        embedding: int = 96,
        sigma_range: tuple[float, float] = (0.003, 60.0),
    ) -> None:
        super().__init__()
        self.channels, self.sigma_range = channels, sigma_range
        self.linear = LinearDenoiser(channels)
        self.unet = UNet(2 * channels, channels, widths, blocks, embedding)

    def forward(
        self, x: Tensor, sigma: Tensor, *, dtype: torch.dtype = torch.float32, pixels: int = PIXELS
    ) -> Tensor:
        """Denoise x [B, C, H, W] in single precision.

        Args:
            x: noisy pictures.
            sigma: [B] or scalar, positive.
            dtype: what the convolutions compute in.
            pixels: see `PIXELS`.
        """
        sigma = sigma.to(x.dtype).expand(len(x))
        linear, features, error = self.prepared(x, sigma)
        fade = (self.sigma_range[1] / sigma).clamp_max(1)[:, None, None, None]
        level = sigma.clamp(*self.sigma_range).log()
        with _computing(x.device.type, dtype):
            correction = self._tiled(features, level, pixels)
        return torch.addcmul(linear, fade * error, correction.to(x.dtype))

    def prepared(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return D_L, the features of the U-Net [B, 2 C, H, W] and e(sigma) [B, 1, 1, 1], for sigma [B]."""
        linear, removed = self.linear(x, sigma)
        error, size = (rms[:, None, None, None] for rms in self.linear.rms(sigma))
        return linear, torch.cat((linear, removed / size), dim=1), error

    def _tiled(self, features: Tensor, level: Tensor, pixels: int) -> Tensor:
        """Apply the U-Net to features of any size, so that no more than so many pixels are computed at once."""
        height, width = features.shape[-2:]
        features = mirrored(features, self.unet.multiple)
        down, across = tiling(
            features.shape[-2], features.shape[-1], self.unet.multiple, self.unet.halo, pixels
        )
        largest = max(s.last - s.first for s in down) * max(s.last - s.first for s in across)
        count = max(1, pixels // largest)
        batches = zip(torch.split(features, count), torch.split(level, count), strict=True)
        whole = [
            torch.cat(
                [torch.cat([self._tile(f, e, row, column) for column in across], dim=3) for row in down],
                dim=2,
            )
            for f, e in batches
        ]
        return torch.cat(whole)[..., :height, :width]

    def _tile(self, features: Tensor, level: Tensor, row: Span, column: Span) -> Tensor:
        given: Tensor = self.unet(features[..., row.first : row.last, column.first : column.last], level)
        return given[
            ...,
            row.start - row.first : row.stop - row.first,
            column.start - column.first : column.stop - column.first,
        ]


def mirrored(x: Tensor, multiple: int) -> Tensor:
    """Continue pictures to the right and below by their mirror images, up to sides divisible by `multiple`.

    As in the cosine basis the mirror lies at the edge of the last pixel; a side of at least half of `multiple` will do.
    """
    for axis in (-2, -1):
        n = x.shape[axis]
        missing = -n % multiple
        if missing:
            x = torch.cat((x, x.narrow(axis, n - missing, missing).flip(axis)), dim=axis)
    return x


@contextlib.contextmanager
def _computing(device: str, dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        yield
