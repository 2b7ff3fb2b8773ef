"""Pictures to blur."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daps_operators.nonlinear_blur.pairs import load_tiles

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Smooth coloured blobs with edges, 40 x 40."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    waves = [np.sin(x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) + rng.uniform(0, 6)) for _ in range(72)]
    sheets = np.stack(waves).reshape(24, 3, 40, 40)
    pictures = np.where(
        sheets > rng.uniform(-0.5, 0.5, (24, 1, 1, 1)), 0.3 * sheets + 0.6, 0.2 + 0.1 * sheets
    )
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, images=(255 * pictures.transpose(0, 2, 3, 1)).clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def astronaut() -> list[np.ndarray]:
    ((picture, *_),) = load_tiles(ROOT / "recipes" / "images" / "astronaut.png", 64)
    border = np.pad(picture, [(12, 12), (12, 12), (0, 0)], mode="reflect")
    return [(border * share).astype(np.uint8) for share in np.linspace(1, 0.4, 20)]
