"""The file of a comparison: what is compared, and the cells that follow from it.

    format: 1
    images: {use: images, path: photos/*.png}
    priors: [{use: embedded}]                                   # a list, or a section that gives each a name
    operators: [{use: down_sampling}, embedded/gaussian_blur]   # sections, or recipes that have one
    samplers: [{use: daps}, {use: dps, zeta: 0.3}]
    budgets: [20, 100]
    runs: 8

A cell is a recipe: an operator and a prior (a task), a sampler, and a budget of network calls, in a folder of its own.
Images, seed and hence measurements and noise are the same for all. A sampler that has no setting `budget` cannot be
held to one, which is an error where budgets are given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from daps_kit.errors import Location, Problem, RecipeError, did_you_mean
from daps_kit.paths import RecipeText
from daps_kit.recipe.document import Node
from daps_kit.recipe.installed import find_recipe, shown
from daps_kit.recipe.layers import apply_changes, compose
from daps_kit.recipe.load import Recipe, complete, read_document, read_recipe
from daps_kit.recipe.wording import as_written
from daps_kit.registry import Registry, default_registry

__all__ = ["Cell", "Comparison", "load_comparison"]

_LISTS = {"priors": "prior", "operators": "operator", "samplers": "sampler"}
_COMMON = ("runs", "seed", "device", "batch_size", "execution", "check_prior", "metrics", "plugins")
_KEYS = ("format", "name", "images", *_LISTS, "budgets", "seeds", *_COMMON, "output")


@dataclass(frozen=True)
class Cell:
    """A sampler on a task with a budget.

    Attributes:
        task: the operator's name, and the prior's where there are several.
        sampler: its name in the comparison.
        budget: network calls of a sample; None where the comparison sets none.
        recipe: what is run.
    """

    task: str
    sampler: str
    budget: int | None
    recipe: Recipe


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        name: of the comparison.
        output: folder of the tables, and of the cells' folders in `cells`.
        cells: task by task, budget by budget, sampler by sampler.
    """

    name: str
    output: Path
    cells: tuple[Cell, ...]


def load_comparison(
    file: str | Path, overrides: Iterable[str] = (), *, registry: Registry | None = None
) -> Comparison:
    """Read a comparison.

    Args:
        file: its file.
        overrides: settings as `a.b.c=value`, which win over the file.
        registry: where components are looked up; the installed plugins by default.

    Raises:
        RecipeError: everything that is wrong with it.
    """
    problems: list[Problem] = []
    found, root, changes = read_document(file, overrides, problems)
    root = apply_changes(root, changes, problems)
    if problems:
        raise RecipeError(problems)
    return _Reader(found, root, registry or default_registry()).read()


