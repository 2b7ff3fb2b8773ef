"""`daps-kit calibrate`: a network, its images, and the sampler that uses the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from daps_kit import build
from daps_kit.calibration import read_calibration
from daps_kit.command.main import main
from daps_kit.linalg import inner
from tests.host.unit_gaussian import tiny_section


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
