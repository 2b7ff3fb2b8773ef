"""The denoiser of photographs: the best linear one plus what a U-Net adds to it.

    D(x, sigma) = D_L(x, sigma) + w(sigma) e(sigma) U([D_L, (x - D_L) / s(sigma)], log sigma)

D_L, e and s are the linear denoiser and its root mean squares (`linear`), so features and target of the U-Net are of
unit size at every noise level. Both limits are right: D -> x as sigma -> 0 since e < sigma, and D -> D_L -> the mean
colour as sigma -> infinity, since w is 1 at the noise levels that the U-Net was trained on and falls as 1 / sigma
beyond.

No more than so many pixels are computed at once in the U-Net: large batches are split, and large pictures cut into
tiles, where no gradients are asked for. D_L is computed of the whole picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .linear import LinearDenoiser
from .network import FOLD, UNet

IN_CACHES = 1 << 17
"""Pixels that are computed at once on a processor: what is computed of them on the way stays in its caches."""

ON_DEVICES = 1 << 21
"""The same elsewhere: enough to keep a device busy, and little of its memory."""


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
        self, x: Tensor, sigma: Tensor, *, dtype: torch.dtype = torch.float32, pixels: int | None = None
    ) -> Tensor:
        """Denoise x [B, C, H, W] in single precision.

        Args:
            x: noisy pictures.
            sigma: [B] or scalar, positive.
            dtype: what the convolutions compute in.
            pixels: computed at once; by default as many as suit the device.
        """
        sigma = sigma.to(x.dtype).expand(len(x))
        linear, features, error = self.prepared(x, sigma)
        fade = (self.sigma_range[1] / sigma).clamp_max(1)[:, None, None, None]
        level = sigma.clamp(*self.sigma_range).log()
        pixels = pixels or (IN_CACHES if x.device.type == "cpu" else ON_DEVICES)
        with _computing(x.device.type, dtype):
            correction = self._corrected(features, level, pixels)
        return torch.addcmul(linear, fade * error, correction.to(x.dtype))

    def prepared(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return D_L, the features of the U-Net [B, 2 C, H, W] and e(sigma) [B, 1, 1, 1], for sigma [B]."""
        linear, removed = self.linear(x, sigma)
        error, size = (rms[:, None, None, None] for rms in self.linear.rms(sigma))
        return linear, torch.cat((linear, removed / size), dim=1), error

    def _corrected(self, features: Tensor, level: Tensor, pixels: int) -> Tensor:
        """Apply the U-Net to features of any size, to no more than so many pixels at once."""
        height, width = features.shape[-2:]
        features = mirrored(features, self.unet.multiple)
        count = max(1, pixels // features[0, 0].numel())
        cells = None if torch.is_grad_enabled() else pixels // FOLD**2
        batches = zip(torch.split(features, count), torch.split(level, count), strict=True)
        return torch.cat([self.unet(f, e, cells=cells) for f, e in batches])[..., :height, :width]


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
