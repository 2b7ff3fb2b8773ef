"""The cells of a comparison, run one after the other, and what each gave.

A cell is a run folder: what is finished is kept, and the same command goes on where it was broken off. A sampler that
refuses a task, a cell that breaks and samples that are lost are results like others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daps_kit.errors import RefusalError, UserError
from daps_kit.memory import forget_peak, peak_memory
from daps_kit.recipe.load import Recipe
from daps_kit.report.metrics_file import read_metrics
from daps_kit.report.reading import as_written, read_values
from daps_kit.runs.cost import COSTS
from daps_kit.runs.folder import RunFolder
from daps_kit.runs.progress import RunDisplay
from daps_kit.runs.runner import run

from .document import Cell, Comparison, Known, Tuned
from .known import measure
from .tuning import Found, Value, search

__all__ = ["EXPLAINED", "METRICS", "Metric", "Outcome", "fight"]

EXPLAINED = 1.3
"""A sample succeeds where it is not lost and its residual, in standard deviations of the noise, is below this."""

_MEMORY = "memory.json"


@dataclass(frozen=True)
class Metric:
    """A metric of an image.

    Attributes:
        heading: for tables.
        form: of its numbers.
        better: 1 where more is better, -1 where less is, 0 where neither.
        choice, key: where metrics.json has it.
    """

    heading: str
    form: str
    better: int
    choice: str = ""
    key: str = ""


METRICS = {
    "psnr": Metric("PSNR of the mean (dB)", ".2f", 1, "posterior_mean", "psnr"),
    "ssim": Metric("SSIM of the mean", ".3f", 1, "posterior_mean", "ssim"),
    "psnr_sample": Metric("PSNR of a sample (dB)", ".2f", 1, "sample_mean", "psnr"),
    "ssim_sample": Metric("SSIM of a sample", ".3f", 1, "sample_mean", "ssim"),
    "crps": Metric("CRPS", ".4f", -1, "ensemble", "crps"),
    "coverage": Metric("coverage", ".3f", 0, "ensemble", "coverage"),
    "miss": Metric("coverage off by", ".3f", -1),
    "residual": Metric("residual", ".2f", 0, "sample_mean", "residual"),
    "success": Metric("success", ".2f", 1),
    "psnr_limit": Metric("PSNR of the mean of infinitely many (dB)", ".2f", 1, "ensemble", "psnr_corrected"),
    "lpips": Metric("LPIPS of the mean", ".3f", -1, "posterior_mean", "lpips"),
    "lpips_sample": Metric("LPIPS of a sample", ".3f", -1, "sample_mean", "lpips"),
    "sliced_wasserstein": Metric("sliced Wasserstein", ".3g", -1),
    "floor": Metric("floor", ".3g", 0),
    "variance_error": Metric("variance error", ".3f", -1),
    "variance_distance": Metric("variance distance", ".3g", -1),
    "mmse_gap": Metric("MMSE gap (dB)", ".2f", -1),
}
"""LPIPS where the comparison asks for it (`metrics`); the last five of known posteriors alone."""


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: the cell.
        refused: why the sampler cannot do the task.
        failed: why the run broke.
        images: the metrics of each image; NaN where all of its samples were lost.
        cost: of a sample: `network_calls`, `jacobian_products`, `operator_products` and `seconds`; and `memory`, the
            most MiB that the process held, or its GPU, where the system tells.
        lost: samples that were lost.
        tuning: what the search for the sampler's settings found, where they were tuned.
    """

    cell: Cell
    refused: str = ""
    failed: str = ""
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    tuning: Found | None = None

    def values(self, metric: str) -> list[float]:
        """Return a metric of all images."""
        return [scores.get(metric, math.nan) for scores in self.images.values()]


def fight(comparison: Comparison, *, quiet: bool = False) -> list[Outcome]:
    """Run every cell and return what came of each.

    Raises:
        UserError: no cell gave anything; the text is what the first says.
    """
    outcomes = []
    with RunDisplay(quiet=quiet) as progress:
        for place, cell in enumerate(comparison.cells):
            budget = "" if cell.budget is None else f", {cell.budget} calls"
            progress.say(f"{place + 1} of {len(comparison.cells)}: {cell.task}, {cell.sampler}{budget}")
            outcomes.append(_run(cell, progress))
            if said := outcomes[-1].refused or outcomes[-1].failed:
                progress.say(f"    {said}")
        for tuned in comparison.tuned:
            budget = "" if tuned.budget is None else f", {tuned.budget} calls"
            progress.say(f"tuning: {tuned.task}, {tuned.sampler}{budget}")
            outcomes.append(_tune(tuned, progress))
    if not any(outcome.images for outcome in outcomes):
        first = outcomes[0]
        raise UserError(f"no cell gave a result; {first.cell.sampler}: {first.refused or first.failed}")
    return outcomes


