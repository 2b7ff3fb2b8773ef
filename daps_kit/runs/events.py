"""What happens in a run, for programs: JSON, an event a line.

{"event": "point", "number": N, "points": N, "label": TEXT}
{"event": "begin", "recipe": NAME, "samples": N, "done": N}
{"event": "level", "recipe": NAME, "level": N, "levels": N, "sigma": X, "residual": X, HOW FAR}
{"event": "workers", "recipe": NAME, "workers": [{"worker": NAME, "doing": WHAT, "share": X}], HOW FAR}
{"event": "samples", "recipe": NAME, HOW FAR}
{"event": "note" | "warning" | "said", "text": TEXT}
{"event": "end", "folder": PATH, "picture": PATH}  or  {"event": "error", "text": TEXT}

HOW FAR is "done": N, "samples": N, "rate": X, "left": X: how many samples are written of all, how many are drawn a
minute, and the seconds to the end of this run, or of all points of a sweep; null before anything was drawn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daps_kit.executor import State

from .progress import RunDisplay

__all__ = ["EventDisplay"]


class EventDisplay(RunDisplay):
    """Tells how far a run is, to a function that takes lines."""

    def __init__(self, tell: Callable[[str], Any]) -> None:
        self.tell = tell
        super().__init__(quiet=True)

    def _event(self, event: str, **what: Any) -> None:
        self.tell(json.dumps({"event": event, **what}, ensure_ascii=False))

    def _far(self, drawn: float = 0.0) -> dict[str, Any]:
        rate, left = self.pace(drawn) or (None, None)
        return {"done": self.done, "samples": self.total, "rate": rate, "left": left}

    def plan(self, name: str, total: int, done: int) -> None:
        """Begin a part of the work."""
        super().plan(name, total, done)
        if total:
            self._event("begin", recipe=name, samples=total, done=done)

    def point(self, number: int, points: int, label: str) -> None:
        """Begin one of several runs."""
        self.later = points - number
        self._event("point", number=number, points=points, label=label)

    def level(self, level: int, levels: int, sigma: float, residual: Callable[[], float]) -> None:
        """Tell that an annealing level is done."""
        found = residual()
        self._event(
            "level", recipe=self.name, level=level + 1, levels=levels, sigma=sigma,
            residual=found if math.isfinite(found) else None, **self._far(self._batch * (level + 1) / levels),
        )  # fmt: skip

    def together(self, drawn: float, states: Callable[[], Sequence[State]]) -> None:
        """Tell what each worker is doing, once a second."""
        now = self.clock()
        if now - self._shown >= 1.0:
            self._shown = now
            workers = [vars(state) for state in states()]
            self._event("workers", recipe=self.name, workers=workers, **self._far(drawn))

    def finish(self, fresh: int, drawn: int | None = None) -> None:
        """Tell that a batch is written."""
        super().finish(fresh, drawn)
        self._event("samples", recipe=self.name, **self._far())

    def say(self, text: str) -> None:
        """Tell a line."""
        self._event("said", text=text)

    def note(self, text: str) -> None:
        """Tell a line, each once."""
        if text not in self._said:
            self._said.add(text)
            self._event("note", text=text)

    def warn(self, text: str) -> None:
        """Tell a warning, each once."""
        if text not in self._said:
            self._said.add(text)
            self._event("warning", text=text)

    def end(self, folder: Path, picture: Path) -> None:
        """Tell that all is done."""
        self._event("end", folder=str(folder), picture=str(picture))

    def failed(self, text: str) -> None:
        """Tell why the run ended."""
        self._event("error", text=text)
