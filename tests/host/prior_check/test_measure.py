"""A prior is calibrated on its own samples or on images, and what is too little is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from daps_kit.calibration import read_calibration
from daps_kit.command.main import main
from tests.host.unit_gaussian import tiny_section


def test_a_prior_is_calibrated_on_its_own_samples(tmp_path: Path) -> None:
    section = json.dumps(tiny_section(tmp_path))
    output = tmp_path / "own.safetensors"
    done = CliRunner().invoke(main, ["calibrate", section, "--count", "4", "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "4 samples of its own" in done.output
    found = read_calibration(output)
    middle = int((found.sigma - 1).abs().argmin())
    assert float(found.mse[middle]) == pytest.approx(0.5, rel=0.15)  # of N(0, I) at sigma 1


def test_one_image_is_too_few(photos: Path, tmp_path: Path) -> None:
    (photos / "1.png").unlink()
    (photos / "2.png").unlink()
    done = CliRunner().invoke(main, ["calibrate", "embedded", "--images", str(photos)])
    assert done.exit_code == 2
    assert "at least 2 images" in done.output
