r"""A small blur network: what a shaken camera makes of a picture, steered by a code.

For a picture u on [0, 1] and a code k the blurred picture is R(G(E(u, k), k)):

    E, features:         l(u) + F(u, k), the light of the picture, and what it was beyond white
    G, adapter:          sum_j g_j(k) (B_j * light): the code modulates the features of a wide convolution
    R, reconstruction:   t(light), clipped at white: back to the picture

l and the inverse of t are curves of the sRGB family. F is a convolutional network at a quarter of the resolution whose
features the code scales and shifts; it adds light where the picture is about white, and nowhere else. The wide
convolution moves the light by each offset (x_j, y_j), and g_j(k) is how long the camera stays there on the path
p(k) = P k, counted for the four offsets around each moment,

    g_j(k) = mean_t  tri(p_x(t) - x_j) tri(p_y(t) - y_j),      tri(a) = max(0, 1 - |a|),

so that every code is a blur, non-negative and of sum 1. The columns of P start as the principal components of simulated
shakes, scaled so that k ~ N(0, I) has their covariance: a drawn code is a shake. The sum over the modulated features is
computed as what it is, a convolution with the kernel g(k).

The encoder finds the code of a sharp picture and its blurred twin: quotients of their spectra, regularised in three
degrees, are estimates of the kernel, and a network makes mean and log variance of the code of them.

Source: encoder, adapter and code: Tran et al., "Explore Image Deblurring via Encoded Blur Kernel Space", CVPR 2021,
arXiv 2104.00317; features that a code scales and shifts: Perez et al. 2018, arXiv 1709.07871; the kernel of a
convolution as an output: Jia et al. 2016, arXiv 1605.09673.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .coded_blur import CodedBlur

__all__ = ["BlurEncoder", "ShakeNetwork", "ShakeNetworkConfig", "path_kernel"]

FOLD = 4
"""Pixels along a side that F takes together."""
WHITE = 0.9
"""The value of a pixel's brightest colour up to which the picture tells its light."""
SHARPNESS = 10.0
"""Of the softplus that keeps the additional light positive: it is a line but for a tenth of white around 0."""


@dataclass(frozen=True)
class ShakeNetworkConfig:
    """The sizes of a shake network.

    Attributes:
        channels: of the pictures.
        kernel_dim: length of the code; the first 2 `modes` numbers start as those of the path.
        modes: principal components of a path along each axis.
        radius: of the kernels in pixels, a multiple of 4.
        moments: points of a path.
        width: features of F.
        hidden: features of the encoder.
    """

    channels: int = 3
    kernel_dim: int = 40
    modes: int = 16
    radius: int = 8
    moments: int = 96
    width: int = 32
    hidden: int = 512


def path_kernel(paths: Tensor, radius: int) -> Tensor:
    """Return the kernels of paths (x, y), [B, 2, moments]: each moment counts for the four pixels around it.

    They are [B, 2 radius + 1, 2 radius + 1], and of sum 1 where the paths stay within the radius.
    """
    offsets = torch.arange(-radius, radius + 1, dtype=paths.dtype, device=paths.device)
    x, y = (1 - (paths[:, :, None] - offsets[:, None]).abs()).clamp(min=0).unbind(1)
    return y @ x.mT / paths.shape[-1]


class Curve(nn.Module):
    """f(u) = ((u + a) / (1 + a))^p from u_0 = a / (p - 1) on, and below it the tangent there, which passes through 0.

    It starts as that of sRGB (IEC 61966-2-1), a = 0.055 and p = 2.4, on the way from values to light.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_offset = nn.Parameter(torch.tensor(math.log(0.055)))
        self.log_power = nn.Parameter(torch.tensor(math.log(1.4)))

    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a, p, u_0 and f(u_0)."""
        a, p = self.log_offset.exp(), 1 + self.log_power.exp()
        foot = a / (p - 1)
        return a, p, foot, ((foot + a) / (1 + a)) ** p

    def forward(self, u: Tensor) -> Tensor:
        """Return f(u)."""
        a, p, foot, height = self._constants()
        bent = (((torch.maximum(u, foot) + a) / (1 + a)).log() * p).exp()
        return torch.where(u < foot, u * (height / foot), bent)

    def inverse(self, light: Tensor) -> Tensor:
        """Return u with f(u) = light."""
        a, p, foot, height = self._constants()
        bent = (1 + a) * (torch.maximum(light, height).log() / p).exp() - a
        return torch.where(light < height, light * (foot / height), bent)


