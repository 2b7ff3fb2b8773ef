r"""The best linear denoiser of natural images, for pictures of any size.

Photographs have no preferred place, and power spectra that fall as a power of the frequency. With Q an orthonormal
rotation that makes the colours uncorrelated and F the orthonormal cosine transform of the picture's own size,

    x0 ~ N(m, Q F^T diag(S) F Q^T),    S_c(f) = a_c f^{-b_c},    f in cycles a pixel,
    E[x0 | x0 + sigma n = x] = m + Q F^T diag(S / (S + sigma^2)) F Q^T (x - m)        (the Wiener filter).

Basis function (k, l) of H x W pixels has f = |(k / 2H, l / 2W)|; the constant one is given half of the least step. At
high noise levels, where what can be told of a picture is coarse, this is nearly all that there is to tell, and it is
right at any size. The network that is put on top learns in units of

    e(sigma)^2 = mean of S sigma^2 / (S + sigma^2),    s(sigma)^2 = mean of sigma^4 / (S + sigma^2),

the mean squares of what the filter leaves wrong and of what it removes, over the frequencies of 64 x 64 pixels,
whatever the size of the picture: a pixel of a tile must mean the same as a pixel of the whole.

Source: Field, "Relations between the statistics of natural images and the response properties of cortical cells",
J. Opt. Soc. Am. A 4 (1987), for the power law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daps_kit.covariance import cosine_inverse, cosine_transform

REFERENCE = 64
RINGS = 40
LOWEST = 1 / 520


def frequencies(height: int, width: int) -> Tensor:
    """Return the frequency in cycles a pixel of each function of the cosine basis, [H, W]."""
    down, across = (torch.arange(n) / (2 * n) for n in (height, width))
    f = torch.hypot(down[:, None], across[None, :])
    f[0, 0] = 1 / (4 * max(height, width))
    return f


class LinearDenoiser(nn.Module):
    """E[x0 | x0 + sigma n = x] for the Gaussian above; also the root mean squares that belong to it.

    Args:
        channels: of the pictures.
    """

    mean: Tensor
    colours: Tensor
    level: Tensor
    slope: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("colours", torch.eye(channels))
        self.register_buffer("level", torch.zeros(channels))  # log a
        self.register_buffer("slope", torch.full((channels,), 2.0))  # b

    @classmethod
    def fit(cls, pictures: Sequence[Tensor]) -> LinearDenoiser:
        """The Gaussian of some pictures [C, H, W]: a straight line through the logarithms of the powers by ring."""
        model = cls(len(pictures[0]))
        pixels = torch.cat([picture.flatten(1) for picture in pictures], dim=1).double()
        model.mean.copy_(pixels.mean(1))
        model.colours.copy_(torch.linalg.eigh(torch.cov(pixels).reshape(len(pixels), -1))[1].flip(1))
        edges = torch.logspace(math.log10(LOWEST), math.log10(0.5), RINGS + 1)
        total, count = torch.zeros(len(pixels), RINGS), torch.zeros(RINGS)
        for picture in pictures:
            centred = torch.einsum("chw,cd->dhw", picture - model.mean[:, None, None], model.colours)
            power = cosine_transform(centred).square().flatten(1)
            ring = torch.bucketize(frequencies(*picture.shape[1:]).flatten(), edges) - 1
            used = (ring >= 0) & (ring < RINGS)
            used[0] = False
            count.index_add_(0, ring[used], torch.ones(int(used.sum())))
            total.index_add_(1, ring[used], power[:, used])
        seen = count > 0
        middle = (edges[1:] * edges[:-1]).sqrt()[seen].log()
        lines = torch.stack((torch.ones_like(middle), -middle), dim=1)
        powers = (total[:, seen] / count[seen]).clamp_min(1e-10).log()
        model.level, model.slope = torch.linalg.lstsq(lines, powers.T).solution
        return model

    def spectrum(self, height: int, width: int) -> Tensor:
        """Return S of each rotated colour at the frequencies of the cosine basis, [C, H, W]."""
        f = frequencies(height, width).to(self.level)
        return (self.level[:, None, None] - self.slope[:, None, None] * f.log()).exp()

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior mean and what it takes away, x minus it: x [B, C, H, W], sigma [B] (> 0).

        Each by itself, since at the ends one is much smaller than the rounding of the other.
        """
        spectrum, noise = self.spectrum(x.shape[-2], x.shape[-1]), sigma.square()[:, None, None, None]
        mean = self.mean[:, None, None]
        z = cosine_transform(torch.einsum("bchw,cd->bdhw", x - mean, self.colours))
        parts = (cosine_inverse(z * (power / (spectrum + noise))) for power in (spectrum, noise))
        kept, removed = (torch.einsum("bdhw,cd->bchw", part, self.colours) for part in parts)
        return kept + mean, removed

    def rms(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return e and s at each sigma [B], [B] each; their squares add up to sigma^2."""
        spectrum = self.spectrum(REFERENCE, REFERENCE).flatten()
        noise = sigma.square()[:, None]
        gain = noise / (spectrum + noise)
        return (spectrum * gain).mean(1).sqrt(), (noise * gain).mean(1).sqrt()
