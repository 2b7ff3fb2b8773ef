r"""How wrong a denoiser is: the covariance of x0 given x_t, measured.

Near x_t a sampler needs p(x0 | x_t), a Gaussian around D(x_t, sigma) at best. Its covariance is the denoiser's error,
averaged over images that the denoiser was not trained on, and is taken to be the same at every place. Then it is
diagonal in frequency, once the channels are rotated by an orthonormal Q that makes their errors uncorrelated. What is
measured is the error power by channel and ring of frequencies, of |k| cycles a picture,

    P_sigma[c, r] = mean over images and over |k| = r of |F Q^T (D(x0 + sigma n) - x0)|^2,

with F the orthonormal 2-D Fourier transform. The table is kept at a few noise levels and interpolated linearly in
log sigma, |k| and log P. The mean of P_sigma over all frequencies and channels is the mean squared error of a pixel,
to which what is interpolated is scaled.
The covariance is diagonal in the cosine basis (`daps_kit.covariance`), which does not join opposite borders.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from daps_kit.contracts import Prior
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import UserError
from daps_kit.files import write_atomic

__all__ = [
    "SIGMAS",
    "Calibration",
    "calibrate",
    "calibrated",
    "errors",
    "read_calibration",
    "squared_error",
    "write_calibration",
]

Denoiser = Callable[[Tensor, Tensor], Tensor]
AnyPrior = TypeVar("AnyPrior", bound=Prior)

KIND, FORMAT = "daps-kit calibration", 1
SIGMAS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
FLOOR = 1e-12  # of an error power, far below any that is measured


@dataclass(frozen=True)
class Calibration:
    """Measured errors of a denoiser.

    Attributes:
        sigma: noise levels, rising, [S].
        mse: mean squared error of a pixel, [S].
        spectrum: error power by level, rotated channel and ring of frequencies, [S, C, R].
        colours: the rotation Q, [C, C].
        images: how many images it was measured on.
    """

    sigma: Tensor
    mse: Tensor
    spectrum: Tensor
    colours: Tensor
    images: int

    def covariance(self, sigma: float, height: int, width: int) -> CosineCovariance:
        """Return C_sigma for images of this size; beyond the table P ~ sigma^2 below and constant above."""
        level = min(max(sigma, float(self.sigma[0])), float(self.sigma[-1]))
        logs = self.sigma.log()
        after = int(torch.searchsorted(self.sigma, level).clamp(1, len(self.sigma) - 1))
        weight = (math.log(level) - logs[after - 1]) / (logs[after] - logs[after - 1])
        error = torch.lerp(self.mse[after - 1].log(), self.mse[after].log(), weight).exp()
        rings = torch.lerp(self.spectrum[after - 1].log(), self.spectrum[after].log(), weight)
        power = _read(rings, height, width).exp()
        return CosineCovariance(power * (error / power.mean() * min(1.0, sigma / level) ** 2), self.colours)


def _read(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Return a table [C, R] of rings at the frequencies of the cosine basis, [C, H, W]; linear between rings."""
    down, across = (torch.arange(n, dtype=torch.float64) / 2 for n in (height, width))
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


def squared_error(denoise: Denoiser, x0: Tensor, sigma: float, *, seed: int = 0) -> float:
    """Return the mean squared error of a pixel of the denoised images; the noise depends on seed alone."""
    return float(errors(denoise, x0, sigma, seed=seed).double().square().mean())


def errors(denoise: Denoiser, x0: Tensor, sigma: float, *, seed: int = 0, chunk: int = 16) -> Tensor:
    """Return D(x0 + sigma n, sigma) - x0 for images [N, C, H, W]; the noise depends on seed alone."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0)
    level = torch.tensor(sigma, device=x0.device)
    with torch.no_grad():
        denoised = [denoise(x, level) for x in torch.split(x0 + sigma * noise, chunk)]
    return torch.cat(denoised) - x0


def calibrate(
    denoise: Denoiser,
    x0: Tensor,
    *,
    sigmas: Sequence[float] = SIGMAS,
    draws: int = 4,
    chunk: int = 16,
    tell: Callable[[float, float], None] | None = None,
) -> Calibration:
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
    return Calibration(
        sigma=torch.tensor(sigmas),
        mse=torch.stack([error.double().square().mean() for error in found]).float(),
        spectrum=torch.stack(spectra).clamp_min(FLOOR),
        colours=colours,
        images=len(x0),
    )


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as a .safetensors file.

    Raises:
        UserError: the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {
        name: getattr(calibration, name).contiguous() for name in ("sigma", "mse", "spectrum", "colours")
    }
    description = {"kind": KIND, "format": FORMAT, "images": calibration.images}
    write_atomic(path, save(tensors, {"daps_kit": json.dumps(description)}))


def read_calibration(path: Path) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        UserError: the file is missing, damaged or another one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get("daps_kit", "{}"))
            if description.get("kind") != KIND or description.get("format") != FORMAT:
                raise UserError(
                    f"{path} is not a calibration of this version; `daps-kit calibrate` writes one"
                )
            tensors = {name: file.get_tensor(name) for name in ("sigma", "mse", "spectrum", "colours")}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a file of a calibration ({error})") from error
    return Calibration(**tensors, images=int(description["images"]))


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
