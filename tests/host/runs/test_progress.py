"""What a run tells while it runs."""

from __future__ import annotations

import io
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
from rich.console import Console

from daps_kit.executor import State
from daps_kit.runs import progress
from daps_kit.runs.progress import RunDisplay, _NotebookBar, in_notebook


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def followed(
    cost: float, *, levels: int = 1000, each: float = 1.0, quiet: bool = False, terminal: bool = False
):
    clock, calls, out = Clock(), [], io.StringIO()

    def residual() -> float:
        calls.append(clock.now)
        clock.now += cost
        return 1.25

    console = Console(file=out, force_terminal=terminal, width=140, quiet=quiet)
    with RunDisplay(quiet=quiet, console=console, clock=clock) as progress:
        progress.plan("blur", total=8, done=4)
        progress.begin(2)
        for level in range(levels):
            clock.now += each
            progress.level(level, levels, 3.0, residual)
        progress.finish(2)
    return out.getvalue(), calls, clock.now


def test_plain_lines_are_rare_and_say_everything():
    text, _, _ = followed(cost=0.0)
    lines = text.splitlines()
    assert 10 < len(lines) < 30
    assert lines[0].startswith("blur: level 1/1000  sigma 3  residual 1.25  4 of 8 samples done  ")
    # 4 samples are left, 2 of them take 1000 levels of a second: 2000 s less the first level.
    assert lines[0].endswith("33 min 19 s left")


@pytest.mark.parametrize("cost", [0.001, 0.5, 5.0])
def test_residuals_take_at_most_a_fiftieth_of_the_time(cost):
    _, calls, total = followed(cost=cost)
    assert calls
    # The very first is taken whatever it costs; beyond it the share holds.
    assert cost * (len(calls) - 1) <= 0.02 * total


def test_residuals_that_cost_nothing_are_as_new_as_their_lines():
    text, calls, _ = followed(cost=1e-6)
    assert len(calls) == len(text.splitlines())


def test_lines_come_at_growing_intervals_of_two_seconds_to_a_minute():
    _, calls, _ = followed(cost=0.0)
    gaps = [b - a for a, b in pairwise(calls)]
    assert gaps[:6] == [2, 3, 5, 7, 11, 16]  # the least whole seconds above 2, 3, 4.5, 6.75, 10.125, 15.19
    assert max(gaps) == 60 == gaps[-1]


def test_the_time_that_is_left_is_that_of_the_samples_that_are():
    """4 of 8 samples were there; 2 more take 10 levels of 3 seconds, 15 seconds a sample."""
    text, _, _ = followed(cost=0.0, levels=10, each=3.0)
    lines = text.splitlines()
    assert [int(line.split("/")[0].split()[-1]) for line in lines] == [1, 2, 3, 5, 8]
    assert [line.rpartition("  ")[2] for line in lines] == [
        f"{60 - 3 * level} s left" for level in (1, 2, 3, 5, 8)
    ]
    assert lines[1].startswith("blur: level 2/10  sigma 3  residual 1.25  4 of 8 samples done  ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3600, "1 h 00 min"),
     (86_400 + 125, "24 h 02 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert progress._duration(seconds) == text


def test_quiet_shows_nothing_and_asks_for_no_residual():
    text, calls, _ = followed(cost=0.001, quiet=True)
    assert text == ""
    assert calls == []


def test_on_a_terminal_there_is_a_bar():
    text, calls, _ = followed(cost=0.001, levels=30, terminal=True)
    assert "residual 1.25" in text
    assert "\x1b[" in text
    assert calls


def test_the_bar_counts_levels_as_parts_of_their_samples():
    clock, console = Clock(), Console(file=io.StringIO(), force_terminal=True, width=140)
    with RunDisplay(console=console, clock=clock) as progress:
        progress.plan("blur", total=9, done=3)
        progress.begin(4)
        clock.now += 2
        progress.level(0, 8, 3.0, lambda: 1.0)
        assert progress._bar.tasks[0].completed == 3 + 4 / 8


def test_who_interrupts_is_told_how_to_go_on():
    for quiet in (False, True):
        with (
            pytest.raises(KeyboardInterrupt, match="^stopped; the same command goes on from here$"),
            RunDisplay(quiet=quiet),
        ):
            raise KeyboardInterrupt


def test_a_warning_is_given_once():
    out = io.StringIO()
    progress = RunDisplay(console=Console(file=out, width=200))
    for _ in range(3):
        progress.warn("sample [1] is odd")
    assert out.getvalue() == "warning: sample [1] is odd\n"


def test_the_time_left_is_also_that_of_what_follows():
    clock, out = Clock(), io.StringIO()
    progress = RunDisplay(console=Console(file=out, width=140), clock=clock)
    progress.later = 1.5
    progress.plan("ash", total=4, done=0)
    progress.begin(4)
    clock.now += 2
    progress.level(0, 10, 3.0, lambda: 1.0)
    # 9 levels of 2 s, and what takes one and a half times all 10.
    assert out.getvalue().endswith("48 s left in all\n")


def test_a_notebook_gets_a_bar_of_its_own(monkeypatch):
    pytest.importorskip("tqdm")
    made = []

    class Bar:
        def __init__(self, name, total, done):
            made.append((name, total, done))
            self.tasks = [SimpleNamespace(id=0)]

        def update(self, task, *, completed, text):
            made.append((completed, text))

        def stop(self):
            made.append("stopped")

    assert not in_notebook()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook()
    monkeypatch.setattr("daps_kit.runs.progress._NotebookBar", Bar)
    ticks = iter(range(100))
    with RunDisplay(clock=lambda: float(next(ticks))) as display:
        display.plan("r", 4, 1)
        display.begin(3)
        display.level(0, 2, 1.0, lambda: 1.0)
    assert made[0] == ("r", 4, 1)
    assert made[1][0] == 2.5
    assert "level 1/2" in made[1][1]
    assert made[2] == "stopped"


def test_the_bar_of_a_notebook_is_tqdms(capsys):
    pytest.importorskip("tqdm")
    bar = _NotebookBar("r", 4, 0)
    bar.update(bar.tasks[0].id, completed=2.0, text="level 1/2")
    bar.stop()
    assert "level 1/2" in capsys.readouterr().err


def test_several_workers_are_told_of_together():
    clock, out = Clock(), io.StringIO()
    with RunDisplay(console=Console(file=out, width=140), clock=clock) as progress:
        progress.plan("blur", total=8, done=0)
        progress.together(0.0, list)
        clock.now = 30.0
        states = [State("a", "at work", 0.5), State("b", "starting"), State("c", "at work", 0.5)]
        progress.finish(1, 1)
        progress.together(1.0, lambda: states)
    assert out.getvalue().splitlines() == [
        "blur: workers: none yet  0 of 8 samples done",
        "blur: workers: 2 at work, 1 starting  4 samples a minute  1 of 8 samples done  1 min 30 s left",
    ]
