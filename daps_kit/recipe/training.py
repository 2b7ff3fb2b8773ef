"""The recipe of a training, which holds a `trainer` in place of the sections of a run.

format: 1
trainer: {use: denoiser, images: photos/*.png}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from daps_kit.errors import Location, Problem, RecipeError
from daps_kit.paths import FolderName, RecipeText, working_folder
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import TrainerSettings

from .document import Node
from .installed import find_recipe, shown
from .layers import apply_changes, compose
from .load import read_document
from .plugins import ABOUT, PluginFiles, WithPlugins, opened, with_used
from .sections import SectionReader

__all__ = ["TrainingRecipe", "is_training", "load_training"]


class TrainingRecipe(WithPlugins):
    """Everything a training needs to know."""

    format: Literal[1] = Field(description="version of the format of recipes")
    name: FolderName = Field(description="name of the training; the file's name where not given")
    plugins: PluginFiles = Field((), description=ABOUT)
    trainer: TrainerSettings = Field(description="what is trained, on what, and how")


def is_training(recipe: str | Path) -> bool:
    """Return whether a recipe that can be read has a `trainer`."""
    found = find_recipe(recipe, working_folder())
    root = None if isinstance(found, str) else compose(found, [])
    return root is not None and "trainer" in root.value


def load_training(
    recipe: str | Path, overrides: Iterable[str] = (), *, registry: Registry | None = None
) -> TrainingRecipe:
    """Read the recipe of a training.

    Args:
        recipe: a file, or the name of an installed recipe.
        overrides: settings as `a.b.c=value`, which win over the file. Paths in them start from the working folder.
        registry: where trainers are looked up; the installed plugins by default.

    Raises:
        RecipeError: everything that is wrong with it.
    """
    problems: list[Problem] = []
    found, root, changes = read_document(recipe, overrides, problems)
    if "trainer" not in root.value and not any(keys[0] == "trainer" for keys, _ in changes):
        hint = "; it describes a run: `daps-kit run` runs it" if "operator" in root.value else ""
        problems.append(
            Problem(f"is missing{hint}", "trainer", root.location or Location(shown(found), 1, 1))
        )
        raise RecipeError(problems)
    root = _complete(apply_changes(root, changes, problems), found.stem)
    registry = opened(root, registry or default_registry(), problems)
    reader = SectionReader(registry)
    settings = None if problems else reader.model(root, TrainingRecipe, root.value, "", {})
    if problems + reader.problems:
        raise RecipeError(problems + reader.problems)
    assert isinstance(settings, TrainingRecipe)
    settings = settings.model_copy(update={"plugins": with_used(settings.plugins, settings, registry)})
    settings._registry = registry
    return settings


def _complete(root: Node, stem: str) -> Node:
    """Fill in the name and the output folder, which starts from where the user works, not from the recipe."""
    sections = dict(root.value)
    name = sections.setdefault("name", Node(stem)).value
    trainer = sections["trainer"]
    if isinstance(trainer.value, dict):
        given = trainer.value.get("output", Node(f"training/{name}"))
        if isinstance(given.value, str):
            given = replace(given, value=RecipeText(given.value, Path.cwd()))
        sections["trainer"] = replace(trainer, value={**trainer.value, "output": given})
    return replace(root, value=sections)
