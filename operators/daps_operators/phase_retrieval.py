r"""Phase retrieval: only the modulus of the Fourier transform is measured.

    A(x) = |F P (x + 1) / 2|

P pads with zeros to N_h x N_w, F is the orthonormal discrete Fourier transform, with frequency 0 in the middle. Where
P puts the image only turns phases, so the image goes into a corner and the transform need not be centred.

The image is real, so F(-k) = conj F(k): half of the columns, H = rfft2, holds everything. With m = |H| and the
phases e = H / m (0 where m = 0, a subgradient), w the half of (v(k) + v(-k)) / 2, and crop the adjoint of P:

    J v   = mirror Re(conj(e) F P v / 2)
    J^T v = crop irfft2(w e) / 2
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Noise, Operator, Shape

__all__ = ["PhaseRetrieval"]

DECADES = 4
"""How many decades below the largest magnitude a picture of the measurement shows."""


class PhaseRetrieval(Operator):
    """The modulus of the centred, orthonormal Fourier transform of the zero-padded image on [0, 1].

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model of the magnitudes.
        oversample: the image is padded by int(oversample / 8 * H) rows above and below it, and likewise by columns.
            At least one half of the image on each side (oversample 4) gives the autocorrelation without wrapping.

    The measurement is [B, C, H + 2 p_h, W + 2 p_w], in units of the image on [0, 1].
    """

    many_modes = True
    black = 0.0

    def __init__(self, shape: Shape, noise: Noise, oversample: float = 2.0) -> None:
        super().__init__(shape, noise)
        _, height, width = shape
        self.size = tuple(side + 2 * int(oversample / 8 * side) for side in (height, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the centred moduli, [B, C, H + 2 p_h, W + 2 p_w]."""
        return self._mirror(self._spectrum(x / 2 + 0.5).abs())

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the moduli and v -> J(x)^T v in closed form; the gradient is 0 where a modulus is 0."""
        spectrum, modulus = self._polar(x.detach())

        def vjp(v: Tensor) -> Tensor:
            return self._crop(spectrum * self._fold(v).div_(2 * _positive(modulus)))

        return self._mirror(modulus), vjp

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x) v in closed form."""
        spectrum, modulus = self._polar(x.detach())
        change = (spectrum.conj() * self._spectrum(v.detach())).real
        return self._mirror(change / (2 * _positive(modulus)))

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
        """Return the centred whole of a function with f(-k) = f(k) from its half in the order of rfft2."""
        height, width = self.size
        row = torch.arange(height, device=half.device) - height // 2
        right, left = half.index_select(-2, row % height), half.index_select(-2, -row % height)
        return torch.cat([left[..., 1 : width // 2 + 1].flip(-1), right[..., : width - width // 2]], -1)

    def _fold(self, whole: Tensor) -> Tensor:
        """Return the half of (f(k) + f(-k)) / 2, in the order of rfft2, of a centred f."""
        height, width = self.size
        row = torch.arange(height, device=whole.device)
        right, left = whole[..., width // 2 :], whole[..., : width // 2 + 1].flip(-1)
        if width % 2 == 0:  # the highest frequency is its own mirror image and stands first
            right = torch.cat([right, whole[..., :1]], -1)
        right = right.index_select(-2, (row + height // 2) % height)
        return right.add_(left.index_select(-2, (height // 2 - row) % height)).div_(2)


def _positive(modulus: Tensor) -> Tensor:
    """Return the modulus, kept away from 0 by the least number whose square a float can hold."""
    return modulus.clamp_min(math.sqrt(torch.finfo(modulus.dtype).tiny))
