r"""A deepinv denoiser as a prior.

deepinv's D_d(u, s) denoises images in [0, 1] with noise of standard deviation s. With u = (x + 1) / 2, s = sigma / 2,

    D(x, sigma) = 2 D_d((x + 1) / 2, sigma / 2) - 1.

A denoiser knows noise levels from low to high (both doubled here). It is never asked for others:

    sigma < low     the score is that of the lowest level it knows: D = x + (sigma / low)^2 (D(x, low) - x)
    sigma > high    x is shrunk to the level high first, as if pixels were independent and uniform on [-1, 1]
                    (variance 1/3): D = D(x (1/3 + high^2) / (1/3 + sigma^2), high)

so D -> x as sigma -> 0, D tends to a constant as sigma grows, and nothing jumps at low or high. Samplers stay within
low and high as far as they can: they are the prior's `sigma_range`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from daps_kit.contracts import Prior

from .modules import copied

__all__ = ["TRAINED", "DenoiserPrior"]

TRAINED: dict[str, tuple[float, float]] = {
    "TVDenoiser": (0.0, 0.25),
    "TGVDenoiser": (0.0, 0.25),
    "WaveletDenoiser": (0.0, 0.25),
    "WaveletDictDenoiser": (0.0, 0.25),
    "BM3D": (0.0, 0.25),
    "EPLLDenoiser": (0.0, 0.25),
    "MMSE": (0.0, math.inf),
    "DRUNet": (0.0, 50 / 255),
    "GSDRUNet": (0.0, 50 / 255),
    "FFDNet": (0.0, 75 / 255),
    "DiffUNet": (0.01, 78.0),
    "NCSNpp": (0.001, 40.0),
}
"""Noise levels on the scale of [0, 1]. Classical denoisers: as far as what they take for the smooth part of an image is
not noise. Networks: what their authors state for the weights that deepinv fetches (DRUNet, GSDRUNet, FFDNet), or those
of the diffusion (NCSNpp, DiffUNet)."""

PIXEL_VARIANCE = 1 / 3


class DenoiserPrior(Prior):
    """A denoiser of deepinv as a prior of images of any size it takes.

    Args:
        denoiser: the denoiser; it is put into evaluation mode.
        trained: noise levels (low, high) it knows, on deepinv's scale of [0, 1].
    """

    def __init__(self, denoiser: nn.Module, trained: tuple[float, float]) -> None:
        self.denoiser = denoiser.eval().requires_grad_(False)
        self.sigma_range = (2 * trained[0], 2 * trained[1])
        # Classical denoisers iterate until the whole batch has converged, and start where the last call stopped.
        self._weights = next(self.denoiser.parameters(), None)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(x, sigma), [B, ...]; each noise level is one call of the denoiser."""
        levels = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1).expand(len(x)).tolist()
        if self._weights is not None and len(set(levels)) == 1:
            return self._at(x, levels[0])
        return torch.cat([self._at(x[b : b + 1], level) for b, level in enumerate(levels)])

    def _at(self, x: Tensor, sigma: float) -> Tensor:
        """Return D(x, sigma) at one noise level."""
        low, high = self.sigma_range
        if sigma > high:
            return self._known(x * (PIXEL_VARIANCE + high**2) / (PIXEL_VARIANCE + sigma**2), high)
        if sigma < low:
            return x + (sigma / low) ** 2 * (self._known(x, low) - x)
        return self._known(x, sigma)

    def _known(self, x: Tensor, sigma: float) -> Tensor:
        """Return D(x, sigma) at a level that the denoiser knows."""
        if self._weights is None:
            denoised: Tensor = copied(self.denoiser)((x + 1) / 2, sigma / 2)
        else:
            denoised = self.denoiser((x.to(self._weights) + 1) / 2, sigma / 2)
        return (2 * denoised - 1).to(x)
