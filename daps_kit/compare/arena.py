"""The cells of a comparison, run one after the other, and what each gave.

A cell is a run folder: what is finished is kept, and the same command goes on where it was broken off. A sampler that
refuses a task, a cell that breaks and samples that are lost are results like others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from daps_kit.errors import RefusalError, UserError
from daps_kit.runs.cost import COSTS
from daps_kit.runs.finished import read_values
from daps_kit.runs.folder import RunFolder
from daps_kit.runs.progress import RunDisplay
from daps_kit.runs.runner import run

from .document import Cell, Comparison

__all__ = ["EXPLAINED", "METRICS", "Metric", "Outcome", "fight"]

EXPLAINED = 1.3
"""A sample succeeds where it is not lost and its residual, in standard deviations of the noise, is below this."""


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
}


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: the cell.
        refused: why the sampler cannot do the task.
        failed: why the run broke.
        images: the metrics of each image; NaN where all of its samples were lost.
        cost: of a sample: `network_calls`, `jacobian_products`, `operator_products` and `seconds`.
        lost: samples that were lost.
    """

    cell: Cell
    refused: str = ""
    failed: str = ""
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    lost: int = 0

    def values(self, metric: str) -> list[float]:
        """Return a metric of all images."""
        return [scores[metric] for scores in self.images.values()]


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
    if not any(outcome.images for outcome in outcomes):
        first = outcomes[0]
        raise UserError(f"no cell gave a result; {first.cell.sampler}: {first.refused or first.failed}")
    return outcomes


def _run(cell: Cell, progress: RunDisplay) -> Outcome:
    try:
        run(cell.recipe, progress=progress)
    except RefusalError as error:
        return Outcome(cell, refused=str(error).removeprefix("sampler: "))
    except (UserError, ArithmeticError) as error:
        return Outcome(cell, failed=str(error).splitlines()[0])
    return read(cell)


def read(cell: Cell) -> Outcome:
    """Return what the folder of a finished cell holds."""
    path = cell.recipe.output
    metrics = read_values(path / "metrics.json")
    images = {name: _scores(item, cell.recipe.runs) for name, item in metrics["images"].items()}
    cost = {key: metrics[key] for key in COSTS if metrics[key] is not None}
    spent = RunFolder(path).read_environment()
    if spent.get("drawn"):
        cost["seconds"] = spent["seconds"] / spent["drawn"]
    return Outcome(cell, images=images, cost=cost, lost=len(metrics["lost"]))


def _scores(item: dict[str, Any], runs: int) -> dict[str, float]:
    """Return the metrics of an image."""
    found = {name: _number(item, metric.choice, metric.key) for name, metric in METRICS.items()}
    found["miss"] = abs(found["coverage"] - _number(item, "ensemble", "coverage_due"))
    explained: Sequence[Any] = [
        s for s in item["samples"] if s["residual"] is not None and s["residual"] < EXPLAINED
    ]
    return found | {"success": len(explained) / runs}


def _number(item: dict[str, Any], choice: str, key: str) -> float:
    value = (item.get(choice) or {}).get(key)
    return float("nan") if value is None else float(value)
