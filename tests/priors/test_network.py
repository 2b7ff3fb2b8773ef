"""The learned denoiser: its limits, its derivative, its file, and what it makes of unfit input."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from daps_kit import build, tensor_file
from daps_kit.calibration import CalibrationTable, calibrate, rings
from daps_kit.contracts import RandomStreams
from daps_kit.errors import UserError
from daps_priors.trained import weights
from daps_priors.trained.network import Denoiser, blank
from daps_priors.trained.prior import WEIGHTS, TrainedPrior, load_embedded, load_trained
from daps_priors.trained.unet import UNet
from daps_priors.trained.wiener import GaussianDenoiser

SHAPE = (3, 16, 16)
NETWORK = {"components": 8, "channels": (8, 16), "blocks": (1, 1), "embedding": 16, "attention": 1}
CPU = torch.device("cpu")


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear", align_corners=False)


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


def test_it_starts_as_the_linear_denoiser() -> None:
    fresh = blank(SHAPE, **NETWORK)
    fresh.gauss = GaussianDenoiser.fit(images(100, 0), 8)
    x, sigma = (
        torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2)),
        torch.tensor([0.01, 0.3, 4, 90.0]),
    )
    torch.testing.assert_close(fresh(x, sigma), fresh.gauss(x, sigma), rtol=0, atol=0)


def test_without_noise_it_returns_its_input(model: Denoiser) -> None:
    x = images(4, 3)
    assert (model(x, torch.tensor(1e-4)) - x).abs().max() < 1e-3


def test_in_pure_noise_it_stays_near_the_mean(model: Denoiser) -> None:
    x = 1e4 * torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(4))
    spread = model.gauss.rms_error(torch.tensor(1e4))[0]
    linear, correction, error = model.parts(x, torch.tensor(1e4))
    torch.testing.assert_close(error.flatten(), spread.expand(4))
    assert (linear - model.gauss.mean).abs().max() < 2e-3
    torch.testing.assert_close(model(x, torch.tensor(1e4)), linear + spread * correction)


def test_input_and_target_of_the_network_have_unit_variance(model: Denoiser) -> None:
    x0 = images(500, 5)
    for sigma in (0.05, 0.5, 5.0):
        x = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(6))
        linear, _, error = model.parts(x[:4], torch.tensor(sigma))
        linear = model.gauss(x, torch.tensor(sigma))
        removed = model.gauss.rms_error(torch.tensor(sigma))[1]
        assert ((x0 - linear) / error[0]).square().mean() == pytest.approx(1, rel=0.1)
        assert ((x - linear) / removed).square().mean() == pytest.approx(1, rel=0.1)


def test_sigma_for_each_sample_and_for_all(model: Denoiser) -> None:
    x = images(3, 7)
    sigma = torch.tensor([0.1, 1.0, 10.0])
    alone = torch.cat([model(x[i : i + 1], s) for i, s in enumerate(sigma)])
    torch.testing.assert_close(model(x, sigma), alone, rtol=0, atol=2e-5)


def test_the_position_maps_and_the_noise_level_matter(model: Denoiser) -> None:
    x = torch.zeros(1, 6, *SHAPE[1:])
    low, high = (model.unet(x, torch.tensor([s])) for s in (-2.0, 2.0))
    assert (low - high).abs().max() > 1e-3
    assert low.flatten(2).std(2).min() > 1e-3


@pytest.mark.parametrize(
    ("channels", "blocks", "size", "message"),
    [((8, 16), (1,), (16, 16), "one number of blocks"), ((8, 16, 16), (1, 1, 1), (16, 12), "divisible by 8")],
)
def test_an_impossible_network_is_refused(
    channels: tuple[int, ...], blocks: tuple[int, ...], size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(3, 3, size, channels=channels, blocks=blocks)


def test_making_a_network_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    blank(SHAPE, **NETWORK)
    assert torch.equal(torch.random.get_rng_state(), before)


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


def test_the_denoiser_is_differentiable(file: Path) -> None:
    prior = load_trained(file, shape=None, device=CPU)
    x, v = images(2, 9), images(2, 10)
    leaf = x.clone().requires_grad_()
    prior.denoise(leaf, torch.tensor([0.5, 1.0])).square().sum().backward()
    assert leaf.grad is not None
    step = 1e-3
    sigma = torch.tensor([0.5, 1.0])
    ahead, behind = (prior.denoise(x + s * v, sigma).double().square().sum() for s in (step, -step))
    assert float((leaf.grad * v).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=2e-3)
    assert not prior.denoise(x, 0.5).requires_grad
    assert all(not p.requires_grad for p in prior.model.parameters())


def test_the_covariance_is_the_measured_error(model: Denoiser) -> None:
    x0 = images(64, 11)
    measured = calibrate(model, x0, sigmas=(0.1, 0.5, 2.0))
    for i, sigma in enumerate((0.1, 0.5, 2.0)):
        covariance = measured.covariance(sigma, *SHAPE[1:])
        noise = torch.randn(400, *SHAPE, generator=torch.Generator().manual_seed(12))
        drawn = covariance.scale(noise)
        assert drawn.square().mean() == pytest.approx(float(measured.mse[i]), rel=0.03)
        torch.testing.assert_close(covariance.precision(covariance.scale(drawn)), noise, rtol=1e-3, atol=2e-3)
        ring = (
            torch.fft.rfft2(torch.einsum("nchw,cd->ndhw", drawn, measured.colours), norm="ortho")
            .abs()
            .square()
        )
        inner = rings(*SHAPE[1:]) == 2  # of the periodic transform, which the cosine basis is not quite
        torch.testing.assert_close(
            ring.mean(0)[:, inner].mean(1), measured.spectrum[i, :, 2], rtol=0.15, atol=0
        )


def test_the_covariance_between_and_beyond_the_levels() -> None:
    table = CalibrationTable(
        sigma=torch.tensor([0.1, 1.0]),
        mse=torch.tensor([0.01, 0.04]),
        spectrum=torch.tensor([0.01, 0.04])[:, None, None].expand(2, 1, 4),
        colours=torch.eye(1),
        images=1,
    )
    power = [float(table.covariance(s, 4, 4).power[0, 0, 0]) for s in (0.01, 0.1, 0.1**0.5, 1.0, 50.0)]
    assert power == pytest.approx([0.0001, 0.01, 0.02, 0.04, 0.04], rel=1e-5)


def test_another_shape_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"shape \[3, 16, 16\].*\[1, 16, 16\]"):
        load_trained(file, shape=(1, 16, 16), device=CPU)
    with pytest.raises(UserError, match=r"not \[3, 8, 8\]"):
        load_trained(file, shape=None, device=CPU).denoise(torch.zeros(1, 3, 8, 8), 1.0)


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


class TestEmbedded:
    """The prior that ships with the package."""

    def test_it_is_small_and_says_what_it_is(self, prior: TrainedPrior) -> None:
        path = WEIGHTS / "portraits64.safetensors"
        assert path.stat().st_size <= 8_000_000
        card = prior.description["card"]
        assert card["title"] == "portraits64"
        assert "CC BY 3.0" in card["attribution"]
        assert "UK Parliament" in card["attribution"]
        assert card["limits"]

    def test_its_error_is_far_below_the_linear_one(self, prior: TrainedPrior) -> None:
        for sigma, mse in zip(prior.calibration.sigma, prior.calibration.mse, strict=True):
            if 0.1 <= sigma <= 2:
                linear = float(prior.model.gauss.rms_error(sigma)[0]) ** 2
                assert mse < 0.75 * linear, f"sigma {sigma}: {mse} against {linear}"

    @pytest.mark.parametrize("sigma", [0.05, 1.0, 50.0])
    def test_in_bfloat16_it_is_as_exact(self, prior: TrainedPrior, sigma: float) -> None:
        rough = build("prior", {"use": "embedded", "dtype": "bfloat16"}, shape=(3, 64, 64))
        x0 = prior.sample((3, 64, 64), RandomStreams(range(4)), steps=10)
        x = x0 + sigma * RandomStreams(range(9, 13)).normal((3, 64, 64))
        with torch.no_grad():
            off = (rough.denoise(x, sigma) - prior.denoise(x, sigma)).square().mean()
        error = float(prior.calibration.covariance(sigma, 64, 64).power.mean())
        assert 0 < float(off) < 1e-3 * error

    @pytest.mark.slow
    def test_it_can_be_compiled(self, prior: TrainedPrior, monkeypatch: pytest.MonkeyPatch) -> None:
        compile_with, graphs = torch.compile, []

        def backend(graph: Any, inputs: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        monkeypatch.setattr(torch, "compile", lambda model: compile_with(model, backend=backend))
        compiled = build("prior", {"use": "embedded", "compile": True}, shape=(3, 64, 64))
        x = RandomStreams([0]).normal((3, 64, 64))
        with torch.no_grad():
            torch.testing.assert_close(compiled.denoise(x, 1.0), prior.denoise(x, 1.0), rtol=1e-4, atol=1e-5)
        assert graphs

    def test_it_loads_within_a_second_and_without_the_trainer(self) -> None:
        code = (
            "import sys, time, torch\n"
            "torch.set_num_threads(1)\n"
            "start = time.process_time()\n"
            "from daps_priors.trained.prior import load_embedded\n"
            "load_embedded('portraits64', shape=(3, 64, 64), device=torch.device('cpu'))\n"
            "print(time.process_time() - start)\n"
            "assert not {'scipy', 'daps_priors.training.trainer', 'daps_priors.training.trainer.step'} & set(sys.modules)\n"
        )
        path = ":".join(p for p in sys.path if p)
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": path},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) < 1

    def test_samples_of_it_look_like_its_images(self, prior: TrainedPrior) -> None:
        """Samples of the flow have the mean and the spread, by pixel, of the Gaussian fitted to the images."""
        from daps_priors.training.validation import sample

        drawn = sample(prior.model, (12, 3, 64, 64), seed=3, steps=12)
        assert drawn.abs().max() < 1.6
        distance = (drawn.mean(0) - prior.model.gauss.mean).square().mean().sqrt()
        spread = float(prior.model.gauss.data_std)
        assert distance < spread
        assert 0.5 * spread < (drawn - prior.model.gauss.mean).square().mean().sqrt() < 1.5 * spread
