"""The file of weights: what comes back, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from daps_kit import tensor_file
from daps_kit.calibration import calibrate
from daps_kit.errors import UserError
from daps_priors.trained import weights
from daps_priors.trained.network import Denoiser, blank
from daps_priors.trained.prior import TrainedPrior, load_embedded, load_trained
from daps_priors.trained.wiener import GaussianDenoiser
from tests.priors.trained.small import CPU, NETWORK, SHAPE, images


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


def test_a_saved_prior_is_the_same_but_for_half_precision(model: Denoiser, file: Path) -> None:
    prior = load_trained(file, shape=SHAPE, device=CPU)
    stored = weights.half(model)
    for name, value in prior.model.state_dict().items():
        torch.testing.assert_close(value, stored[name].float(), rtol=0, atol=0)
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-7)
    x0 = images(20, 2)
    for sigma in (0.05, 0.5, 5.0):
        noisy = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(8))
        full = (model(noisy, torch.tensor(sigma)) - x0).square().mean()
        half = (prior.denoise(noisy, sigma) - x0).square().mean()
        assert half == pytest.approx(float(full), rel=0.01)
    assert prior.description["card"] == {"title": "test"}
    assert prior.description["data_range"] == [-1, 1]
    assert prior.description["sigma_range"] == [0.005, 100.0]


def test_unfit_files_are_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole"):
        weights.load(cut)
    with pytest.raises(UserError, match="no such file"):
        weights.load(tmp_path / "none.safetensors")
    tensors, description = tensor_file.read(file)
    tensor_file.write(cut, tensors, description | {"format": 99})
    with pytest.raises(UserError, match="format 99"):
        weights.load(cut)
    tensor_file.write(cut, tensors, description | {"kind": "blur"})
    with pytest.raises(UserError, match="holds a blur"):
        weights.load(cut)
    tensor_file.write(cut, tensors, description | {"network": NETWORK | {"channels": (16, 16)}})
    with pytest.raises(UserError, match="do not fit the network"):
        weights.load(cut)
    tensor_file.write(cut, tensors | {"gauss.mean": torch.full(SHAPE, torch.nan)}, description)
    with pytest.raises(UserError, match="not finite"):
        weights.load(cut)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "other.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    with pytest.raises(UserError, match="not written by daps-kit"):
        weights.load(path)


@pytest.fixture(scope="module")
def prior() -> TrainedPrior:
    return load_embedded("portraits64", shape=(3, 64, 64), device=CPU)
