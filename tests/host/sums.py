"""A training without a network: it adds up numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from daps_kit.settings import TrainerSettings
from daps_kit.trainer import Trainer, TrainingProgress


class Adder(Trainer):
    """Adds up whole numbers, one an image; its weights are the sum, and a file keeps the sum so far."""

    def __init__(self, settings: Sums) -> None:
        self.settings = settings

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        settings = self.settings
        settings.output.mkdir(parents=True, exist_ok=True)
        checkpoint = settings.output / "checkpoint.json"
        done, total = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
        for image in range(done + 1, settings.upto + 1):
            if image == settings.interrupt_at and not (settings.output / "interrupted").exists():
                (settings.output / "interrupted").touch()
                raise KeyboardInterrupt
            total += image
            checkpoint.write_text(json.dumps([image, total]))
            if progress:
                measured = {"mse": {"0.1": 1 / image, "1.0": 0.5}, "linear": {"1.0": 0.25}}
                ended = measured if image % 5 == 0 else None
                progress(TrainingProgress(image, settings.upto, 1 / image, 2.0, 1e-3, ended))
        weights = settings.output / "weights.txt"
        weights.write_text(str(total))
        return weights


class Sums(TrainerSettings):
    """Adds up numbers."""

    name = "sums"
    upto: int = Field(10, ge=1, description="last number")
    interrupt_at: int = Field(0, description="number at which the user presses Ctrl-C, once")

    def build(self) -> Adder:
        return Adder(self)
