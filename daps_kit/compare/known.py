"""Samplers on posteriors that are known: what their samples have in common with exact ones.

Of N samples of each of several measurements (`daps_kit.compare.posteriors`):

    sliced Wasserstein   the root of the mean over directions of the squared Wasserstein-2 distance of the projections
                         of the samples and of as many exact ones, in the original units; `floor` is that of two exact
                         sets
    variance error       sum_i |v_i - v*_i| / sum_i v*_i, the elements' variances against the exact ones
    variance distance    |v - v*|, in the original units, as BIPSDA tells it (arXiv 2503.03007)
    MMSE gap             10 log10(1 + |m - m*|^2 / sum_i v*_i) dB: how much larger the squared error of the mean of
                         infinitely many samples is, on average over x0 given y, than the least that there is
    CRPS, coverage       as for images, of the x0 that was measured

Numbers are kept in the folder of the cell, with the settings that they belong to.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from daps_kit.report.reading import read_values
from daps_kit.runs.cost import COSTS, mean_cost
from daps_kit.runs.draw import draw
from daps_kit.runs.ensemble import spread_scores
from daps_kit.runs.folder import RunFolder

from .document import Known
from .posteriors import KnownPosterior, known_posterior

__all__ = ["Measured", "measure", "sliced_wasserstein", "variance_error"]

FILE = "known.json"
SLICES = 500
EXACT = 20_000
"""Exact samples that give means and variances."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        images: metrics of each measurement.
        cost: of a sample.
        lost: samples that were lost.
    """

    images: dict[str, dict[str, float]]
    cost: dict[str, float]
    lost: int


def measure(known: Known) -> Measured:
    """Draw the samples and judge them, unless that was done before.

    Raises:
        RefusalError: the sampler cannot do this.
    """
    folder, what = RunFolder(known.output), _identity(known)
    if (known.output / FILE).exists():
        there = read_values(known.output / FILE)
        if there["what"] == what:
            return Measured(
                {k: _numbers(v) for k, v in there["images"].items()}, there["cost"], there["lost"]
            )
    images, costs, lost, seconds = {}, [], 0, 0.0
    for place in range(known.measurements):
        problem = known_posterior(known.posterior, known.seed + place)
        seeds = range(place * known.runs, (place + 1) * known.runs)
        began = time.perf_counter()
        drawn = draw(
            known.sampler.build(),
            problem.prior,
            problem.operator,
            problem.y.repeat(known.runs, 1),
            list(seeds),
        )
        seconds += time.perf_counter() - began
        costs.append((drawn.cost, known.runs))
        lost += len(drawn.lost)
        alive = torch.isfinite(drawn.x0).flatten(1).all(1)
        scores = _judge(problem, drawn.x0[alive].flatten(1).double(), known.seed + place)
        images[f"measurement {place + 1}"] = scores | {"success": float(alive.double().mean())}
    mean = mean_cost(costs)
    cost = {key: getattr(mean, field) for key, field in COSTS.items()}
    cost["seconds"] = seconds / (known.measurements * known.runs)
    folder.write_json(FILE, {"what": what, "images": images, "cost": cost, "lost": lost})
    return Measured(images, cost, lost)


def _identity(known: Known) -> dict[str, Any]:
    found = {f.name: getattr(known, f.name) for f in fields(known) if f.name not in ("sampler", "output")}
    settings = {"use": known.sampler.name, **known.sampler.model_dump(mode="json")}
    identity: dict[str, Any] = json.loads(json.dumps(found | {"sampler": settings}))
    return identity


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {key: math.nan if value is None else float(value) for key, value in scores.items()}


def _judge(problem: KnownPosterior, x: Tensor, seed: int) -> dict[str, float]:
    """Return the metrics of the samples [N, d] of a measurement; none where fewer than two are left."""
    if len(x) < 2:
        return {}
    reference, one, other = (
        problem.exact(count, seed + k) for k, count in enumerate((EXACT, len(x), len(x)))
    )
    apart = float((x.mean(0) - reference.mean(0)).square().sum())
    by_chance = float(x.var(0).sum()) / len(x)
    excess = max(0.0, apart - by_chance) / float(reference.var(0).sum())
    spread = spread_scores(x, problem.truth) or {}
    return {
        "sliced_wasserstein": problem.unit * sliced_wasserstein(x, one),
        "floor": problem.unit * sliced_wasserstein(other, one),
        "variance_error": variance_error(x, reference),
        "variance_distance": problem.unit**2 * float((x.var(0) - reference.var(0)).norm()),
        "mmse_gap": 10 * math.log10(1 + excess),
        "crps": problem.unit * spread["crps"],
        "coverage": spread["coverage"],
        "miss": abs(spread["coverage"] - spread["coverage_due"]),
    }


def sliced_wasserstein(a: Tensor, b: Tensor) -> float:
    """Return the sliced Wasserstein-2 distance of two sets of as many points, [N, d]."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn((a.shape[1], SLICES), generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=0)
    apart = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    return float(apart.square().mean().sqrt())


def variance_error(x: Tensor, reference: Tensor) -> float:
    """Return how far the elements' variances are from those of a reference, in parts of these."""
    wanted = reference.var(0)
    return float((x.var(0) - wanted).abs().sum() / wanted.sum())
