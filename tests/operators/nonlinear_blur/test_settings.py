"""Settings of a blur network that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from daps_operators.nonlinear_blur.settings import TrainBlur

NETWORK = {"kernel_dim": 12, "modes": 4, "radius": 4, "moments": 32, "width": 8, "hidden": 64}


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


def settings(images: Path, output: Path, **changes: Any) -> TrainBlur:
    given: dict[str, Any] = {
        "images": images, "output": output, "validation": 4, "frame": 32, "network": NETWORK, "pairs_seen": 96,
        "batch_size": 8, "shakes": 2, "epoch": 32, "warm_up": 16, "shapes": 64, "validation_pairs": 8,
    }  # fmt: skip
    return TrainBlur.model_validate(given | changes)


def test_settings_that_do_not_fit_are_refused(images, tmp_path):
    with pytest.raises(ValidationError, match="must be at least 2 modes"):
        settings(images, tmp_path, network=NETWORK | {"modes": 7})
    with pytest.raises(ValidationError, match="multiple of 4"):
        settings(images, tmp_path, frame=33)
