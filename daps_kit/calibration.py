r"""How wrong a denoiser is: the covariance of x0 given x_t, measured.

Near x_t a sampler needs p(x0 | x_t), a Gaussian around D(x_t, sigma) at best. Its covariance is the denoiser's error,
averaged over images that the denoiser was not trained on, and is taken to be the same at every place. Then it is
diagonal in frequency, once the channels are rotated by an orthonormal Q that makes their errors uncorrelated. What is
measured is the error power by channel and ring of frequencies, of |k| cycles a picture,

    P_sigma[c, r] = mean over images and over |k| = r of |F Q^T (D(x0 + sigma n) - x0)|^2,

with F the orthonormal 2-D Fourier transform. The table is kept at a few noise levels and interpolated linearly in
log sigma, |k| and log P. The mean of P_sigma over all frequencies and channels is the mean squared error of a pixel,
and interpolated spectra are scaled to have that mean.
The covariance is diagonal in the cosine basis (`daps_kit.covariance`), which does not join opposite borders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor

from daps_kit import tensor_file
from daps_kit.contracts import Prior
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import UserError
from daps_kit.variance_head import HeadDescription, LocalErrors, packed, unpacked

__all__ = [
    "SIGMAS",
    "CalibrationTable",
    "calibrate",
    "calibrated",
    "errors",
    "read_calibration",
    "squared_error",
    "write_calibration",
]

Denoise = Callable[[Tensor, Tensor], Tensor]
AnyPrior = TypeVar("AnyPrior", bound=Prior)

TENSORS = ("sigma", "mse", "spectrum", "colours")
SIGMAS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
FLOOR = 1e-12  # of an error power, far below any that is measured


@dataclass(frozen=True)
class CalibrationTable:
    """Measured errors of a denoiser.

    Attributes:
        sigma: noise levels, rising, [S].
        mse: mean squared error of a pixel, [S].
        spectrum: error power by level, rotated channel and ring of frequencies, [S, C, R].
        colours: the rotation Q, [C, C].
        images: how many images it was measured on.
        local: how the errors differ from place to place; None where that is not known.
    """

    sigma: Tensor
    mse: Tensor
    spectrum: Tensor
    colours: Tensor
    images: int
    local: LocalErrors | None = None

    def problem(self) -> str | None:
        """Return what makes these numbers no calibration, if anything."""
        shapes = [tuple(tensor.shape) for tensor in (self.sigma, self.mse, self.spectrum, self.colours)]
        levels, channels = len(self.spectrum), self.spectrum.shape[1] if self.spectrum.ndim == 3 else 0
        if channels < 1 or shapes != [(levels,), (levels,), shapes[2], (channels, channels)] or levels < 2:
            return f"sigma, mse, spectrum and colours do not fit each other (shapes {shapes})"
        tables = (self.sigma, self.mse, self.spectrum)
        if not all(bool(torch.isfinite(table).all() and (table > 0).all()) for table in tables):
            return "noise levels and errors must be positive and finite"
        if not bool(torch.isfinite(self.colours).all()) or not bool((self.sigma.diff() > 0).all()):
            return "noise levels must rise, and the rotation of colours be finite"
        return None

    def covariance(
        self, sigma: float, height: int, width: int, *, measured: tuple[int, int] | None = None
    ) -> CosineCovariance:
        """Return C_sigma for images of this size; beyond the table P ~ sigma^2 below and constant above.

        Args:
            sigma: the noise level.
            height, width: of the images.
            measured: (height, width) of the images that the table is of, where those are parts of larger ones: rings
                are then read by cycles a pixel, not a picture.
        """
        level = min(max(sigma, float(self.sigma[0])), float(self.sigma[-1]))
        logs = self.sigma.log()
        after = int(torch.searchsorted(self.sigma, level).clamp(1, len(self.sigma) - 1))
        weight = (math.log(level) - logs[after - 1]) / (logs[after] - logs[after - 1])
        error = torch.lerp(self.mse[after - 1].log(), self.mse[after].log(), weight).exp()
        rings = torch.lerp(self.spectrum[after - 1].log(), self.spectrum[after].log(), weight)
        power = _read(rings, height, width, measured or (height, width)).exp()
        scale = error / power.mean() * min(1.0, sigma / level) ** 2
        return CosineCovariance(power * scale, self.colours, average=True)


def _read(spectrum: Tensor, height: int, width: int, measured: tuple[int, int]) -> Tensor:
    """Return a table [C, R] of rings at the frequencies of the cosine basis, [C, H, W]; linear between rings."""
    sides = zip((height, width), measured, strict=True)
    down, across = (torch.arange(n, dtype=torch.float64) / 2 * (side / n) for n, side in sides)
    radius = (down[:, None].square() + across.square()).sqrt().to(spectrum)
    last = spectrum.shape[-1] - 1
    inner = radius.floor().long().clamp_max(last)
    return torch.lerp(spectrum[:, inner], spectrum[:, (inner + 1).clamp_max(last)], radius - inner)


def rings(height: int, width: int) -> Tensor:
    """Return the ring (radius, in cycles a picture) of each frequency of the real transform, [H, W // 2 + 1]."""
    down = torch.fft.fftfreq(height, 1 / height)[:, None]
    across = torch.fft.rfftfreq(width, 1 / width)[None, :]
    radius: Tensor = (down.square() + across.square()).sqrt().round().long()
    return radius


def squared_error(denoise: Denoise, x0: Tensor, sigma: float, *, seed: int = 0) -> float:
    """Return the mean squared error of a pixel of the denoised images; the noise depends on seed alone."""
    return float(errors(denoise, x0, sigma, seed=seed).double().square().mean())


def errors(denoise: Denoise, x0: Tensor, sigma: float, *, seed: int = 0, chunk: int = 16) -> Tensor:
    """Return D(x0 + sigma n, sigma) - x0 for images [N, C, H, W]; the noise depends on seed alone."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0)
    level = torch.tensor(sigma, device=x0.device)
    with torch.no_grad():
        denoised = [denoise(x, level) for x in torch.split(x0 + sigma * noise, chunk)]
    return torch.cat(denoised) - x0


def calibrate(
    denoise: Denoise,
    x0: Tensor,
    *,
    sigmas: Sequence[float] = SIGMAS,
    draws: int = 4,
    chunk: int = 16,
    tell: Callable[[float, float], None] | None = None,
) -> CalibrationTable:
    """Measure a denoiser on images that it was not trained on.

    Args:
        denoise: D(x, sigma), such as `prior.denoise`.
        x0: images (latents, for a latent prior), [N, C, H, W].
        sigmas: noise levels, rising.
        draws: of noise, for every image and level.
        chunk: images in a call.
        tell: told each noise level and the mean squared error there.
    """
    seeds = torch.arange(len(sigmas) * draws).view(len(sigmas), draws).tolist()
    found = []
    for sigma, row in zip(sigmas, seeds, strict=True):
        found.append(
            torch.cat([errors(denoise, x0, sigma, seed=seed, chunk=chunk).float().cpu() for seed in row])
        )
        if tell is not None:
            tell(sigma, float(found[-1].double().square().mean()))
    relative = [error / error.square().mean().sqrt() for error in found]
    covariance = sum(torch.einsum("nchw,ndhw->cd", e, e).double() for e in relative)
    _, colours = torch.linalg.eigh(covariance)
    colours = colours.flip(1).float()
    height, width = x0.shape[-2:]
    index = rings(height, width).flatten()
    # The real transform leaves out the mirror images of all columns but the first (and the last, of an even width).
    twice = torch.full((height, width // 2 + 1), 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    weight = twice.flatten()
    count = torch.zeros(int(index.max()) + 1).index_add_(0, index, weight)
    spectra = []
    for error in found:
        rotated = torch.einsum("nchw,cd->ndhw", error, colours)
        power = torch.fft.rfft2(rotated, norm="ortho").abs().square().mean(0).flatten(1)
        total = torch.zeros(len(power), len(count)).index_add_(1, index, power * weight)
        spectra.append(total / count)
    return CalibrationTable(
        sigma=torch.tensor(sigmas),
        mse=torch.stack([error.double().square().mean() for error in found]).float(),
        spectrum=torch.stack(spectra).clamp_min(FLOOR),
        colours=colours,
        images=len(x0),
    )


class CalibrationDescription(tensor_file.Description):
    """What the file of a calibration says beside its tensors."""

    WHAT = "a calibration, which `daps-kit calibrate` writes"
    KIND = "daps-kit calibration"

    images: int = Field(ge=1)
    head: HeadDescription | None = None


def write_calibration(path: Path, calibration: CalibrationTable) -> None:
    """Write a calibration as a .safetensors file.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = {name: getattr(calibration, name) for name in TENSORS}
    description = {
        "kind": CalibrationDescription.KIND,
        "format": CalibrationDescription.FORMAT,
        "images": calibration.images,
    }
    local, said = packed(calibration.local)
    tensor_file.write(path, tensors | local, description | said)


def read_calibration(path: Path) -> CalibrationTable:
    """Read what `write_calibration` wrote.

    Raises:
        UserError: the file is missing, damaged or another one.
    """
    tensors, found = tensor_file.read(path)
    said = CalibrationDescription.of(found, path)
    if missing := [name for name in TENSORS if name not in tensors]:
        raise tensor_file.DamagedFile(f"{path} is damaged: a calibration has {missing[0]}, this file has not")
    sigma, mse, spectrum, colours = (tensors[name].float() for name in TENSORS)
    calibration = CalibrationTable(sigma, mse, spectrum, colours, said.images)
    if problem := calibration.problem():
        raise tensor_file.DamagedFile(f"{path} is damaged: {problem}")
    return replace(calibration, local=unpacked(tensors, said.head, len(calibration.colours), path))


def calibrated(prior: AnyPrior, path: Path | None) -> AnyPrior:
    """Give a prior the calibration in a file, if there is one, and return it.

    Raises:
        UserError: the file is damaged, or of a prior with another number of channels.
    """
    if path is None:
        return prior
    calibration = read_calibration(path)
    channels = len(calibration.colours)
    if prior.shape is not None and prior.state_shape(prior.shape)[0] != channels:
        raise UserError(
            f"{path} is the calibration of a prior with {channels} channels; this one has "
            f"{prior.state_shape(prior.shape)[0]}"
        )
    prior.calibration = calibration
    return prior
