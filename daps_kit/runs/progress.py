"""What a person sees while a run is at work: a bar on a terminal, a line now and then elsewhere, or nothing.

The residual shown costs a call of the operator; it is left out while such calls would take more than one part in
fifty of the time.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import SimpleNamespace, TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from daps_kit.errors import printable
from daps_kit.executor import State

__all__ = ["RunDisplay", "in_notebook"]

_SHARE = 0.02
"""The part of the time that residuals may take."""


def in_notebook() -> bool:
    """Return whether the program runs in a notebook, as a kernel of Jupyter."""
    found = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(found, "kernel")


class _NotebookBar:
    """A bar of tqdm, used like rich's."""

    def __init__(self, name: str, total: int, done: int) -> None:
        from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

        self._bar = tqdm(total=total, initial=done, desc=name, bar_format="{l_bar}{bar} {postfix}")
        self.tasks = [SimpleNamespace(id=0)]

    def update(self, task: int, *, completed: float, text: str) -> None:
        self._bar.n = completed
        self._bar.set_postfix_str(text)

    def stop(self) -> None:
        self._bar.close()


class RunDisplay:
    """Shows how far a run is. Use it as a context manager.

    Args:
        quiet: show nothing at all.
        console: where to write; standard error by default.
        clock: returns seconds.

    Attributes:
        later: the work that follows this part, in multiples of it; the time left is that of both.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or Console(stderr=True, soft_wrap=True, highlight=False, quiet=quiet)
        self.quiet, self.clock = quiet, clock
        self.later = 0.0
        self._bar: Any = None
        self._task = None
        self._said: set[str] = set()
        self.plan("", 0, 0)

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_bar()
        if isinstance(error, KeyboardInterrupt) and not error.args:
            error.args = ("stopped; the same command goes on from here",)

    def plan(self, name: str, total: int, done: int) -> None:
        """Begin a part of the work: `total` samples, of which `done` are finished already."""
        self._stop_bar()
        self.name, self.total, self.done = name, total, done
        self._worked = self._batch = 0
        self._began = self._shown = self.clock()
        self._interval, self._residual, self._spent, self._first = 0.0, math.nan, 0.0, True
        if self.quiet or total <= done:
            return
        if in_notebook() and find_spec("tqdm"):
            self._bar = _NotebookBar(name, total, done)
        elif self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
            )
            bar = Bar(*columns, console=self.console, transient=True)
            bar.add_task(escape(name), total=total, completed=done, text="starting")
            bar.start()
            self._bar = bar

    def begin(self, batch: int) -> None:
        """Begin a batch of so many samples; one that was begun and not finished counts as given up."""
        self._batch = batch

    def level(self, level: int, levels: int, sigma: float, residual: Callable[[], float]) -> None:
        """Tell that an annealing level (from 0) is done. `residual` gives the batch's, in noise standard deviations."""
        if not self._due():
            return
        now = self.clock()
        if self._first or 2 * self._spent <= _SHARE * (now - self._began):
            self._residual = residual()
            self._spent += self.clock() - now
        text = f"level {level + 1}/{levels}  sigma {sigma:.3g}  residual {self._residual:.2f}"
        self._show(text, self._batch * (level + 1) / levels)

    def together(self, drawn: float, states: Callable[[], Sequence[State]]) -> None:
        """Tell how far several workers are: so many samples' worth is drawn of the batches that they are at."""
        if not self._due():
            return
        doing = Counter(state.doing for state in states())
        text = "workers: " + (
            ", ".join(f"{count} {what}" for what, count in sorted(doing.items())) or "none yet"
        )
        if pace := self.pace(drawn):
            text += f"  {pace[0]:.3g} samples a minute"
        self._show(text, drawn)

    def pace(self, drawn: float = 0.0) -> tuple[float, float] | None:
        """Return samples a minute and how many seconds are left; None before anything was drawn.

        Args:
            drawn: so many samples' worth of what is at work.
        """
        worked, spent = self._worked + drawn, max(1e-9, self.clock() - self._began)
        if not worked:
            return None
        ahead = self.total * (1 + self.later) - self.done - drawn
        return 60 * worked / spent, ahead * spent / worked

    def _due(self) -> bool:
        """Return whether it is time to show something."""
        since = self.clock() - self._shown
        due = since >= self._interval if self._bar is None else since >= 0.1
        return not self.quiet and (due or self._first)

    def _show(self, text: str, drawn: float) -> None:
        """Show a line on what is at work, of which so many samples' worth is drawn."""
        now = self.clock()
        self._first, self._shown = False, now
        self._interval = min(60.0, max(2.0, 1.5 * self._interval))
        text = f"{text}  {self.done} of {self.total} samples done"
        if pace := self.pace(drawn):
            text += f"  {_duration(pace[1])} left{' in all' if self.later else ''}"
        if self._bar is not None:
            task = self._bar.tasks[0].id
            self._bar.update(task, completed=self.done + drawn, text=text)
        else:
            self.console.print(printable(f"{self.name}: {text}"), markup=False)

    def finish(self, fresh: int, drawn: int | None = None) -> None:
        """Tell that a batch of `drawn` samples is written, the one that was begun where not given.

        `fresh` of them were not there before.
        """
        self._worked += self._batch if drawn is None else drawn
        self.done += fresh

    def point(self, number: int, points: int, label: str) -> None:
        """Begin one of several runs; the time left is that of all."""
        self.later = points - number
        self.say(f"{number} of {points}: {label}")

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(printable(text), markup=False)

    def note(self, text: str) -> None:
        """Write a line, each once."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def warn(self, text: str) -> None:
        """Write a warning, each once."""
        if text not in self._said:
            self._said.add(text)
            self.console.print(printable(f"warning: {text}"), markup=False, style="yellow")

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {secs:02d} s" if minutes else f"{secs} s"
