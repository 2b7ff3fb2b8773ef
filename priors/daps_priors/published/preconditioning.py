r"""From a network F, whatever it was trained to predict, to the denoiser D(x, sigma) = E[x0 | x0 + sigma n = x]:

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)

             c_skip                  c_out                        c_in                     c_noise
    vp       1                       -sigma                       (1 + sigma^2)^(-1/2)     (M - 1) t(sigma)
    ddpm     1                       -sigma                       (1 + sigma^2)^(-1/2)     k(sigma), linear table
    iddpm    1                       -sigma                       (1 + sigma^2)^(-1/2)     nearest k, cosine table
    ve       1                       sigma                        1                        ln(sigma / 2)
    edm      s^2 / (sigma^2 + s^2)   sigma s (sigma^2+s^2)^(-1/2)  (sigma^2 + s^2)^(-1/2)   ln(sigma) / 4

    vp:     sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1,  t(sigma) its inverse, beta_d = 19.9, beta_min = 0.1
    tables: sigma_k^2 = (1 - a_k) / a_k,  a_k = prod_{j <= k} (1 - beta_j),  k = 0 ... M - 1

In `vp`, `ddpm` and `iddpm`, F predicts the noise; in `ve`, its negative. `vp` tells a discretely trained network the
time of the continuous process, as the published runs do, which is up to three steps of a thousand off; `ddpm` tells it
the step of the noise schedule that it was trained with, interpolated in log sigma.

Source: Karras et al., arXiv 2206.00364, table 1; Ho et al., arXiv 2006.11239; Nichol and Dhariwal, arXiv 2102.09672.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Coefficients",
    "Discrete",
    "Preconditioning",
    "cosine_betas",
    "linear_betas",
    "preconditioning",
]


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in and c_noise, each of the shape of sigma."""

    skip: Tensor
    out: Tensor
    scale: Tensor
    noise: Tensor


class Preconditioning(ABC):
    """The four coefficients of a parametrisation.

    Attributes:
        sigma_range: noise levels at which networks of this kind are trained.
    """

    sigma_range: tuple[float, float]

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at sigma [n], in float64."""

    def denoise(
        self, network: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: float | Tensor
    ) -> Tensor:
        """Return D(x, sigma).

        Args:
            network: (c_in x [B, ...], c_noise [B or 1]) -> F [B, ...].
            x: [B, ...].
            sigma: positive; one number, or one for each sample [B].
        """
        levels = torch.as_tensor(
            sigma, dtype=torch.float64, device=x.device if x.device.type != "mps" else "cpu"
        )
        c = self.coefficients(levels.reshape(-1))
        columns = [k.to(x).reshape(-1, *(1,) * (x.ndim - 1)) for k in c[:3]]
        skip, out, scale = columns
        return skip * x + out * network(scale * x, c.noise.to(x))


class _NoisePrediction(Preconditioning):
    """F predicts the noise of sqrt(a) x0 + sqrt(1 - a) n."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at sigma [n]."""
        return Coefficients(torch.ones_like(sigma), -sigma, (1 + sigma**2).rsqrt(), self.time(sigma))

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """Return the time that the network is told, for sigma [n]."""


class VP(_NoisePrediction):
    """The continuous variance-preserving process.

    Args:
        beta_d, beta_min: slope and start of beta(t).
        steps: M; the network is told (M - 1) t.
    """

    def __init__(self, beta_d: float = 19.9, beta_min: float = 0.1, steps: int = 1000) -> None:
        self.beta_d, self.beta_min, self.steps = beta_d, beta_min, steps
        low, high = (math.sqrt(math.expm1(beta_d * t * t / 2 + beta_min * t)) for t in (1e-5, 1.0))
        self.sigma_range = (low, high)

    def time(self, sigma: Tensor) -> Tensor:
        """Return (M - 1) t with sigma(t) = sigma."""
        root = (self.beta_min**2 + 2 * self.beta_d * torch.log1p(sigma**2)).sqrt()
        return (self.steps - 1) * (root - self.beta_min) / self.beta_d


class Discrete(_NoisePrediction):
    """The discrete process with variances beta_k: the network is told k, between steps by interpolation in log sigma.

    Args:
        betas: [M], each between 0 and 1.
        nearest: take the nearest step in place of interpolating.
    """

    def __init__(self, betas: Tensor, *, nearest: bool = False) -> None:
        # Sums of logarithms: near k = 0 one minus a product would lose the digits that sigma is made of.
        log_a = torch.log1p(-betas.double()).cumsum(0)
        self.sigmas = (torch.expm1(-log_a)).sqrt()
        self.nearest = nearest
        self.sigma_range = (float(self.sigmas[0]), float(self.sigmas[-1]))

    def time(self, sigma: Tensor) -> Tensor:
        """Return the step of sigma, held at the first and the last."""
        table = self.sigmas.to(sigma.device)
        right = torch.searchsorted(table, sigma).clamp(1, len(table) - 1)
        low, high = table[right - 1], table[right]
        if self.nearest:
            return (right - 1 + (sigma - low > high - sigma)).to(sigma.dtype)
        return right - 1 + ((sigma / low).log() / (high / low).log()).clamp(0, 1)


class VE(Preconditioning):
    """The variance-exploding process, of networks trained to predict -n from x0 + sigma n (NCSN++)."""

    sigma_range = (0.02, 100.0)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at sigma [n]."""
        one = torch.ones_like(sigma)
        return Coefficients(one, sigma, one, (sigma / 2).log())


class EDM(Preconditioning):
    """Karras et al.: input and target of the network have unit variance at every sigma.

    Args:
        sigma_data: s, the standard deviation of the data.
    """

    sigma_range = (0.002, 80.0)

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = sigma_data

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at sigma [n]."""
        total = sigma**2 + self.sigma_data**2
        return Coefficients(
            self.sigma_data**2 / total,
            sigma * self.sigma_data * total.rsqrt(),
            total.rsqrt(),
            sigma.log() / 4,
        )


def linear_betas(steps: int = 1000) -> Tensor:
    """Variances that rise linearly from 1e-4 to 0.02 (scaled by 1000 / M), [M]."""
    scale = 1000 / steps
    return torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64)


def cosine_betas(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Variances of a_k = cos^2(pi / 2 (k / M + offset) / (1 + offset)), none above `largest`, [M]."""
    grid = torch.arange(steps + 1, dtype=torch.float64) / steps
    a = ((grid + offset) / (1 + offset) * math.pi / 2).cos() ** 2
    return (1 - a[1:] / a[:-1]).clamp(max=largest)


def preconditioning(name: str, *, sigma_data: float = 0.5, steps: int = 1000) -> Preconditioning:
    """Return a preconditioning by its name: vp, ddpm, iddpm, ve or edm."""
    match name:
        case "vp":
            return VP(steps=steps)
        case "ddpm":
            return Discrete(linear_betas(steps))
        case "iddpm":
            return Discrete(cosine_betas(steps), nearest=True)
        case "ve":
            return VE()
        case "edm":
            return EDM(sigma_data)
    raise ValueError(f"unknown preconditioning {name!r}")
