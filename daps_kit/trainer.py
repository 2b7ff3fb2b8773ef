"""What a trainer must do: the contract behind `daps-kit train`. Unlike the other contracts it needs no torch."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = ["Launched", "Trainer", "TrainingProgress", "launched"]


@dataclass(frozen=True)
class Launched:
    """The place of this process among those that torchrun started.

    Attributes:
        rank: of this process, from 0; the first alone writes and reports.
        count: of all processes, on all machines.
        local: rank among those of this machine, which is the number of its GPU.
    """

    rank: int
    count: int
    local: int


def launched() -> Launched | None:
    """Return the place of this process; None where it was not started by torchrun, or is alone."""
    found = [os.environ.get(key, "") for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if "TORCHELASTIC_RUN_ID" not in os.environ or not all(map(str.isdecimal, found)):
        return None
    rank, count, local = map(int, found)
    return Launched(rank, count, local) if count > 1 else None


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is: told about every second, and at the end of each epoch with what was measured.

    Attributes:
        images, of: images seen, and in all.
        loss: mean loss since the last epoch ended; 1 is where training starts from, or a baseline.
        images_per_second: speed since the run began or was resumed.
        learning_rate: of the last step.
        measured: at the end of an epoch, rows of numbers by name, such as `mse` by sigma; else None.
    """

    images: int
    of: int
    loss: float
    images_per_second: float
    learning_rate: float
    measured: dict[str, dict[str, float]] | None = None


class Trainer(ABC):
    """Trains a network as its settings say.

    A run that was broken off, in whatever way, goes on from its last checkpoint and ends as an unbroken one would.

    Attributes:
        shared: whether the processes that torchrun started share its steps (see `launched`); `run` is then called in
            each, and the first alone writes and reports.
    """

    shared: ClassVar[bool] = False

    @abstractmethod
    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        """Train to the end, from the checkpoint in the output folder if there is one; return the file of weights.

        Raises:
            UserError: images, checkpoint or output folder cannot be used. The last checkpoint stays as it is.
        """
