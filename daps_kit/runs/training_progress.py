"""What a person sees of a training that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from daps_kit.errors import printable
from daps_kit.tables import text_table
from daps_kit.trainer import TrainingProgress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["TrainingDisplay"]


class TrainingDisplay:
    """Shows how far a training is: a bar on a terminal, a line now and then elsewhere, and a table each epoch.

    Args:
        name: of the training.
        console: where to write.
        clock: returns seconds.
    """

    def __init__(self, name: str, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.name, self.console, self.clock = name, console, clock
        self.images = 0
        self._shown, self._interval = -float("inf"), 5.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task(name, total=None, text="starting")

    def __enter__(self) -> TrainingDisplay:
        if self.console.is_terminal and not self.console.quiet:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar.live.is_started:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(printable(text), markup=False)

    def __call__(self, progress: TrainingProgress) -> None:
        """Tell how far the training is."""
        self.images = progress.images
        text = _line(progress)
        self._bar.update(self._task, total=progress.of, completed=progress.images, text=text)
        now = self.clock()
        due = not self.console.is_terminal and now - self._shown >= self._interval
        if progress.measured or due:
            self._shown, self._interval = now, min(60.0, 1.5 * self._interval)
            self.say(f"{self.name}: {text}")
        for line in _table(progress.measured or {}):
            self.say(line)


def _line(progress: TrainingProgress) -> str:
    seconds = (progress.of - progress.images) / max(progress.images_per_second, 1e-9)
    hours, minutes = divmod(round(seconds / 60), 60)
    left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return (
        f"{progress.images:,} of {progress.of:,} images  loss {progress.loss:.4f}  "
        f"rate {progress.learning_rate:.2g}  {progress.images_per_second:.0f} images/s  {left} left"
    )


def _table(rows: dict[str, dict[str, float]]) -> list[str]:
    """Return rows of numbers under a head of all their columns; what a row has no number for is left blank."""
    if not rows:
        return []
    head = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [[name, *(f"{row[c]:.3g}" if c in row else "" for c in head)] for name, row in rows.items()]
    return [f"  {line}" for line in text_table(["", *head], cells, numbers=len(head))]