class BeyondWhite(nn.Module):
    """F: the light beyond what the picture shows."""

    def __init__(self, config: ShakeNetworkConfig) -> None:
        super().__init__()
        folded, width = config.channels * FOLD**2, config.width
        self.conv1 = nn.Conv2d(folded, width, 3, padding=1, padding_mode="replicate")
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.conv3 = nn.Conv2d(width, folded, 1)
        self.modulation = nn.Linear(config.kernel_dim, 2 * width)

    def forward(self, u: Tensor, code: Tensor) -> Tensor:
        """Return the additional light, [B, C, H, W]."""
        shown = u.clamp(0, 1)
        scale, shift = self.modulation(code)[..., None, None].chunk(2, 1)
        h = F.silu(self.conv1(F.pixel_unshuffle(shown, FOLD)))
        h = F.silu(self.conv2(h) * (1 + scale) + shift)
        white = ((shown.amax(1, keepdim=True) - WHITE) / (1 - WHITE)).clamp(min=0)
        return white.square() * F.softplus(F.pixel_shuffle(self.conv3(h), FOLD), SHARPNESS)


class ShakeAdapter(nn.Module):
    """G: the light as it falls on the sensor of a shaken camera."""

    def __init__(self, config: ShakeNetworkConfig) -> None:
        super().__init__()
        self.radius = config.radius
        self.path = nn.Linear(config.kernel_dim, 2 * config.moments, bias=False)

    def paths(self, code: Tensor) -> Tensor:
        """Return the paths of codes [B, kernel_dim], (x, y) in pixels, [B, 2, moments]; too wide ones are shrunk."""
        path: Tensor = self.path(code).view(len(code), 2, -1)
        path = path - path.mean(2, keepdim=True)
        farthest = path.detach().abs().amax((1, 2), keepdim=True)
        return path * (self.radius / farthest.clamp(min=self.radius))

    def kernel(self, code: Tensor) -> Tensor:
        """Return the kernels of codes, [B, 2 radius + 1, 2 radius + 1]."""
        return path_kernel(self.paths(code), self.radius)

    def forward(self, light: Tensor, code: Tensor) -> Tensor:
        """Return the shaken light without the margin, [B, C, H - 2 radius, W - 2 radius]."""
        height, width = light.shape[-2:]
        response = torch.fft.rfft2(self.kernel(code), s=(height, width))[:, None]
        shaken: Tensor = torch.fft.irfft2(torch.fft.rfft2(light) * response, s=(height, width))
        return shaken[..., 2 * self.radius :, 2 * self.radius :]


