"""Recipes as text, written into the working folder, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import Recipe, load_recipe
from daps_kit.registry import Registry

MINIMAL = """\
format: 1
data: {use: prior, count: 2}
prior: {use: gaussian}
operator: {use: identity}
"""


def write(name: str, text: str) -> str:
    """Write a file, and its folder where there is none; return its name."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def load(text: str, *overrides: str, registry: Registry | None = None) -> Recipe:
    """Return the one recipe of a text."""
    (recipe,) = load_recipe(write("r.yaml", text), overrides, registry=registry)
    return recipe


def problems(text: str, *overrides: str, registry: Registry | None = None) -> list[str]:
    """Return what is wrong with a recipe, one line each."""
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides, registry=registry)
    lines = [str(problem) for problem in caught.value.problems]
    assert str(caught.value) == "\n".join(lines)
    assert all("\n" not in line for line in lines)
    return lines
