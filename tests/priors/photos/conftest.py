from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from daps_priors.photos import weights
from daps_priors.photos.calibration import calibrate_by_frequency
from daps_priors.photos.denoiser import PhotoDenoiser
from daps_priors.photos.prior import PhotoPrior
from tests.priors.photos.small_prior import NETWORK, SIGMAS, draws


def _lively(model: torch.nn.Module, size: float = 0.3) -> torch.nn.Module:
    """Give every weight a value, those that start at zero too, so that every path through the network counts."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            fan_in = p[0].numel() if p.ndim > 1 else 4
            p.add_(size * torch.randn(p.shape, generator=generator) / fan_in**0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def lively() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """What gives every weight of a module a value."""
    return _lively


@pytest.fixture(scope="session")
def model() -> PhotoDenoiser:
    """A small denoiser of colour pictures, its U-Net random, its linear part like that of photographs."""
    torch.manual_seed(0)
    found = PhotoDenoiser(3, widths=(8, 16, 16), blocks=(1, 2, 1), embedding=16, sigma_range=(0.01, 20.0))
    found.linear.mean.copy_(torch.tensor([-0.2, 0.1, 0.3]))
    found.linear.colours.copy_(torch.linalg.qr(torch.randn(3, 3))[0])
    found.linear.level.copy_(torch.tensor([-6.0, -9.0, -10.0]))
    found.linear.slope.copy_(torch.tensor([2.3, 2.6, 2.5]))
    _lively(found.unet)
    return found.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def gaussian(model) -> PhotoPrior:
    """The same denoiser without its U-Net, and its errors measured on its own pictures of 32 x 32."""
    plain = PhotoDenoiser(3, **NETWORK, sigma_range=(0.01, 20.0))
    plain.linear.load_state_dict(model.linear.state_dict())
    plain.eval().requires_grad_(False)
    calibration = calibrate_by_frequency(
        plain, plain.linear, draws(plain, 128, 32, 32), sigmas=SIGMAS, draws=1
    )
    return PhotoPrior(plain, calibration, {}, dtype="float32")


@pytest.fixture
def file(model, gaussian, tmp_path):
    path = tmp_path / "photos.safetensors"
    weights.save(path, model, NETWORK, gaussian.calibration, {"card": {"title": "small"}})
    return path
