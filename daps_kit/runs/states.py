"""How far the runs in some folders are, without reading what they hold. Importing this module does not import torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daps_kit.errors import UserError
from daps_kit.report.metrics_file import read_metrics
from daps_kit.report.summary import outcome
from daps_kit.store import open_store

from .claim import RECIPE

__all__ = ["RunState", "run_states"]


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        folder: of its results.
        name: of the run.
        state: `finished`, `failed` where every sample was lost, `3 of 8` samples, or `damaged`.
        numbers: of a finished run, in a line.
    """

    folder: Path
    name: str
    state: str
    numbers: str = ""


def run_states(folder: Path) -> Iterator[RunState]:
    """Yield the states of the runs at or anywhere below a folder, those of trainings left out.

    Raises:
        UserError: the folder is not there.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder of results: {folder}")
    recipe = folder / RECIPE
    if not recipe.is_file():
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from run_states(below)
        return
    try:
        text = recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        yield RunState(folder, folder.name, "damaged")
        return
    if re.search(r"^trainer:", text, re.MULTILINE):
        return
    name = re.search(r"^name: (.*)$", text, re.MULTILINE)
    runs = re.search(r"^runs: (\d+)$", text, re.MULTILINE)
    called = name[1].strip("'\"") if name else folder.name
    if not (folder / "metrics.json").is_file():
        there = Counter(key.kind for key in open_store(folder).keys())  # noqa: SIM118 (not a mapping)
        items, done = there["measurement"], there["sample"]
        yield RunState(folder, called, f"{done} of {items * int(runs[1]) if runs else '?'}")
        return
    try:
        metrics = read_metrics(folder / "metrics.json")
        whole = any(item["reported"] for item in metrics["images"].values())
        yield RunState(folder, called, "finished" if whole else "failed", outcome(metrics))
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        yield RunState(folder, called, "damaged")
