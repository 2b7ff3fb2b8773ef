"""A run that takes a second: small photographs, a Gaussian prior, a few levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from daps_kit.registry import default_registry
from tests.host.sums import Sums

Toy = Callable[..., Path]


def photograph(seed: int, size: tuple[int, int] = (16, 16), channels: int = 3) -> Image.Image:
    """Return a smooth random picture of (height, width)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, channels), dtype=np.uint8)
    small = Image.fromarray(coarse[..., 0] if channels == 1 else coarse)
    return small.resize(size[::-1], Image.Resampling.BICUBIC)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Write a recipe over three photographs of 16 x 16 and return its path; keywords replace its sections."""

    def make(name: str = "toy", **changes: Any) -> Path:
        photos = tmp_path / "photos"
        if not photos.exists():
            photos.mkdir()
            for index, label in enumerate(("ash", "birch", "cedar")):
                photograph(index).save(photos / f"{label}.png")
        recipe = {
            "format": 1,
            "data": {"use": "images", "path": str(photos), "size": 16},
            "prior": {"use": "gaussian", "mean": 0.0, "std": 0.4},
            "operator": {"use": "gaussian_blur", "kernel_size": 5, "intensity": 1.0},
            "sampler": {
                "use": "daps",
                "annealing": {"use": "edm", "levels": 6, "sigma_max": 5.0, "sigma_min": 0.05},
                "kernel": {"use": "langevin", "steps": 4, "lr": 1.0e-4},
            },
            "runs": 2,
            "seed": 3,
            "output": str(tmp_path / "out"),
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe | changes, sort_keys=False))
        return path

    return make


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


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with a recipe for a training that adds up numbers."""
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/sums.yaml").write_text("format: 1\ntrainer: {use: sums, upto: 10}\n")
    with default_registry().extended(Sums):
        yield
