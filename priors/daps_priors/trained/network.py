"""The learned denoiser: the best linear one plus what a U-Net adds to it.

    D(x, sigma) = D_G(x, sigma) + e(sigma) U([D_G, (x - D_G) / s(sigma)], log sigma)

D_G is the Gaussian (Wiener) denoiser, e(sigma) its root mean squared error and s(sigma) the root mean square of the
noise it removes; e^2 + s^2 = sigma^2. Input and target of the U-Net so have unit variance at every noise level, which
is what the preconditioning of EDM (Karras et al. 2022, arXiv 2206.00364, table 1) does for a scalar Gaussian;
training starts at the best linear denoiser and both limits are right: D -> x as sigma -> 0, D -> mean as sigma -> inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from daps_kit.settings import Shape

from .unet import UNet
from .wiener import GaussianDenoiser


def channels_last(model: Denoiser) -> Denoiser:
    """Lay the weights out as the processor's convolutions like them best."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def blank(shape: Shape, **arguments: Any) -> Denoiser:
    """Return a denoiser whose weights are still to be loaded; the global random state stays as it is."""
    with torch.random.fork_rng(
        devices=[]
    ):  # initial weights are drawn all the same: the meta device takes longer
        return Denoiser(shape, **arguments)


class Denoiser(nn.Module):
    """D(x, sigma) = E[x0 | x0 + sigma n = x] for images [B, C, H, W] in [-1, 1].

    Args:
        shape: (C, H, W) of an image.
        components: principal components of the Gaussian part.
        channels, blocks, embedding, attention: see `UNet`.
        sigma_range: noise levels the U-Net is told apart; beyond them it is told the nearest (D_G is exact anywhere).
    """

    def __init__(
        self,
        shape: Shape,
        *,
        components: int = 128,
        channels: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (2, 2, 3),
        embedding: int = 128,
        attention: int = 2,
        sigma_range: tuple[float, float] = (0.005, 100.0),
    ) -> None:
        super().__init__()
        self.shape = shape
        self.sigma_range = sigma_range
        self.gauss = GaussianDenoiser(shape, components)
        self.unet = UNet(
            2 * shape[0],
            shape[0],
            (shape[1], shape[2]),
            channels=channels,
            blocks=blocks,
            embedding=embedding,
            attention=attention,
        )

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise x [B, C, H, W] at sigma [B] or scalar (> 0)."""
        linear, correction, error = self.parts(x, sigma)
        return torch.addcmul(linear, error, correction)

    def parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return D_G(x, sigma), the U-Net's output (unit variance) and e(sigma) [B, 1, 1, 1]: D = D_G + e U."""
        sigma = sigma.to(x.dtype).expand(x.shape[0])
        linear = self.gauss(x, sigma)
        error, removed = (rms[:, None, None, None] for rms in self.gauss.rms_error(sigma))
        features = torch.cat((linear, (x - linear) / removed), dim=1)
        features = features.contiguous(memory_format=torch.channels_last)
        correction = self.unet(features, sigma.clamp(*self.sigma_range).log())
        return linear, correction.to(x.dtype), error
