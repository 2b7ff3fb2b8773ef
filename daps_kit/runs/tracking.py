"""What the trackers of a run are told, and that none of them stops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from daps_kit.errors import printable
from daps_kit.trackers import Tracker

__all__ = ["Tracking", "numbers"]


class Tracking:
    """Tells trackers how a run goes. Use it as a context manager: they are told of its end.

    Args:
        trackers: the classes of the trackers of a run.
        warn: says a line. A tracker that raises is named by one and is told nothing more.
    """

    def __init__(self, trackers: Sequence[type[Tracker]], warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.trackers: list[Tracker] = []
        self._step = 0
        for tracker in trackers:
            try:
                self.trackers.append(tracker())
            except Exception as error:  # noqa: BLE001 (whatever a tracker does, the run goes on)
                self._failed(tracker.name, error)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell("end", "" if kind is None else _line(f"{kind.__name__}: {error}"))

    def begin(self, run: str, folder: Path, recipe: str) -> None:
        """See `Tracker.begin`."""
        self._tell("begin", run, folder, recipe)

    def level(self, sigma: float, residual: Callable[[], float]) -> None:
        """See `Tracker.level`; the residual is computed where somebody is told."""
        if self.trackers:
            self._tell("level", self._step, sigma, residual())
            self._step += 1

    def sample(self, image: str, run: int, lost: bool) -> None:
        """See `Tracker.sample`."""
        self._tell("sample", image, run, lost)

    def finished(self, metrics: Mapping[str, Any], picture: Path) -> None:
        """Tell the numbers of metrics.json, and the picture that shows everything."""
        self._tell("metrics", numbers(metrics["summary"]))
        self._tell("picture", "grid", picture)

    def _tell(self, what: str, *words: Any) -> None:
        for tracker in list(self.trackers):
            try:
                getattr(tracker, what)(*words)
            except Exception as error:  # noqa: BLE001 (whatever a tracker does, the run goes on)
                self.trackers.remove(tracker)
                self._failed(tracker.name, error)

    def _failed(self, name: str, error: Exception) -> None:
        self.warn(f"tracker {name} failed and is told no more: {_line(str(error) or repr(error))}")


def _line(text: str) -> str:
    """Return a foreign message as one line of bounded length."""
    return printable(" ".join(text.split())[:300])


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the summary of a run as numbers by names such as `posterior_mean/psnr`: the means over images."""
    found = {}
    for group, metrics in summary.items():
        for name, value in metrics.items() if isinstance(metrics, Mapping) else ():
            mean = value.get("mean") if isinstance(value, Mapping) else value
            if isinstance(mean, int | float):
                found[f"{group}/{name}"] = float(mean)
    return found
