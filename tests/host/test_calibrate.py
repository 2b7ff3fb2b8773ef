"""The measured errors of a denoiser: known answers, the file, the command, and what the sampler makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from daps_kit import build
from daps_kit.calibration import calibrate, calibrated, read_calibration, write_calibration
from daps_kit.command.main import main
from daps_kit.contracts import RandomStreams
from daps_kit.errors import UserError
from daps_kit.linalg import inner
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.daps import mean_variance
from tests.tiny_models import save_ddpm

SHAPE = (3, 16, 16)
SIGMAS = (0.1, 0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of N(0, 0.5^2 I)."""
    prior = GaussianPrior(0.0, 0.5)
    x0 = prior.sample(SHAPE, RandomStreams(range(1024)))
    path = tmp_path_factory.mktemp("calibration") / "gaussian.safetensors"
    write_calibration(path, calibrate(prior.denoise, x0, sigmas=SIGMAS, draws=2))
    return path


def test_a_gaussian_has_the_known_error_at_every_frequency(file: Path) -> None:
    found = read_calibration(file)
    assert found.images == 1024
    for place, sigma in enumerate(SIGMAS):
        expected = 1 / (1 / 0.5**2 + 1 / sigma**2)
        assert float(found.mse[place]) == pytest.approx(expected, rel=0.02)
        torch.testing.assert_close(
            found.spectrum[place], torch.full_like(found.spectrum[place], expected), rtol=0.15, atol=0
        )
    # Between the levels of the table (linear in the logarithms), and for another size of images.
    covariance = found.covariance(0.7, 24, 32)
    v = RandomStreams([3]).normal((3, 24, 32))
    expected = 1 / (1 / 0.5**2 + 1 / 0.7**2)
    assert float(inner(v, covariance.multiply(v)) / inner(v, v)) == pytest.approx(expected, rel=0.08)


def test_the_mean_variance_is_the_trace(file: Path) -> None:
    covariance = read_calibration(file).covariance(0.5, *SHAPE[1:])
    trace = float(covariance.power.mean())
    assert float(mean_variance(covariance, torch.zeros(1, *SHAPE))) == pytest.approx(trace, rel=0.02)


def test_what_is_no_calibration_is_refused(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="not a file of a calibration"):
        read_calibration(broken)
    with pytest.raises(UserError, match="not a file of a calibration"):
        read_calibration(tmp_path / "none.safetensors")
    other = GaussianPrior(torch.zeros(1, 16, 16), 0.5)
    with pytest.raises(UserError, match="a prior with 3 channels; this one has 1"):
        calibrated(other, file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of the standard normal distribution, as well as bytes can hold it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(3):
        x = draw.normal(0, 0.3, (8, 8, 3))
        Image.fromarray(((x + 1) * 127.5).round().clip(0, 255).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
    return folder


def test_a_network_is_calibrated_by_the_command_and_the_sampler_uses_it(tmp_path: Path, photos: Path) -> None:
    section = json.dumps(tiny_section(tmp_path))
    output = tmp_path / "tiny.safetensors"
    command = ["calibrate", section, "--images", str(photos), "--count", "3", "--output", str(output)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "measured on 3 images" in done.output
    found = read_calibration(output)
    assert found.images == 3
    for sigma, mse in zip(found.sigma.tolist(), found.mse.tolist(), strict=True):
        # The network is the denoiser of N(0, I), D = x / (1 + sigma^2); the images have variance 0.09.
        expected = (sigma**2 + sigma**4 * 0.09) / (1 + sigma**2) ** 2
        assert mse == pytest.approx(expected, rel=0.25)  # 576 numbers
    assert build("prior", tiny_section(tmp_path)).denoising_covariance(0.5) is None
    prior = build("prior", tiny_section(tmp_path) | {"calibration": str(output)})
    v = torch.ones(1, 3, 8, 8)
    variance = float(inner(v, prior.denoising_covariance(0.5).multiply(v)) / inner(v, v))
    assert variance == pytest.approx((0.25 + 0.0625 * 0.09) / 1.25**2, rel=0.5)


def tiny_section(folder: Path) -> dict[str, Any]:
    """A network that is the denoiser of N(0, I), in a file."""
    architecture = {"num_head_channels": 32, "image_size": 8}
    return {
        "use": "ddpm",
        "model": "custom",
        "checkpoint": str(save_ddpm(folder / "tiny.pt")),
        "architecture": architecture,
    }


def test_a_prior_is_calibrated_on_its_own_samples(tmp_path: Path) -> None:
    section = json.dumps(tiny_section(tmp_path))
    output = tmp_path / "own.safetensors"
    done = CliRunner().invoke(main, ["calibrate", section, "--count", "4", "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "4 samples of its own" in done.output
    found = read_calibration(output)
    middle = int((found.sigma - 1).abs().argmin())
    assert float(found.mse[middle]) == pytest.approx(0.5, rel=0.15)  # of N(0, I) at sigma 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embedded", "--images", "nowhere"], "no such file or folder"),
        (["gaussian"], "images of any size"),
        (["embeded"], "embedded"),
    ],
)
def test_a_wrong_command_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    done = CliRunner().invoke(main, ["calibrate", *words, "--output", str(output)])
    assert done.exit_code == 2
    assert message in done.output
    assert not output.exists()


def test_one_image_is_too_few(photos: Path, tmp_path: Path) -> None:
    (photos / "1.png").unlink()
    (photos / "2.png").unlink()
    done = CliRunner().invoke(main, ["calibrate", "embedded", "--images", str(photos)])
    assert done.exit_code == 2
    assert "at least 2 images" in done.output
