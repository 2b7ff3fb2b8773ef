r"""Phase retrieval: only the modulus of the Fourier transform is measured.

    A(x) = |F P (x + 1) / 2|

P pads with zeros to N_h x N_w, F is the orthonormal discrete Fourier transform, with frequency 0 in the middle (at
N_h // 2, N_w // 2). Where P puts the image only turns phases, so the image goes into a corner and the transform need
not be centred. Other conventions: frequency 0 in the corner (`centred: false`), F without a factor, as numpy.fft.fft2
has it, which is sqrt(N_h N_w) times larger (`norm: none`), and intensities |F P (x + 1) / 2|^2, as detectors count
them.

The image is real, so F(-k) = conj F(k): half of the columns, H = rfft2, holds everything. With m = |H| and the
phases e = H / m (0 where m = 0, a subgradient), w the half of (v(k) + v(-k)) / 2, and crop the adjoint of P:

    J v   = mirror Re(conj(e) F P v / 2)
    J^T v = crop irfft2(w e) / 2

and for intensities m^2 both are multiplied by 2 m.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from daps_kit.contracts import Noise, Operator, Shape

__all__ = ["PhaseRetrieval"]

Norm = Literal["ortho", "none"]
Values = Literal["modulus", "intensity"]

DECADES = 4
"""How many decades below the largest magnitude a picture of the measurement shows."""


class PhaseRetrieval(Operator):
    """The modulus of the Fourier transform of the zero-padded image on [0, 1], or its square.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model of the measurement.
        oversample: the image is padded by int(oversample / 8 * H) rows above and below it, and likewise by columns.
            At least one half of the image on each side (oversample 4) gives the autocorrelation without wrapping.
        centred: whether frequency 0 is in the middle, or in the corner.
        norm: `ortho`, or `none` for the sum without a factor.
        values: `modulus`, or `intensity` for its square.

    The measurement is [B, C, H + 2 p_h, W + 2 p_w], in units of the image on [0, 1].
    """

    multimodal = True
    black = 0.0

    def __init__(
        self,
        shape: Shape,
        noise: Noise,
        oversample: float = 2.0,
        *,
        centred: bool = True,
        norm: Norm = "ortho",
        values: Values = "modulus",
    ) -> None:
        _, height, width = shape
        self.size = tuple(side + 2 * int(oversample / 8 * side) for side in (height, width))
        self.centred, self.norm, self.values = centred, norm, values
        self._factor = 1.0 if norm == "ortho" else math.sqrt(math.prod(self.size))
        brightest = (
            height * width / math.sqrt(math.prod(self.size))
        )  # the modulus of a white image at frequency 0
        self.scale = self._factor if values == "modulus" else self._factor**2 * brightest
        super().__init__(shape, noise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the moduli or intensities, [B, C, H + 2 p_h, W + 2 p_w]."""
        spectrum = self._spectrum(x / 2 + 0.5)
        if self.values == "intensity":
            return self._mirror((spectrum.real.square() + spectrum.imag.square()) * self._factor**2)
        return self._mirror(spectrum.abs() * self._factor)

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(x) and v -> J(x)^T v in closed form; the gradient is 0 where a modulus is 0."""
        spectrum, modulus = self._polar(x.detach())

        def vjp(v: Tensor) -> Tensor:
            return self._crop(spectrum * self._fold(v).mul_(self._slope(modulus)))

        return self._mirror(self._measured(modulus)), vjp

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x) v in closed form."""
        spectrum, modulus = self._polar(x.detach())
        change = (spectrum.conj() * self._spectrum(v.detach())).real
        return self._mirror(change * self._slope(modulus))

    def _measured(self, modulus: Tensor) -> Tensor:
        """Return what is measured of an orthonormal modulus."""
        scaled = modulus if self._factor == 1 else modulus * self._factor
        return scaled if self.values == "modulus" else scaled.square()

    def _slope(self, modulus: Tensor) -> Tensor:
        """Return the derivative of what is measured by the modulus, over twice the modulus."""
        if self.values == "intensity":
            return torch.full_like(modulus, self._factor**2)
        return self._factor / (2 * _positive(modulus))

    def contradiction(self, y: Tensor) -> str:
        """Tell a measurement of another custom by two moments of the image u on [0, 1].

        With n pixels, N padded ones and the orthonormal moduli m, m(0) sqrt(N) / n is the mean of u, and sum m^2 / n
        the mean of u^2, which lies between the square of the mean and the mean.
        """
        if not bool(torch.isfinite(y).all()):
            return ""
        spread = float(self.noise.std(y.clamp_min(0)).square().mean())
        if float(y.min()) < min(-8 * math.sqrt(spread), -0.05 * float(y.max())):
            return f"values down to {float(y.min()):.3g}, but moduli and intensities are not negative"
        noisy = spread * y[0].numel() if self.values == "modulus" else 3 * math.sqrt(spread) * y[0].numel()
        own = (self.centred, self.norm, self.values)
        if self._fits(y, *own, noisy):
            return ""
        customs = itertools.product((True, False), ("ortho", "none"), ("modulus", "intensity"))
        fitting = [custom for custom in customs if custom != own and self._fits(y, *custom, 0)]
        fitting.sort(key=lambda custom: sum(a != b for a, b in zip(custom, own, strict=True)))
        ways = []
        if fitting:
            names = zip(("centred", "norm", "values"), fitting[0], own, strict=True)
            ways.append(
                ", ".join(f"operator.{name}: {str(new).lower()}" for name, new, old in names if new != old)
            )
        if self._fits(y / 255, *own, noisy):
            ways.append("data.white_level: 255")
        end = f"one has with {' or with '.join(ways)}" if ways else "nor by any other custom"
        return f"no image on [0, 1] has this transform, by its frequency 0 and its energy; {end}"

    def _fits(self, y: Tensor, centred: bool, norm: str, values: str, noise: float) -> bool:
        """Return whether an image on [0, 1] may have these frequency 0 and energy, all channels together."""
        count, pixels = math.prod(self.size), math.prod(self.shape)
        row, column = (side // 2 if centred else 0 for side in self.size)
        factor = 1.0 if norm == "ortho" else math.sqrt(count)
        power = y.clamp_min(0).double() ** (1 if values == "intensity" else 2) / factor**2
        mean = float(power[..., row, column].sqrt().sum()) * math.sqrt(count) / pixels
        square = float(power.sum()) / pixels
        room = 2 * noise / factor**2 / pixels
        largest = float(power[..., row, column].sum()) > 0.5 * float(power.amax((-2, -1)).sum())
        return largest and mean <= 1.1 and mean**2 <= 1.15 * square + room and square <= 1.15 * mean + room

    def to_image(self, y: Tensor) -> Tensor:
        """Return the magnitudes on a logarithmic scale, the largest of each sample white, DECADES below it black."""
        shown = y if y.shape[1] in (1, 3) else y.mean(1, keepdim=True)
        peak = shown.abs().amax((1, 2, 3), keepdim=True)
        relative = shown / peak.clamp_min(torch.finfo(shown.dtype).tiny)
        picture: Tensor = 1 + 2 / DECADES * relative.clamp_min(10.0**-DECADES).log10()
        return picture

    def _spectrum(self, z: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft2(z, s=self.size, norm="ortho")
        return spectrum

    def _crop(self, spectrum: Tensor) -> Tensor:
        """Apply the adjoint of padding after the inverse transform, without the columns that are cropped."""
        _, height, width = self.shape
        rows = torch.fft.ifft(spectrum, dim=-2, norm="ortho")[..., :height, :]
        image: Tensor = torch.fft.irfft(rows, n=self.size[1], norm="ortho")[..., :width]
        return image

    def _polar(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the half spectrum and its modulus, faster than `abs`, which guards against overflow."""
        spectrum = self._spectrum(x / 2 + 0.5)
        return spectrum, (spectrum.real.square() + spectrum.imag.square()).sqrt()

    def _mirror(self, half: Tensor) -> Tensor:
        """Return the whole of a function with f(-k) = f(k) from its half in the order of rfft2."""
        height, width = self.size
        row = torch.arange(height, device=half.device) - height // 2
        right, left = half.index_select(-2, row % height), half.index_select(-2, -row % height)
        whole = torch.cat([left[..., 1 : width // 2 + 1].flip(-1), right[..., : width - width // 2]], -1)
        return whole if self.centred else torch.fft.ifftshift(whole, (-2, -1))

    def _fold(self, whole: Tensor) -> Tensor:
        """Return the half of (f(k) + f(-k)) / 2, in the order of rfft2."""
        height, width = self.size
        whole = whole if self.centred else torch.fft.fftshift(whole, (-2, -1))
        row = torch.arange(height, device=whole.device)
        right, left = whole[..., width // 2 :], whole[..., : width // 2 + 1].flip(-1)
        if width % 2 == 0:  # the highest frequency is its own mirror image and stands first
            right = torch.cat([right, whole[..., :1]], -1)
        right = right.index_select(-2, (row + height // 2) % height)
        return right.add_(left.index_select(-2, (height // 2 - row) % height)).div_(2)


def _positive(modulus: Tensor) -> Tensor:
    """Return the modulus, kept away from 0 by the least number whose square a float can hold."""
    return modulus.clamp_min(math.sqrt(torch.finfo(modulus.dtype).tiny))
