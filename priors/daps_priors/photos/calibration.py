r"""How wrong the denoiser of photographs is, for pictures of any size.

The covariance of x0 given x_t is taken as diagonal in the cosine basis of the picture's own size, in the rotated
colours of the linear denoiser, as that one's is. What is measured is the power of the error over the linear denoiser's,

    P_sigma[c](f) = R_sigma[c](f)  S_c(f) sigma^2 / (S_c(f) + sigma^2),

by frequency f in cycles a pixel, which means the same at every size. R changes slowly; it is kept at two rings an
octave and some noise levels and read linearly in log f, log sigma and log R. Beyond what was measured it stays as it
is at the end: so P -> sigma^2 R as sigma -> 0, P -> S R as sigma -> infinity, and the low frequencies of pictures
larger than the measured ones have the uncertainty that the power law gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.calibration import SIGMAS, errors
from daps_kit.covariance import CosineCovariance, cosine_transform
from daps_kit.variance_head import LocalErrors

from .linear import LinearDenoiser, frequencies

RINGS_AN_OCTAVE = 2
FLOOR = 1e-6


@dataclass(frozen=True)
class PhotoCalibration:
    """Measured errors of a denoiser of photographs.

    Attributes:
        sigma: noise levels, rising, [S].
        mse: mean squared error of a pixel of the measured pictures, [S].
        ratio: R by noise level, rotated colour and ring, [S, C, R].
        lowest: frequency of the first ring, cycles a pixel; the next are 2^{1/2} apart.
        linear: the linear denoiser.
        images: how many pictures it was measured on.
        local: how the errors differ from place to place; None where that is not known.
    """

    sigma: Tensor
    mse: Tensor
    ratio: Tensor
    lowest: float
    linear: LinearDenoiser
    images: int
    local: LocalErrors | None = None

    def covariance(self, sigma: float, height: int, width: int) -> CosineCovariance:
        """Return C_sigma for pictures of this size."""
        logs, level = self.sigma.log(), min(max(sigma, float(self.sigma[0])), float(self.sigma[-1]))
        after = int(torch.searchsorted(self.sigma, level).clamp(1, len(self.sigma) - 1))
        weight = (math.log(level) - logs[after - 1]) / (logs[after] - logs[after - 1])
        table = torch.lerp(self.ratio[after - 1].log(), self.ratio[after].log(), weight.to(self.ratio))
        table = table.to(self.linear.level)
        place = _ring(frequencies(height, width), self.lowest).clamp(0, table.shape[-1] - 1).to(table)
        inner = place.floor().long().clamp_max(table.shape[-1] - 2)
        ratio = torch.lerp(table[:, inner], table[:, inner + 1], place - inner).exp()
        power = ratio * _linear_power(self.linear, sigma, height, width)
        return CosineCovariance(power, self.linear.colours, average=True)


def calibrate_by_frequency(
    denoise: Callable[[Tensor, Tensor], Tensor],
    linear: LinearDenoiser,
    pictures: Tensor,
    *,
    sigmas: Sequence[float] = SIGMAS,
    draws: int = 2,
) -> PhotoCalibration:
    """Measure a denoiser on pictures that it was not trained on.

    Args:
        denoise: D(x, sigma).
        linear: the linear denoiser that it is compared with.
        pictures: [N, C, H, W] in [-1, 1].
        sigmas: noise levels, rising.
        draws: of noise, for every picture and level.
    """
    height, width = pictures.shape[-2:]
    lowest = 1 / (2 * max(height, width))
    ring = _ring(frequencies(height, width), lowest).round().long().clamp_min(0).flatten()
    count = int(ring.max()) + 1
    mse, ratio = [], []
    for level, sigma in enumerate(sigmas):
        error = torch.cat(
            [errors(denoise, pictures, sigma, seed=level * draws + draw, chunk=2) for draw in range(draws)]
        )
        rotated = torch.einsum("nchw,cd->ndhw", error, linear.colours)
        power = cosine_transform(rotated).square().mean(0).flatten(1)
        expected = _linear_power(linear, sigma, height, width).flatten(1)
        found, wanted = (torch.zeros(len(p), count).index_add_(1, ring, p) for p in (power, expected))
        # A ring that no frequency falls into has the value of the one before.
        nearest = torch.where(wanted[0] > 0, torch.arange(count), 0).cummax(0).values
        ratio.append((found / wanted)[:, nearest])
        mse.append(error.double().square().mean().float())
    return PhotoCalibration(
        torch.tensor(sigmas),
        torch.stack(mse),
        torch.stack(ratio).clamp_min(FLOOR),
        lowest,
        linear,
        len(pictures),
    )


def _ring(f: Tensor, lowest: float) -> Tensor:
    """Return where frequencies lie among the rings."""
    return RINGS_AN_OCTAVE * (f / lowest).log2()


def _linear_power(linear: LinearDenoiser, sigma: float, height: int, width: int) -> Tensor:
    spectrum = linear.spectrum(height, width)
    return spectrum * sigma**2 / (spectrum + sigma**2)
