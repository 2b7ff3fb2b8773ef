r"""The covariance of x0 at the very x_t, of pictures of any kind: a small network tells the spectrum of what is open.

Pictures differ more by their spectrum than by their places: where all is out of focus, there is no fine detail to be
wrong about, and in a lawn there is little else. The measured covariance is a mean over pictures. With Q and P its
colours and its variances in the cosine basis F, take

    C(x_t) = Q F^T diag(R G P) F Q^T,

where log G is linear in log f between the tops of some bands of frequency, hats W_k that add up to 1, and its values
there are what a perceptron says of sigma and of the picture's own spectrum as the denoiser sees it,

    log of the mean of |F Q^T D(x_t, sigma)|^2 over band k, of each colour.

It is fitted to the errors of a frozen denoiser by their Gaussian likelihood (Whittle's), band by band. R, by noise
level, colour and frequency, makes the mean of C(x_t) over pictures the measured covariance (`daps_kit.variance_head`).
At high noise levels G fades to 1: what a sampler shows the
denoiser there is its own draws, which a head that went by them would make smoother and smoother. Elsewhere a share of
log G is believed, and C is a little larger (`TRUST`, `WIDER`): by what the head says of true pictures, samples would be
too alike, most of all of fur and its like, of which few photographs tell.

Source: Whittle, "Estimation and information in stationary time series", Arkiv foer Matematik 2 (1953).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from daps_kit.covariance import cosine_transform, turned

__all__ = ["BANDS", "FREQUENCIES", "SIGMA_RANGE", "WIDER", "SpectrumHead", "by_band", "hats", "shown"]

BANDS = tuple(2.0 ** (-k / 2) for k in range(13, 1, -1))
"""Tops of the bands, cycles a pixel: from 1 / 90 to 1 / 2, two an octave."""

LARGEST = 5.0
"""Bound on |log G|."""

FREQUENCIES = (0.25, 0.5, 1.0, 2.0)
"""Of the sines and cosines of log sigma that the head is told."""

SIGMA_RANGE = (0.01, 12.0)
"""Noise levels that a head is told apart."""

FADE, STEEPNESS = 0.5, 3.0
"""Noise level at which half of log G is left, and how soon it goes: as sigma to this power."""

LEAST = 1e-10
"""Least power of a band that is told apart."""

BLOCK = 2**20
"""Numbers of W_k that are looked at together."""

TRUST, WIDER = 0.75, 1.2
"""Share of log G that is believed, and a factor of the variance, where G has not faded."""


class SpectrumHead(nn.Module):
    """log G at the tops of the bands, of each rotated colour.

    Args:
        channels: C of the pictures.
        width: of the two hidden layers.
        bands: tops of the bands, rising, cycles a pixel.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, channels: int, width: int = 64, bands: Sequence[float] = BANDS) -> None:
        super().__init__()
        self.channels, self.width, self.bands = channels, width, tuple(bands)
        told, numbers = 1 + 2 * len(FREQUENCIES), channels * len(bands)
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(numbers))
        self.layers = nn.ModuleList(
            (nn.Linear(told + numbers, width), nn.Linear(width, width), nn.Linear(width, numbers))
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def spectrum(self, denoised: Tensor, colours: Tensor) -> Tensor:
        """Return the log of the mean power of D in each band, [B, C, K].

        Args:
            denoised: D, [B, C, H, W].
            colours: Q, [C, C].
        """
        z = cosine_transform(turned(denoised, colours.to(denoised).T)).square()
        return by_band(z, self.bands)[0].clamp_min(LEAST).log()

    def forward(self, spectrum: Tensor, sigma: Tensor) -> Tensor:
        """Return log G, [B, C, K], within `LARGEST`.

        Args:
            spectrum: [B, C, K].
            sigma: [B] or 0-d, positive.
        """
        level = sigma.to(spectrum).expand(len(spectrum)).clamp(*SIGMA_RANGE).log()[:, None]
        angles = level * level.new_tensor(FREQUENCIES)
        h = torch.cat(
            (level / 3, angles.sin(), angles.cos(), (spectrum.flatten(1) - self.centre) / self.scale), dim=1
        )
        for layer in self.layers[:-1]:
            h = functional.silu(layer(h))
        log_g: Tensor = LARGEST * torch.tanh(self.layers[-1](h) / LARGEST) * shown(level)
        return log_g.reshape(-1, self.channels, len(self.bands))

    def gain(self, denoised: Tensor, colours: Tensor, sigma: Tensor) -> Tensor:
        """Return G of each picture as far as it is believed, at the frequencies of the cosine basis, [B, C, H, W]."""
        log_g: Tensor = TRUST * self(self.spectrum(denoised, colours), sigma)
        parts = [log_g @ hat.to(log_g).flatten(1) for hat in _blocks(self.bands, *denoised.shape[-2:])]
        return torch.cat(parts, dim=-1).exp().reshape(denoised.shape)


def shown(level: Tensor) -> Tensor:
    """Return how much of log G is left at the log of a noise level."""
    return torch.sigmoid(STEEPNESS * (math.log(FADE) - level))


def hats(
    bands: tuple[float, ...], height: int, width: int, rows: tuple[int, int | None] = (0, None)
) -> Tensor:
    """Return W_k at the frequencies of the cosine basis, [K, H, W], or of some rows; they add up to 1."""
    down, across = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (height, width))
    f = torch.hypot(down[slice(*rows), None], across).clamp(bands[0], bands[-1]).log()
    tops = torch.tensor(bands, dtype=torch.float64).log()
    after = torch.searchsorted(tops, f).clamp(1, len(bands) - 1)
    share = ((f - tops[after - 1]) / (tops[after] - tops[after - 1])).float()
    found = torch.zeros(len(bands), *f.shape)
    found.scatter_(0, after[None] - 1, 1 - share[None])
    return found.scatter_add_(0, after[None], share[None])


_kept = lru_cache(maxsize=16)(hats)


def _blocks(bands: tuple[float, ...], height: int, width: int) -> Iterator[Tensor]:
    """Yield W_k of one block of rows after the other, [K, h, W]: those of a large picture take much memory."""
    rows = max(1, BLOCK // (len(bands) * width))
    for first in range(0, height, rows):
        yield _kept(bands, height, width, (first, min(first + rows, height)))


def by_band(z: Tensor, bands: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return the means over each band of numbers at the frequencies of the cosine basis, and how many it has.

    The constant is left out: how bright a picture is says nothing of its detail.

    Args:
        z: [B, C, H, W].
        bands: their tops.

    Returns:
        [B, C, K] and [K]; of a band that a small picture has no frequencies of the mean is that of the one above.
    """
    total, count, first = z.new_zeros(*z.shape[:2], len(bands)), z.new_zeros(len(bands)), 0
    for hat in _blocks(bands, *z.shape[-2:]):
        after, weights = first + hat.shape[1], hat.to(z).flatten(1)
        constant = int(first == 0)
        total += z[..., first:after, :].flatten(2)[..., constant:] @ weights[:, constant:].T
        count += weights[:, constant:].sum(1)
        first = after
    mean = total / count.clamp_min(torch.finfo(z.dtype).tiny)
    place = torch.arange(len(bands), device=z.device)
    nearest = torch.where(count > 0, place, len(bands)).flip(0).cummin(0).values.flip(0)
    return mean[..., nearest.clamp_max(len(bands) - 1)], count