def _tune(tuned: Tuned, progress: RunDisplay) -> Outcome:
    """Return what came of a sampler with the best settings that were found for it."""

    def judge(recipe: Recipe) -> float:
        values = _run(Cell(tuned.task, tuned.sampler, tuned.budget, recipe), progress).values(tuned.metric)
        return math.fsum(values) / len(values) if values else math.nan

    found = search(tuned.search, METRICS[tuned.metric].better, judge)
    if not found.settings:
        settings: dict[str, Value] = {}
        return Outcome(
            tuned.cell(settings), failed=f"none of {len(found.tried)} trials gave a {tuned.metric}"
        )
    return replace(_run(tuned.cell(found.settings), progress), tuning=found)


def _run(cell: Cell, progress: RunDisplay) -> Outcome:
    if isinstance(cell.recipe, Known):
        return _known(cell, cell.recipe)
    folder = RunFolder(cell.recipe.output)
    before = folder.read_environment().get("drawn", 0)
    forget_peak()
    try:
        run(cell.recipe, progress=progress)
    except RefusalError as error:
        return Outcome(cell, refused=str(error).removeprefix("sampler: "))
    except (UserError, ArithmeticError) as error:
        return Outcome(cell, failed=str(error).splitlines()[0])
    if folder.read_environment().get("drawn", 0) > before and (peak := peak_memory()) is not None:
        folder.write_json(_MEMORY, {"peak": max(peak, _peak(folder))})
    return read(cell)


def _known(cell: Cell, known: Known) -> Outcome:
    try:
        measured = measure(known)
    except RefusalError as error:
        return Outcome(cell, refused=str(error).removeprefix("sampler: "))
    except (UserError, ArithmeticError) as error:
        return Outcome(cell, failed=str(error).splitlines()[0])
    if not any(measured.images.values()):
        return Outcome(cell, failed="all samples were lost")
    return Outcome(cell, images=measured.images, cost=measured.cost, lost=measured.lost)


def _peak(folder: RunFolder) -> int:
    """Return the most bytes that a cell took; 0 where nobody knows."""
    there = folder.path / _MEMORY
    return int(read_values(there)["peak"]) if there.exists() else 0


def read(cell: Cell) -> Outcome:
    """Return what the folder of a finished cell holds."""
    path = cell.recipe.output
    metrics = read_metrics(path / "metrics.json")
    spent = RunFolder(path).read_environment()
    peak = _peak(RunFolder(path))
    with as_written(path):
        images = {name: _scores(item, cell.recipe.runs) for name, item in metrics["images"].items()}
        cost = {key: metrics[key] for key in COSTS if metrics[key] is not None}
        if spent.get("drawn"):
            cost["seconds"] = spent["seconds"] / spent["drawn"]
        if peak:
            cost["memory"] = peak / 2**20
        return Outcome(cell, images=images, cost=cost, lost=len(metrics["lost"]))


def _scores(item: dict[str, Any], runs: int) -> dict[str, float]:
    """Return the metrics of an image."""
    found = {
        name: _number(item, metric.choice, metric.key) for name, metric in METRICS.items() if metric.choice
    }
    found = {
        name: value
        for name, value in found.items()
        if not (name.startswith(("lpips", "psnr_limit")) and math.isnan(value))
    }
    found["miss"] = abs(found["coverage"] - _number(item, "ensemble", "coverage_due"))
    explained: Sequence[Any] = [
        s for s in item["samples"] if s["residual"] is not None and s["residual"] < EXPLAINED
    ]
    return found | {"success": len(explained) / runs}


def _number(item: dict[str, Any], choice: str, key: str) -> float:
    found = item.get(choice) or {}
    # One LPIPS is as good as another for telling samplers apart: the first that the runs have.
    value = found.get(
        key, next((v for k, v in found.items() if key == "lpips" and k.startswith("lpips")), None)
    )
    return float("nan") if value is None else float(value)
