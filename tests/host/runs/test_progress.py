"""What a run tells while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from daps_kit.runs.progress import RunDisplay


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


def test_quiet_shows_nothing_and_asks_for_no_residual():
    text, calls, _ = followed(cost=0.001, quiet=True)
    assert text == ""
    assert calls == []


def test_on_a_terminal_there_is_a_bar():
    text, calls, _ = followed(cost=0.001, levels=30, terminal=True)
    assert "residual 1.25" in text
    assert "\x1b[" in text
    assert calls


def test_who_interrupts_is_told_how_to_go_on():
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), RunDisplay(console=Console(file=out, width=200)):
        raise KeyboardInterrupt
    assert "the same command goes on" in out.getvalue()


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
