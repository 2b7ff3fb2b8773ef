"""The finished runs in some folders, and what was run.

A result is known by its resolved recipe: the model by its prior, the task by its operator. It stands beside a
published number where both are the published ones, whatever sampler it used.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daps_kit.errors import UserError
from daps_kit.report.metrics_file import read_metrics
from daps_kit.report.reading import as_written, read_values
from daps_kit.report.summary import CHOICES

from .published import published

__all__ = ["OTHER_SETTINGS", "FinishedRun", "find_results", "read_result"]

OTHER_SETTINGS = "(other settings)"
"""Follows the name of a task whose operator or noise is not the published one."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as a table shows it.

    Attributes:
        folder: as it was given, or found.
        model, task, kernel, calls: what was run; `calls` are network calls of a sample.
        as_published: whether model and operator are those of a published number.
        images, runs: how many images, and samples of each.
        lost: samples that count nowhere.
        summary: the section of metrics.json.
    """

    folder: Path
    model: str
    task: str
    kernel: str
    calls: str
    as_published: bool
    images: int
    runs: int
    lost: int
    summary: dict[str, Any]


def find_results(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders of finished and of unfinished runs, at or anywhere below some folders.

    Raises:
        UserError: a folder is not there or holds no run; or one that was named is of a run that is not finished.
    """
    finished: list[Path] = []
    unfinished: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"no such folder of results: {path}")
        folders = list(_runs(path))
        if not folders:
            raise UserError(f"{path} holds no results: no recipe.yaml in it or below")
        for folder in folders:
            done = (folder / "metrics.json").is_file()
            if not done and folder == path:
                raise UserError(f"{path}: the run is not finished (no metrics.json); run its recipe again")
            (finished if done else unfinished).append(folder)
    return list(dict.fromkeys(finished)), list(dict.fromkeys(unfinished))


def _runs(path: Path) -> Iterator[Path]:
    """Yield the folders of runs at or below a folder; those of runs have none below."""
    if (path / "recipe.yaml").is_file():
        yield path
        return
    for below in sorted(path.iterdir()):
        if below.is_dir():
            yield from _runs(below)


def read_result(folder: Path) -> FinishedRun:
    """Return what there is to say about a finished run.

    Raises:
        UserError: its recipe or its metrics cannot be read, or are damaged.
    """
    recipe, metrics = read_values(folder / "recipe.yaml"), read_metrics(folder / "metrics.json")
    with as_written(folder):
        prior, operator, sampler = (dict(recipe[key]) for key in ("prior", "operator", "sampler"))
        model, (task, exact) = published().model(prior), published().task(operator)
        return FinishedRun(
            folder=folder,
            model=model,
            task=task if exact else f"{task} {OTHER_SETTINGS}",
            kernel=_kernel(sampler),
            calls=_calls(sampler, metrics.get("network_calls")),
            as_published=exact and bool(published().means(model, task)),
            images=len(metrics["images"]),
            runs=int(recipe["runs"]),
            lost=len(metrics["lost"]),
            summary={choice: dict(metrics["summary"].get(choice) or {}) for choice in CHOICES},
        )


def _kernel(sampler: dict[str, Any]) -> str:
    kernel = (sampler.get("kernel") or {}).get("use") or f"{sampler['use']}'s own"
    return published().kernels.get(kernel, str(kernel))


def _calls(sampler: dict[str, Any], counted: float | None) -> str:
    """Return the network calls of a sample as they were counted, else as far as the recipe says them."""
    if counted is not None:
        return f"{counted:.4g}"
    levels, steps = (
        (sampler.get(key) or {}).get(name) for key, name in (("annealing", "levels"), ("ode", "steps"))
    )
    if isinstance(levels, int) and isinstance(steps, int) and steps > 0:
        return str(levels * steps)
    return str(sampler.get("budget") or "")
