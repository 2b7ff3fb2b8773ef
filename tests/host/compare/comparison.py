"""A comparison over three photographs of 16 x 16 that runs in a second, and outcomes without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from daps_kit.compare.arena import METRICS, Outcome
from daps_kit.compare.document import Cell, load_comparison


def written(toy: Path, **changes: Any) -> Path:
    """Write a comparison over the images of the toy recipe."""
    recipe = yaml.safe_load(toy.read_text())
    sections = {
        "format": 1,
        "images": recipe["data"],
        "priors": [recipe["prior"]],
        "operators": [{"use": "identity"}, {"use": "down_sampling", "scale_factor": 2}],
        "samplers": {"few": {"use": "daps"}, "wide": {"use": "daps", "spread": "sigma"}},
        "budgets": [3],
        "runs": 3,
        "output": str(toy.parent / "out"),
    }
    path = toy.parent / "comparison.yaml"
    path.write_text(yaml.safe_dump(sections | changes, sort_keys=False))
    return path


def outcome(cell: Cell, **values: list[float]) -> Outcome:
    """Return an outcome with some metrics given and the others zero."""
    count = len(next(iter(values.values())))
    images = {
        f"image {i}": {metric: values.get(metric, [0.0] * count)[i] for metric in list(METRICS)[:9]}
        for i in range(count)
    }
    return Outcome(cell, images=images, cost={"network_calls": float(cell.budget or 1), "seconds": 0.5})


def cells(toy: Path, **changes: Any) -> tuple[Cell, ...]:
    """Return the cells of a comparison."""
    return load_comparison(written(toy, **changes)).cells
