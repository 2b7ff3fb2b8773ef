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
        for second in range(40):
            seconds[0] = float(second)
            report(
                TrainingProgress(100 * second, 36_000, 0.5, 100.0, 1e-3, measured if second == 39 else None)
            )
    text = out.getvalue()
    for row in (r" +0\.1 +1\.0", r"  mse +0\.00123 +0\.0125", r"  linear +0\.5"):
        assert re.search(row + r" *\n", text)
    assert "faces: 3,900 of 36,000 images  loss 0.5000  rate 0.001  100 images/s  5 min left" in text
    # On a terminal the bar tells what is between two epochs; elsewhere a line does, at growing intervals.
    assert text.count("faces: ") == (1 if terminal else 5)
    assert ("\u2501" in text) == terminal
