"""The file of weights: what comes back, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from daps_kit import tensor_file
from daps_kit.errors import UserError
from daps_priors.trained import weights
from daps_priors.trained.network import Denoiser
from daps_priors.trained.prior import load_trained
from tests.priors.trained.small import CPU, NETWORK, SHAPE, images


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [3, 16]}, r"does not hold \(shape"),
        ({"shape": [3, 16, -16]}, r"does not hold \(shape"),
        ({"shape": [3, 65536, 65536]}, "gauss.mean has the shape"),
        ({"shape": None}, r"does not hold \(shape"),
        ({"sigma_range": [0.1]}, r"does not hold \(sigma_range"),
        ({"sigma_range": [0.0, 1.0]}, r"does not hold \(sigma_range"),
        ({"network": 3}, r"does not hold \(network"),
        ({"network": NETWORK | {"channels": []}}, r"does not hold \(network.channels"),
        ({"network": NETWORK | {"channels": [65536, 65536]}}, "unet.maps.0 has the shape"),
        ({"network": NETWORK | {"blocks": [60000, 60000]}}, "120000 blocks"),
        ({"network": NETWORK | {"blocks": [1]}}, "one number of blocks for each"),
        ({"network": NETWORK | {"embedding": 60000}}, "unet.embed.0.weight has the shape"),
        ({"network": NETWORK | {"components": 60000}}, "gauss.basis has the shape"),
        ({"network": NETWORK | {"attention": 10**9}}, "1000000000 layers of attention"),
        ({"network": NETWORK | {"depth": 3}}, r"does not hold \(network.depth"),
        ({"calibration": {}}, r"does not hold \(calibration"),
        ({"calibration": {"sigma": [1.0, 0.5], "mse": [1.0, 1.0], "images": 1}}, "sigma must rise"),
        ({"calibration": {"sigma": [0.5, 1.0], "mse": [1.0], "images": 1}}, "one mse for each"),
        ({"calibration": {"sigma": [0.5, 1.0], "mse": [1.0, 2.0], "images": 1}}, "do not fit each other"),
        ({"card": [1]}, r"does not hold \(card"),
    ],
)
def test_a_description_that_does_not_hold_is_one_line(
    file: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    tensors, description = tensor_file.read(file)
    other = tmp_path / "other.safetensors"
    tensor_file.write(other, tensors, description | changes)
    with pytest.raises(UserError, match=f"other.safetensors.*{message}") as refused:
        weights.load(other)
    assert "\n" not in str(refused.value)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "other.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    with pytest.raises(UserError, match="not written by daps-kit"):
        weights.load(path)
