"""Simulation-based calibration of a recipe: a run over truths that are known, and what its samples say of them.

The run is an ordinary one, in a folder of its own: it goes on where it was broken off, and its samples can be looked
at like those of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.recipe import Recipe, load_recipe
from daps_kit.recipe.data import ImagesData, PriorData
from daps_kit.runs.ensemble import interval
from daps_kit.runs.folder import RunFolder
from daps_kit.runs.measurement import Operators
from daps_kit.runs.progress import RunDisplay
from daps_kit.runs.result import RunResult
from daps_kit.runs.runner import run

from .found import Found
from .ranks import coverage, quantities, rank_shares, ranks, spread_skill, tarp_ranks, widening
from .report import picture, table

__all__ = ["simulate"]

TARP = "whole images (TARP)"
MOST = 1_000_000
"""Truths, and samples of each, that there may be."""


def simulate(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    count: int = 16,
    runs: int = 19,
    images: bool = False,
    output: Path | None = None,
    quiet: bool = False,
) -> list[Found]:
    """Draw truths, measure them as the recipe says, sample, and rank; write what is found, for each task of the recipe.

    Args:
        recipe, overrides: as for a run.
        count: how many truths, at least 2.
        runs: samples of each, at least 2.
        images: take the recipe's own images for truths; else they are drawn from its prior, for which right samples
            are calibrated exactly.
        output: folder; that of the recipe with `-coverage` added where not given.
        quiet: show no progress and no warnings.

    Raises:
        RecipeError: the recipe is wrong.
        UserError: `images` of a recipe without images, or what ends a run.
    """
    recipes = [_of(recipe, count, runs, images, output) for recipe in load_recipe(recipe, overrides)]
    with RunDisplay(quiet=quiet) as progress:
        return [_judge(recipe, run(recipe, progress=progress), images) for recipe in recipes]


def _of(recipe: Recipe, count: int, runs: int, images: bool, output: Path | None) -> Recipe:
    """Return the recipe over known truths."""
    for name, value in (("count", count), ("runs", runs)):
        if not 2 <= value <= MOST:
            raise UserError(f"{name}: expected 2 to {MOST}, got {value}")
    data: ImagesData | PriorData
    if images:
        if not isinstance(recipe.data, ImagesData):
            raise UserError(
                "--images takes the recipe's images for truths, but its data are none (use: images)"
            )
        data = recipe.data.model_copy(update={"limit": min(count, len(recipe.data.files))})
        if len(data.files) < 2:
            raise UserError(f"coverage needs two images or more, and the recipe has {len(data.files)}")
    else:
        shape = None if isinstance(recipe.data, ImagesData) else recipe.data.image_shape
        data = PriorData(count=count, image_shape=shape, offset=0)
    task = recipe.output.name if output is not None and "/" in recipe.name else ""
    folder = recipe.output.with_name(f"{recipe.output.name}-coverage") if output is None else output / task
    return recipe.model_copy(
        update={"data": data, "runs": runs, "output": folder, "trajectory": 0, "widen": 1.0}
    )


@torch.no_grad()
def _judge(recipe: Recipe, result: RunResult, images: bool) -> Found:
    """Rank the truths of a finished run among their samples, and write table and picture."""
    folder = RunFolder(result.path)
    operators = Operators(recipe.operator, recipe.seed, torch.device("cpu"))
    shares: dict[str, list[Tensor]] = {}
    counts: dict[str, int] = {}

    def count(kind: str, found: Tensor) -> None:
        shares.setdefault(kind, []).append(rank_shares(found, result.runs))
        counts[kind] = counts.get(kind, 0) + found.numel()

    samples, truths = _alive(folder, result)
    if len(truths) < 2:
        raise UserError(
            f"{result.path}: fewer than two images have all of their samples; nothing can be said"
        )
    for name, truth in truths.items():
        true = quantities(truth[None].double())
        for kind, values in quantities(samples[name].double()).items():
            count(kind, ranks(values, true[kind][0]))
        y = folder.measured(name)[0][None]
        operator = operators.of(name, (truth.shape[0], truth.shape[1], truth.shape[2]))
        fit = operator.residual(samples[name], y.expand(result.runs, *y.shape[1:]))
        count("fit", ranks(fit[:, None], operator.residual(truth[None], y)))
    if len({truth.shape for truth in truths.values()}) == 1:
        for name, truth in truths.items():
            others = torch.stack([other for key, other in truths.items() if key != name])
            nearer = tarp_ranks(samples[name].double(), truth.double(), others.double())
            shares.setdefault(TARP, []).append(rank_shares(nearer, result.runs))
        counts[TARP] = len(truths)  # the references of an image are no new truths
    found = Found(
        recipe.name,
        result.path,
        result.runs,
        len(truths),
        "the recipe's images" if images else "draws of the prior",
        {kind: coverage(table, counts[kind]) for kind, table in shares.items()},
        spread_skill(list(samples.values()), list(truths.values())) if result.runs > 3 else [],
        widening(list(samples.values()), list(truths.values()), interval(result.runs)),
    )
    folder.write_json("coverage.json", _record(found))
    folder.write_text("coverage.md", table(found))
    folder.write_text("coverage.svg", picture(found))
    return found


def _alive(folder: RunFolder, result: RunResult) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return samples [R, C, H, W] and truth [C, H, W] of the images none of whose samples is lost, by name."""
    samples, truths = {}, {}
    for name in result.names:
        x0 = torch.stack([sample.x0 for sample in folder.samples(name, result.runs)])
        truth = folder.measured(name)[1]
        if truth is not None and bool(torch.isfinite(x0).all()):
            samples[name], truths[name] = x0, truth
    return samples, truths


def _record(found: Found) -> dict[str, Any]:
    """Return what coverage.json holds."""
    return {
        "format": 1,
        "name": found.name,
        "truths": found.truths,
        "images": found.images,
        "runs": found.runs,
        "verdict": found.verdict,
        "widen": found.widen,
        "coverage": {
            kind: {
                "covered": c.covered[found.k - 1],
                "due": c.due[found.k - 1],
                "standard_error": c.covered_errors[found.k - 1],
                "ranks": c.shares,
                "ranks_standard_error": c.errors,
            }
            for kind, c in found.by_kind.items()
        },
        "spread_error": [{"spread": spread, "error": error} for spread, error in found.groups],
    }
