"""The settings of a short training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daps_operators.nonlinear_blur.settings import TrainBlur

NETWORK = {"kernel_dim": 12, "modes": 4, "radius": 4, "moments": 32, "width": 8, "hidden": 64}


def settings(images: Path, output: Path, **changes: Any) -> TrainBlur:
    given: dict[str, Any] = {
        "images": images, "output": output, "validation": 4, "frame": 32, "network": NETWORK, "pairs_seen": 96,
        "batch_size": 8, "shakes": 2, "epoch": 32, "warm_up": 16, "shapes": 64, "validation_pairs": 8,
    }  # fmt: skip
    return TrainBlur.model_validate(given | changes)
