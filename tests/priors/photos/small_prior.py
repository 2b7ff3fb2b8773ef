"""A small prior of photographs, which is a Gaussian without its U-Net."""

from __future__ import annotations

import torch

from daps_kit.covariance import cosine_inverse
from daps_priors.photos.denoiser import PhotoDenoiser
from daps_priors.photos.prior import PhotoPrior

CPU = torch.device("cpu")


NETWORK = {"widths": (8, 16, 16), "blocks": (1, 2, 1), "embedding": 16}


SIGMAS = (0.02, 0.1, 0.5, 2.0, 10.0)


def draws(model: PhotoDenoiser, count: int, height: int, width: int) -> torch.Tensor:
    """Return pictures of the Gaussian that the linear denoiser is of."""
    spectrum = model.linear.spectrum(height, width)
    noise = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height))
    field = cosine_inverse(spectrum.sqrt() * noise)
    return torch.einsum("ndhw,cd->nchw", field, model.linear.colours) + model.linear.mean[:, None, None]


def expected(prior: PhotoPrior, sigma: float, height: int, width: int) -> torch.Tensor:
    spectrum = prior.model.linear.spectrum(height, width)
    return spectrum * sigma**2 / (spectrum + sigma**2)
