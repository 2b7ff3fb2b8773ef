"""A small denoiser with weights that are all in use, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daps_kit.calibration import calibrate
from daps_priors.trained import weights
from daps_priors.trained.network import Denoiser, blank
from daps_priors.trained.wiener import GaussianDenoiser
from tests.priors.trained.small import NETWORK, SHAPE, images


@pytest.fixture(scope="module")
def model() -> Denoiser:
    """A denoiser with a fitted Gaussian and a U-Net of random weights, none of them zero."""
    made = blank(SHAPE, **NETWORK)
    made.gauss = GaussianDenoiser.fit(images(100, 0), 8)
    generator = torch.Generator().manual_seed(1)
    for p in made.parameters():
        p.data.add_(0.05 * torch.randn(p.shape, generator=generator))
    return made.eval().requires_grad_(False)


@pytest.fixture
def file(model: Denoiser, tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    weights.save(path, model, NETWORK, calibrate(model, images(20, 2)), {"card": {"title": "test"}})
    return path
