"""What trainers share: the folder of a training, and the loop of its steps with reports and checkpoints.

    checkpoint.safetensors   all that is needed to go on; checkpoint.safetensors.previous is the one before
    log.jsonl                a line an epoch
    weights.safetensors      the outcome

A trainer makes a `Learner`, restores it where the folder has a checkpoint of the same training, and calls `train`.
"""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from daps_kit import tensor_file
from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.reading import at_once, reading
from daps_kit.trainer import TrainingProgress

__all__ = ["Learner", "Pace", "TrainingFolder", "train"]

MAX_BAD_STEPS = 20
"""Steps in a row without a finite gradient, after which a training ends."""

ProgressCallback = Callable[[TrainingProgress], None]


class TrainingFolder:
    """The folder of a training.

    Args:
        path: the folder.
        format: of the tensors in its checkpoints; those of other formats are refused.
        identity: what may not change between a training and its continuation, as JSON has it.

    Attributes:
        loss_so_far: sum and count of the losses of the epoch that the checkpoint was made in, which `resume` sets.
    """

    def __init__(self, path: Path, format: int, identity: Mapping[str, Any]) -> None:
        self.path, self.format, self.identity = path, format, identity
        self.loss_so_far: tuple[float, int] = (0.0, 0)
        self.checkpoint = path / "checkpoint.safetensors"
        self.weights = path / "weights.safetensors"
        self.log = path / "log.jsonl"

    def resume(self) -> tuple[dict[str, Tensor], int] | None:
        """Return tensors and step of the last whole checkpoint, if there is one.

        A damaged one is put aside if the one before is whole.

        Raises:
            UserError: the checkpoint is damaged and there is none before it, or it belongs to another training.
        """
        older = tensor_file.previous(self.checkpoint)
        if not self.checkpoint.exists():
            return self._read(older) if older.exists() else None
        try:
            return self._read(self.checkpoint)
        except tensor_file.DamagedFile:
            if not older.exists():
                raise
            found = self._read(older)
            self.checkpoint.replace(self.checkpoint.with_name(f"{self.checkpoint.name}.damaged"))
            return found

    def _read(self, path: Path) -> tuple[dict[str, Tensor], int]:
        tensors, found = tensor_file.read(path)
        if found.get("format") != self.format:
            raise UserError(
                f"{path} has format {found.get('format')}; this version of daps-kit reads {self.format}"
            )
        for what, ours in self.identity.items():
            if found.get(what) != ours:
                raise UserError(
                    f"{path} belongs to a run with other {what} ({found.get(what)}, now {ours}): change it back in the "
                    "recipe, or choose another output folder"
                )
        step = found.get("step")
        if not isinstance(step, int) or step < 0:
            raise tensor_file.DamagedFile(f"{path} does not say how many steps it was made after")
        total, count = found.get("loss_so_far", (0.0, 0))  # earlier versions did not say it
        self.loss_so_far = (float(total), int(count))
        return tensors, step

    def save(
        self, tensors: Mapping[str, Tensor], step: int, loss_so_far: tuple[float, int] = (0.0, 0)
    ) -> None:
        """Write a checkpoint after so many steps; the one before stays."""
        description = {**self.identity, "format": self.format, "step": step, "loss_so_far": loss_so_far}
        tensor_file.write(self.checkpoint, tensors, description, keep_previous=True)

    def record(self, line: Mapping[str, Any]) -> None:
        """Add a line to the log; its `images` say how far the training was."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(self.log, "a", encoding="utf-8", opener=at_once) as log:
                log.write(json.dumps(line) + "\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self.log}: {error.strerror or error}; the checkpoint is as it was"
            ) from error

    def trim_log(self, images: int) -> None:
        """Drop the lines of epochs that will be trained again."""
        if self.log.exists():
            with reading(self.log):
                lines = self.log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _images_of(line) <= images]
            write_atomic(self.log, "".join(f"{line}\n" for line in kept).encode())


class Learner(ABC):
    """What is trained: a network with its optimiser and its examples.

    Attributes:
        step: how many steps it has made.
    """

    step: int

    @abstractmethod
    def rate(self) -> float:
        """Return the learning rate of the next step."""

    @abstractmethod
    def advance(self) -> float:
        """Make the next step and return its loss; NaN where its gradient was not finite and the weights stayed."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Return everything that a checkpoint holds."""

    @abstractmethod
    def measure(self) -> dict[str, dict[str, float]]:
        """Return rows of numbers by name, at the end of an epoch."""

    @abstractmethod
    def record(self, report: TrainingProgress, folder: TrainingFolder) -> None:
        """Keep the report of an epoch in the folder: its line in the log, and a picture."""


@dataclass(frozen=True)
class Pace:
    """How long a training lasts, and how often it is reported and saved.

    Attributes:
        images: to train on in all.
        batch_size: images a step.
        epoch: images between two reports.
        checkpoint_seconds: seconds between two checkpoints.
    """

    images: int
    batch_size: int
    epoch: int
    checkpoint_seconds: float

    @property
    def steps(self) -> int:
        """Steps in all."""
        return math.ceil(self.images / self.batch_size)


def train(learner: Learner, folder: TrainingFolder, pace: Pace, progress: ProgressCallback) -> None:
    """Train to the end, from wherever the learner is.

    Raises:
        UserError: the folder cannot be written, or the loss is not finite any more; the last checkpoint stays as it is.
    """
    folder.trim_log(learner.step * pace.batch_size)
    first, begun = learner.step, time.monotonic()
    saved = told = begun
    total, count = folder.loss_so_far
    bad = 0
    while learner.step < pace.steps:
        before, rate = learner.step * pace.batch_size, learner.rate()
        loss = learner.advance()
        if math.isfinite(loss):
            total, count = total + loss, count + 1
        bad = 0 if math.isfinite(loss) else bad + 1
        if bad == MAX_BAD_STEPS:
            raise UserError(
                f"the loss was not a finite number {MAX_BAD_STEPS} times in a row: use a smaller learning_rate; "
                f"{folder.checkpoint} is as it was"
            )
        now, done = time.monotonic(), learner.step == pace.steps
        seen = learner.step * pace.batch_size
        ended = done or seen // pace.epoch > before // pace.epoch
        if ended or now - told > 1:
            told = now
            report = TrainingProgress(
                images=seen,
                of=pace.images,
                loss=total / max(1, count),
                images_per_second=(learner.step - first) * pace.batch_size / (now - begun),
                learning_rate=rate,
                measured=learner.measure() if ended else None,
            )
            if ended:
                learner.record(report, folder)
                total, count = 0.0, 0
            progress(report)
        if done or now - saved > pace.checkpoint_seconds:
            folder.save(learner.tensors(), learner.step, (total, count))
            saved = time.monotonic()


def _images_of(line: str) -> float:
    try:
        return float(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed while it wrote
        return math.inf