class ShakeNetwork(CodedBlur):
    """Blur pictures as a shaken camera does.

    Args:
        config: the sizes.
    """

    stride = FOLD

    def __init__(self, config: ShakeNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.kernel_dim, self.margin = config.channels, config.kernel_dim, config.radius
        self.light = Curve()
        self.beyond_white = BeyondWhite(config)
        self.adapter = ShakeAdapter(config)
        self.tone = Curve()

    @torch.no_grad()
    def start(self, paths: Tensor) -> None:
        """Start where nothing is known but the shakes: P from paths [N, 2, moments], and hardly any light beyond."""
        config = self.config
        lines = paths.flatten(0, 1).double()
        variances, components = torch.linalg.eigh(lines.T @ lines / len(lines))
        modes = (components * variances.clamp(min=0).sqrt()).flip(1)[:, : config.modes].float()
        weight = torch.zeros(2, config.moments, config.kernel_dim)
        weight[0, :, 0 : 2 * config.modes : 2] = modes
        weight[1, :, 1 : 2 * config.modes : 2] = modes
        self.adapter.path.weight.copy_(weight.flatten(0, 1))
        self.beyond_white.conv3.weight.zero_()
        assert self.beyond_white.conv3.bias is not None
        self.beyond_white.conv3.bias.fill_(-2 / SHARPNESS)

    def code_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (1, 1): a shake is the same all over the image."""
        return 1, 1

    def forward(self, u: Tensor, code: Tensor) -> Tensor:
        """Return the blurred pictures (see `CodedBlur`)."""
        vector = code.flatten(1)
        light = self.light(u) + self.beyond_white(u, vector)
        return self.tone.inverse(self.adapter(light, vector).clamp(max=1))


class BlurEncoder(nn.Module):
    """Find the code of a sharp picture and its blurred twin.

    Args:
        config: the sizes.
    """

    LEVELS = (0.001, 0.01, 0.1)
    """Regularisation of the quotients, in units of the mean power."""

    def __init__(self, config: ShakeNetworkConfig) -> None:
        super().__init__()
        self.radius = config.radius
        self.curve = Curve().requires_grad_(False)
        self.layers = nn.Sequential(
            nn.Linear(len(self.LEVELS) * (2 * config.radius + 1) ** 2 + 6, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 2 * config.kernel_dim),
        )

    def forward(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the code, [B, kernel_dim], of pictures [B, C, H, W] on [0, 1]."""
        quotients, _ = self.quotients(u, v)
        return self.code(quotients, self.statistics(u, v))

    def code(self, quotients: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the code given what was seen of the pictures."""
        mean, log_variance = self.layers(torch.cat((10 * quotients.flatten(1), statistics), 1)).chunk(2, 1)
        return mean, log_variance.clamp(-12, 2)

    @torch.no_grad()
    def quotients(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return estimates of the kernel, [B, 3, s, s], and the spectra of what an exact kernel becomes in them."""
        r = self.radius
        height, width = (n + 2 * r for n in u.shape[-2:])
        rows, columns = (torch.hann_window(n + 2, False, dtype=u.dtype)[1:-1].to(u) for n in u.shape[-2:])
        window = rows[:, None] * columns
        sharp, blurred = self.curve(u), self.curve(v)
        mean = (window * blurred).mean((2, 3), keepdim=True) / window.mean()
        a, b = (torch.fft.rfft2((light - mean) * window, s=(height, width)) for light in (sharp, blurred))
        power = a.abs().square().sum(1)
        level = power.mean((1, 2), keepdim=True) + 1e-6
        weight = torch.stack([1 / (power + share * level) for share in self.LEVELS], 1)
        spectra = weight * (a.conj() * b).sum(1, keepdim=True)
        estimates = torch.fft.irfft2(spectra, s=(height, width)).roll((r, r), (2, 3))
        return estimates[..., : 2 * r + 1, : 2 * r + 1], weight * power[:, None]

    @torch.no_grad()
    def ideal_quotients(self, kernels: Tensor, responses: Tensor) -> Tensor:
        """Return what exact kernels [B, s, s] become in the quotients, given the spectra of even width."""
        side, size = kernels.shape[-1], (responses.shape[-2], 2 * responses.shape[-1] - 2)
        spectra = torch.fft.rfft2(kernels, s=size)[:, None] * responses
        quotients: Tensor = torch.fft.irfft2(spectra, s=size)
        return quotients[..., :side, :side]

    @torch.no_grad()
    def statistics(self, u: Tensor, v: Tensor) -> Tensor:
        """Return mean light, brightest light and share of white pixels of both pictures, [B, 6]."""
        columns = []
        for picture in (u, v):
            light = self.curve(picture)
            white = (picture > 0.98).to(u.dtype)
            columns += [light.mean((1, 2, 3)), light.amax((1, 2, 3)), white.mean((1, 2, 3))]
        return torch.stack(columns, 1)
