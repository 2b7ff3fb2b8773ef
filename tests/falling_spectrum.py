"""A covariance as that of images at a high noise level."""

from __future__ import annotations

import torch

from daps_kit.covariance import CosineCovariance, LocalCovariance

SHAPE = (3, 8, 12)


def falling() -> CosineCovariance:
    """Variances from 1 down to 0.001, as those of images at a high noise level."""
    generator = torch.Generator().manual_seed(2)
    colours, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    radius = (torch.arange(8)[:, None] ** 2 + (torch.arange(12) * 2 / 3) ** 2).sqrt()
    return CosineCovariance((1 + radius) ** -3.0 * torch.tensor([3.0, 1.0, 0.3])[:, None, None], colours)


def local(batch: int = 1) -> LocalCovariance:
    """The same, at some places up to eight times as large in variance as in others, each sample by itself."""
    generator = torch.Generator().manual_seed(5)
    return LocalCovariance(falling(), (torch.rand(batch, *SHAPE, generator=generator) - 0.5).exp())


def steeper() -> CosineCovariance:
    """Two samples, each with a spectrum of its own: that of `falling`, and one that falls faster."""
    even = falling()
    return CosineCovariance(torch.stack((even.power, 0.5 * even.power**1.5)), even.colours)