class _Reader:
    """Turns a document into cells, and collects what is wrong."""

    def __init__(self, file: Path, root: Node, registry: Registry) -> None:
        self.file, self.root, self.registry = file, root, registry
        self.problems: list[Problem] = []

    def read(self) -> Comparison:
        sections = self.root.value
        for key, node in sections.items():
            if key not in _KEYS:
                self.fail(
                    f"unknown key; allowed: {', '.join(_KEYS)}{did_you_mean(key, _KEYS)}", key, node.place
                )
        for key in ("format", "images", *_LISTS):
            if key not in sections:
                self.fail("is missing", key, Location(shown(self.file), 1, 1))
        paired: Literal["paired"] = "paired"
        if "seeds" in sections and sections["seeds"].value != paired:
            given = as_written(sections["seeds"].plain())
            self.fail(
                f"expected {paired}: a comparison is of the same measurements and streams, got {given}",
                "seeds",
            )
        budgets = self.budgets()
        if self.problems:
            raise RecipeError(self.problems)

        name = str(sections["name"].value) if "name" in sections else self.file.stem
        output = sections["output"].value if "output" in sections else f"results/{name}"
        priors, operators, samplers = (self.named(key) for key in _LISTS)
        cells = []
        for prior_name, prior in priors.items():
            for operator_name, operator in operators.items():
                task = f"{operator_name} ({prior_name})" if len(priors) > 1 else operator_name
                for budget in budgets:
                    for sampler_name, sampler in samplers.items():
                        held = self.held(sampler, budget)
                        place = [prior_name] * (len(priors) > 1) + [
                            operator_name,
                            str(budget or "own"),
                            sampler_name,
                        ]
                        folder = Path(str(output), "cells", *place)
                        parts = {"prior": prior, "operator": operator, "sampler": held}
                        recipe = self.recipe(
                            parts, folder, f"{name}: {task}, {sampler_name}, {budget or 'own'} calls"
                        )
                        if recipe is not None:
                            cells.append(Cell(task, sampler_name, budget, recipe))
        if self.problems:
            raise RecipeError(self.problems)
        return Comparison(name, Path(str(output)).absolute(), tuple(cells))

    def fail(self, message: str, path: str, location: Location | None = None) -> None:
        node = self.root.value.get(path.partition(".")[0])
        self.problems.append(Problem(message, path, location or (node.location if node else None)))

    def budgets(self) -> list[int | None]:
        node = self.root.value.get("budgets")
        if node is None:
            return [None]
        found = node.plain()
        if isinstance(found, list) and found and all(type(b) is int and b > 0 for b in found):
            return list(dict.fromkeys(found))
        self.fail(f"expected a list of whole numbers from 1 up, got {as_written(found)}", "budgets")
        return [None]

    def named(self, key: str) -> dict[str, Node]:
        """Return the sections of a list by name: their own keys, or what they use, numbered where that is not one."""
        node = self.root.value[key]
        if isinstance(node.value, dict) and "use" not in node.value:
            given = list(node.value.items())
        else:
            given = [("", item) for item in (node.value if isinstance(node.value, list) else [node])]
        found: dict[str, Node] = {}
        for place, (name, item) in enumerate(given):
            section = self.section(item, _LISTS[key], f"{key}.{name or place}")
            if section is None:
                continue
            used = section.value.get("use")
            own = name or (str(used.value) if used else "daps")
            count = 2
            while own in found:
                own, count = (
                    f"{own.rpartition('-')[0] or own}-{count}" if count > 2 else f"{own}-2",
                    count + 1,
                )
            found[own] = section
        if not found and not self.problems:
            self.fail("expected at least one", key)
        return found

    def section(self, node: Node, part: str, path: str) -> Node | None:
        """Return a section as it stands, or that of a recipe which is named."""
        if isinstance(node.value, dict):
            return node
        if not isinstance(node.value, str):
            self.fail(
                f"expected a section or the name of a recipe, got {as_written(node.plain())}",
                path,
                node.location,
            )
            return None
        folder = node.value.folder if isinstance(node.value, RecipeText) else Path.cwd()
        file = find_recipe(node.value, folder)
        root = None if isinstance(file, str) else compose(file, self.problems)
        if isinstance(file, str):
            self.fail(file, path, node.location)
        elif root is not None and not isinstance(getattr(root.value.get(part), "value", None), dict):
            self.fail(f"{node.value} has no section '{part}'", path, node.location)
        else:
            return root.value[part] if root else None
        return None

    def held(self, sampler: Node, budget: int | None) -> Node:
        """Return a sampler held to a budget."""
        if budget is None:
            return sampler
        return replace(sampler, value={**sampler.value, "budget": Node(budget, sampler.location)})

    def recipe(self, parts: dict[str, Node], folder: Path, name: str) -> Recipe | None:
        sections = self.root.value
        given = {key: sections[key] for key in _COMMON if key in sections}
        own = {
            "format": sections["format"],
            "name": Node(name),
            "data": sections["images"],
            "output": Node(RecipeText(str(folder), Path.cwd())),
        }
        whole = complete(Node({**own, **parts, **given}), self.file.stem, None)
        return read_recipe(whole, self.file, self.registry, self.problems)
