"""The papers of what a recipe uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import daps_kit
from daps_kit.errors import UserError
from daps_kit.papers import Paper, distinct
from daps_kit.recipe import load_recipe
from daps_kit.settings import Settings

__all__ = ["SOFTWARE", "papers_of"]

SOFTWARE = Paper(
    "daps_kit",
    f"daps-kit {daps_kit.__version__}: posterior sampling for imaging inverse problems with diffusion priors",
    ("{The daps-kit developers}",),
    2026,
)
"""What computed it."""


def papers_of(recipe: Path) -> list[Paper] | None:
    """Return the papers of a resolved recipe's settings, at any depth, the method first; None where it cannot be read.

    So where a plugin is gone that it was run with.
    """
    try:
        recipes = load_recipe(recipe)
    except UserError:
        return None
    order = ("sampler", "prior", "operator")
    return distinct(paper for each in recipes for part in order for paper in _papers(getattr(each, part)))


def _papers(value: Any) -> Iterator[Paper]:
    if isinstance(value, Settings):
        yield from type(value).papers
    if isinstance(value, BaseModel):
        value = [getattr(value, key) for key in type(value).model_fields]
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _papers(item)
