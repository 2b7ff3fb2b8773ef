"""The best linear denoiser: the posterior mean under a Gaussian fitted to images.

An image is split by the orthonormal Haar transform into a low band L (2 x 2 sums / 2) and three detail bands. The
Gaussian x0 ~ N(m, S) has, in that basis,

    L        : S_L = V diag(v - r) V^T + r I     (K principal components V, variances v, r elsewhere)
    details  : S_D = diag(d)                     (after a rotation Q of the colours; one variance for each place)

so that E[x0 | x0 + sigma n = x] = m + S (S + sigma^2 I)^{-1} (x - m) costs two thin matrix products. Every eigenvalue
lambda of S shrinks by lambda / (lambda + sigma^2). Its mean squared error on any data with these second moments is

    e(sigma)^2 = mean over the eigenvalues of  lambda sigma^2 / (lambda + sigma^2),

which is the unit in which a network on top of it should learn (`rms_error`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BANDS = 4
FLOOR = 1e-7  # variance; keeps every ratio finite for images that are flat somewhere


def haar(x: Tensor) -> Tensor:
    """Orthonormal one-level Haar transform: [B, C, H, W] -> [B, 4, C, H/2, W/2] (low band first)."""
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    return torch.stack((top + bottom, top - bottom, left + right, left - right), dim=1) / 2


def unhaar(bands: Tensor) -> Tensor:
    """Inverse of `haar`: [B, 4, C, h, w] -> [B, C, 2h, 2w]."""
    low, vertical, horizontal, diagonal = bands.unbind(1)
    top, bottom = (low + vertical) / 2, (low - vertical) / 2
    left, right = (horizontal + diagonal) / 2, (horizontal - diagonal) / 2
    even = torch.stack((top + left, top - left), dim=-1).flatten(-2)
    odd = torch.stack((bottom + right, bottom - right), dim=-1).flatten(-2)
    return torch.stack((even, odd), dim=-2).flatten(-3, -2)


def _principal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return variances (falling) and directions [D, min(N, D)] of centred rows [N, D], by the smaller Gram matrix."""
    count, size = rows.shape
    if count >= size:
        power, directions = torch.linalg.eigh(rows.T @ rows / count)
    else:
        power, left = torch.linalg.eigh(rows @ rows.T / count)
        directions = functional.normalize(rows.T @ left, dim=0)
    return power.flip(0).clamp_min(0), directions.flip(1)


class GaussianDenoiser(nn.Module):
    """E[x0 | x0 + sigma n = x] for the Gaussian above; also its root mean squared error.

    Args:
        shape: (C, H, W) of an image, H and W even.
        components: number K of principal components kept of the low band.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor
    colours: Tensor
    details: Tensor

    def __init__(self, shape: tuple[int, int, int], components: int) -> None:
        super().__init__()
        channels, height, width = shape
        if height % 2 or width % 2:
            raise ValueError(f"the Haar transform needs even sides, not {height} x {width}")
        low = channels * height * width // BANDS
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("basis", torch.eye(low, min(components, low)))
        self.register_buffer("variances", torch.ones(min(components, low)))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("colours", torch.eye(channels))
        self.register_buffer("details", torch.ones(BANDS - 1, channels, height // 2, width // 2))

    @classmethod
    def fit(cls, images: Tensor, components: int) -> GaussianDenoiser:
        """The Gaussian with the moments of `images` [N, C, H, W]; at most N - 1 components can be told apart."""
        count = len(images)
        x = images.double()
        mean = x.mean(0)
        bands = haar(x - mean)
        low = bands[:, 0].flatten(1)
        model = cls((images.shape[1], images.shape[2], images.shape[3]), min(components, count - 1))
        kept = len(model.variances)
        power, directions = _principal(low)
        detail = bands[:, 1:]
        covariance = torch.einsum("nbchw,nbdhw->cd", detail, detail)
        _, colours = torch.linalg.eigh(covariance)
        rotated = torch.einsum("nbchw,cd->nbdhw", detail, colours)
        # A variance for each place is known from few images only: it is pulled a little towards its neighbours' mean.
        variance = rotated.square().mean(0)
        variance = (variance * count + 8 * variance.mean((-2, -1), keepdim=True)) / (count + 8)
        with torch.no_grad():
            model.mean.copy_(mean)
            model.basis.copy_(directions[:, :kept])
            model.variances.copy_(power[:kept].clamp_min(FLOOR))
            model.rest.copy_(
                ((power.sum() - power[:kept].sum()) / max(1, low.shape[1] - kept)).clamp_min(FLOOR)
            )
            model.colours.copy_(colours)
            model.details.copy_(variance.clamp_min(FLOOR))
        return model

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior mean: x [B, C, H, W], sigma [B] or scalar (> 0) -> [B, C, H, W]."""
        noise = sigma.square().reshape(-1, 1)
        bands = haar(x - self.mean)
        low = bands[:, 0].flatten(1)
        base = self.rest / (self.rest + noise)
        shrink = self.variances / (self.variances + noise) - base
        low = base * low + (shrink * (low @ self.basis)) @ self.basis.T
        gain = self.details / (self.details + noise[:, :, None, None, None])
        detail = torch.einsum("nbchw,cd->nbdhw", bands[:, 1:], self.colours)
        detail = torch.einsum("nbdhw,cd->nbchw", gain * detail, self.colours)
        return unhaar(torch.cat((low.view(bands[:, :1].shape), detail), dim=1)) + self.mean

    def rms_error(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Root mean square of D - x0 and of x - D at each sigma: [B] (or scalar) -> two of [B].

        The squares add up to sigma^2; both are summed on their own since either may be tiny beside the other.
        """
        noise = sigma.square().reshape(-1, 1)

        def total(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
            gain = noise / (eigenvalues.flatten() + noise)
            return (eigenvalues.flatten() * gain).sum(1), (noise * gain).sum(1)

        low = self.basis.shape[0] - len(self.variances)
        sums = (total(self.variances), total(self.rest), total(self.details))
        error, removed = (a + low * b + c for a, b, c in zip(*sums, strict=True))
        return (error / self.mean.numel()).sqrt(), (removed / self.mean.numel()).sqrt()

    @property
    def data_std(self) -> Tensor:
        """Standard deviation of a pixel of an image about the mean."""
        low = self.basis.shape[0] - len(self.variances)
        return ((self.variances.sum() + low * self.rest + self.details.sum()) / self.mean.numel()).sqrt()
