"""The images that a prior is checked on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.command_line import call


def test_the_images_of_a_recipe_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("check-prior", "embedded/gaussian_blur")
    assert result.exit_code == 0, result.output
    assert "gaussian_blur, checked on astronaut.png: right" in result.stdout
    result = call("check-prior", "embedded/gaussian_blur", "prior={use: mixture}")
    assert "gaussian_blur, checked on its own draws: right" in result.stdout
    assert "calibration" not in result.stdout
