"""Trackers of experiments: who is told how a run goes, what a plugin offers through the hook `daps_trackers`.

A recipe names them, `trackers: [mlflow]`. What they are told changes nothing in a run, and a tracker that fails is left
out of the rest of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = ["OfferedTracker", "Tracker"]


class Tracker:
    """Is told how a run goes. One object is made for each run; methods that are not defined do nothing.

    Where results go is the tracker's own matter, by its environment variables and files, as its users know them. What
    is not installed is imported in `begin`, whose ImportError becomes the warning that the user reads.

    Attributes:
        name: what recipes call it: letters, digits, '_', '-' and '.'.
    """

    name: ClassVar[str]

    def begin(self, run: str, folder: Path, recipe: str) -> None:
        """The run called `run` begins, in a folder; `recipe` is its resolved text."""

    def level(self, step: int, sigma: float, residual: float) -> None:
        """An annealing level is done, of a batch that is drawn in this process; other processes tell of samples alone.

        Args:
            step: levels done in this run, over all batches, from 0.
            sigma: its noise level.
            residual: that of the batch on average, in standard deviations of the noise.
        """

    def sample(self, image: str, run: int, lost: bool) -> None:
        """A sample is in the folder: the `run`-th of an image, or a lost one."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """The numbers of the run as a whole, such as `posterior_mean/psnr`."""

    def picture(self, name: str, file: Path) -> None:
        """A picture of the run is in a PNG file."""

    def end(self, error: str) -> None:
        """The run is over; `error` says why it was broken off, and is empty where it was not."""


@dataclass(frozen=True)
class OfferedTracker:
    """A tracker, and the distribution that offers it."""

    name: str
    distribution: str
    tracker: type[Tracker]

    @property
    def qualified(self) -> str:
        """`distribution/name`."""
        return f"{self.distribution}/{self.name}"
