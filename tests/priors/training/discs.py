"""Discs of random place, size and colour, and recipes of short trainings on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from daps_kit import tensor_file
from daps_kit.trainer import TrainingProgress
from daps_priors.training.settings import TrainDenoiser

NETWORK = {"components": 8, "channels": (8, 16), "blocks": (1, 1), "embedding": 16, "attention": 1}


def shapes(count: int = 240, side: int = 16, channels: int = 3) -> np.ndarray:
    """Discs of random place, size and colour on a random ground: far from Gaussian."""
    rng = np.random.default_rng(0)
    grid = np.arange(side)
    y, x = rng.uniform(4, side - 4, (2, count, 1, 1))
    radius = rng.uniform(2, 6, (count, 1, 1))
    inside = ((grid[:, None] - y) ** 2 + (grid - x) ** 2 < radius**2)[..., None]
    disc, ground = rng.integers(0, 256, (2, count, 1, 1, channels))
    return np.where(inside, disc, ground).astype(np.uint8)


def recipe(images: Path, output: Path, **changes: Any) -> TrainDenoiser:
    given = {
        "images": images,
        "output": output,
        "frame": 16,
        "validation": 24,
        "network": NETWORK,
        "images_seen": 160,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "warm_up": 64,
        "epoch": 80,
        "checkpoint_seconds": 1e-3,
        "bfloat16": False,
        "seed": 5,
    }
    return TrainDenoiser(**(given | changes))


def tensors(output: Path) -> dict[str, torch.Tensor]:
    return tensor_file.read(output / "checkpoint.safetensors")[0]


def log(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


class Stop(Exception):
    """Raised out of a run, in place of a kill."""


def stop_after(images: int) -> Any:
    def progress(report: TrainingProgress) -> None:
        if report.images >= images:
            raise Stop

    return progress
