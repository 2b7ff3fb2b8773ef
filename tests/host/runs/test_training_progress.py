"""What a training tells while it runs."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from daps_kit.runs.training_progress import TrainingDisplay
from daps_kit.trainer import TrainingProgress


@pytest.mark.parametrize("terminal", [False, True])
def test_report(terminal: bool) -> None:
    out = io.StringIO()
    seconds = [0.0]
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
    measured: Any = {"mse": {"0.1": 0.001234, "1.0": 0.0125}, "linear": {"1.0": 0.5}}
    with TrainingDisplay("faces", console, clock=lambda: seconds[0]) as report:
        for tick in range(40):
            seconds[0] = 2.5 * tick
            report(TrainingProgress(100 * tick, 36_000, 0.5, 100.0, 1e-3, measured if tick == 39 else None))
    text = out.getvalue()
    for row in (r" +0\.1 +1\.0", r"  mse +0\.00123 +0\.0125", r"  linear +0\.5"):
        assert re.search(row + r" *\n", text)
    assert "faces: 3,900 of 36,000 images  loss 0.5000  rate 0.001  100 images/s  5 min left" in text
    # On a terminal the bar tells what is between two epochs; elsewhere a line does, at growing intervals.
    # at once, after 7.5 seconds, and then at least 11.25, 16.9, 25.3 and so on, where there is a report each 2.5.
    lines = [int(images.replace(",", "")) for images in re.findall(r"faces: ([\d,]+) of", text)]
    assert lines == ([3900] if terminal else [0, 300, 800, 1500, 2600, 3900])
    assert ("\u2501" in text) == terminal
