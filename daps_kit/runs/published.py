"""Numbers that others published, to stand beside results: `published.json` of the package of recipes says them.

    note               what to say below a table that holds any
    models, tasks      the settings of a prior, of an operator, by the name of the model or the task
    told_apart_by      the settings of an operator that say which task it is meant to be
    metrics, numbers   the means by model and task, in the order of `metrics`
    kernels, notes     what else to say of a kernel, and of a task

Importing this module does not import torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from daps_kit.recipe.installed import recipe_folders

__all__ = ["Published", "published"]

Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Published:
    """What was published, and on which problems."""

    note: str = ""
    models: Sections = field(default_factory=dict)
    told_apart_by: tuple[str, ...] = ("use",)
    tasks: Sections = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    numbers: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def model(self, prior: dict[str, Any]) -> str:
        """Return the name of the model that a recipe's prior is: its own `use` where nobody published it."""
        named = (name for name, wanted in self.models.items() if _holds(prior, wanted))
        return next(named, str(prior["use"]))

    def task(self, operator: dict[str, Any]) -> tuple[str, bool]:
        """Return the name of an operator's task, and whether it is the published problem, setting by setting."""
        for name, wanted in self.tasks.items():
            if all(wanted.get(key) == operator.get(key) for key in self.told_apart_by):
                return name, _holds(operator, wanted)
        return str(operator["use"]), True  # its own name says all: nobody published it

    def means(self, model: str, task: str) -> dict[str, float]:
        """Return the published means by metric; none where there are none."""
        return dict(zip(self.metrics, self.numbers.get(model, {}).get(task, ()), strict=False))


def _holds(section: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a section says all that is wanted; the sections in it may say nothing beyond that."""
    for key, value in wanted.items():
        found = section.get(key)
        if isinstance(value, dict) and isinstance(found, dict):
            found = {name: item for name, item in found.items() if item is not None or name in value}
        if found != value:
            return False
    return True


@cache
def published() -> Published:
    """Return the published numbers that are installed."""
    for folder in recipe_folders():
        file = folder / "published.json"
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            names = Published.__dataclass_fields__
            return Published(**{key: value for key, value in content.items() if key in names})
    return Published()
