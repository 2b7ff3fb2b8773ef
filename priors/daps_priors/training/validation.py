"""What is measured of a denoiser: squared error by noise level, and pictures."""

from __future__ import annotations

import io
import itertools

import torch
from PIL import Image
from torch import Tensor, nn

from daps_kit.calibration import squared_error
from daps_priors.trained.network import Denoiser

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TRAINED_SIGMAS = (0.1, 0.5, 2.0, 5.0)
PICTURE_SIGMAS = (0.2, 0.5, 1.0, 2.0, 5.0)
PICTURES = 8
SAMPLING_STEPS = 20


def squared_errors(model: Denoiser, validation: Tensor, trained: Tensor) -> dict[str, dict[str, float]]:
    """Return squared errors by sigma: of held-out images, of the linear denoiser on them, and of training images."""
    device = next(model.buffers()).device
    validation, trained = validation.to(device), trained.to(device)
    return {
        "mse": {str(s): squared_error(model, validation, s) for s in SIGMAS},
        "linear_mse": {str(s): squared_error(model.gauss, validation, s) for s in SIGMAS},
        "trained_mse": {str(s): squared_error(model, trained, s) for s in TRAINED_SIGMAS},
    }


def sample(model: nn.Module, shape: tuple[int, ...], *, seed: int = 0, steps: int = SAMPLING_STEPS) -> Tensor:
    """Draw samples by Heun's method on the probability-flow ODE (arXiv 2206.00364, algorithm 1)."""
    rho, high, low = 7.0, 80.0, 0.02
    ramp = torch.linspace(0, 1, steps)
    sigmas = torch.cat(
        ((high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho, torch.zeros(1))
    )
    device = next(model.buffers()).device
    x = high * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    with torch.no_grad():
        for sigma, following in itertools.pairwise(sigmas.to(device)):
            slope = (x - model(x, sigma)) / sigma
            ahead = x + (following - sigma) * slope
            if following > 0:
                slope = (slope + (ahead - model(ahead, following)) / following) / 2
                ahead = x + (following - sigma) * slope
            x = ahead
    return x.cpu()


def pictures(model: Denoiser, validation: Tensor) -> bytes:
    """Return a PNG: held-out images, the same denoised from rising noise levels, two rows of samples."""
    clean = validation[:PICTURES]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    device = next(model.buffers()).device
    rows = [clean]
    with torch.no_grad():
        for s in PICTURE_SIGMAS:
            rows.append(model((clean + s * noise).to(device), torch.tensor(s, device=device)).cpu())
    rows += torch.split(sample(model, (2 * len(clean), *clean.shape[1:])), len(clean))
    file = io.BytesIO()
    grid(torch.stack(rows)).save(file, "PNG")
    return file.getvalue()


def grid(images: Tensor) -> Image.Image:
    """[rows, columns, C, H, W] in [-1, 1] -> one picture (of the first three channels, or of the first)."""
    kept = 3 if images.shape[2] >= 3 else 1
    rows, columns, _, height, width = images.shape
    pixels = ((images[:, :, :kept].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    array = pixels.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, kept).numpy()
    return Image.fromarray(array if kept == 3 else array[:, :, 0])
