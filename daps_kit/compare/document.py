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

    posteriors: [mixture-8-1, bipsda-low]   # tasks whose posterior is known, beside images or in their place
    measurements: 4                         # of each
    samples: 200                            # of each measurement

    tuning: {images: {use: images, path: validation/*.png}, search: {dps: {zeta: [0.1, 3.0]}}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from daps_kit.errors import Location, Problem, RecipeError, did_you_mean
from daps_kit.paths import RecipeText
from daps_kit.recipe.data import ImagesData
from daps_kit.recipe.document import Node
from daps_kit.recipe.installed import find_recipe, shown
from daps_kit.recipe.layers import apply_changes, compose
from daps_kit.recipe.load import Recipe, complete, read_document, read_recipe
from daps_kit.recipe.sections import SectionReader
from daps_kit.recipe.wording import as_written
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import SamplerSettings

from .tuning import Search, TuningSettings, Value, corners, require_other_images

__all__ = ["LEVY", "POSTERIORS", "Cell", "Comparison", "Known", "Tuned", "load_comparison"]

LEVY = tuple(
    (law, operator)
    for law in ("gauss", "laplace", "bernoulli-laplace", "student")
    for operator in ("identity", "convolution", "sample", "fourier")
)
"""The laws and operators of walks (`daps_kit.compare.levy`)."""

POSTERIORS = (
    "gaussian",
    *(f"mixture-{size}-{measured}" for size in (8, 80) for measured in (1, 2, 4)),
    "bipsda-low",
    "bipsda-high",
    "bipsda-phase",
    "bipsda-xray",
    *(f"levy-{law}-{operator}" for law, operator in LEVY),
)
"""The names of the posteriors that are known (`daps_kit.compare.posteriors`)."""

_LISTS = {"priors": "prior", "operators": "operator", "samplers": "sampler"}
_COMMON = ("runs", "seed", "device", "batch_size", "execution", "check_prior", "metrics", "plugins")
_KNOWN = {"measurements": 4, "samples": 200}
_KEYS = (
    "format", "name", "images", *_LISTS, "posteriors", *_KNOWN, "tuning", "budgets", "seeds", *_COMMON, "output"
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A sampler on a known posterior.

    Attributes:
        posterior: its name.
        sampler: settings.
        runs: samples of each measurement.
        measurements: how many, each a problem of its own where the posterior's makers drew it.
        seed: of the first of them.
        output: folder of the numbers.
    """

    posterior: str
    sampler: SamplerSettings
    runs: int
    measurements: int
    seed: int
    output: Path


@dataclass(frozen=True)
class Cell:
    """A sampler on a task with a budget.

    Attributes:
        task: the operator's name, and the prior's where there are several; or the name of a known posterior.
        sampler: its name in the comparison.
        budget: network calls of a sample; None where the comparison sets none.
        recipe: what is run.
    """

    task: str
    sampler: str
    budget: int | None
    recipe: Recipe | Known


@dataclass(frozen=True)
class Tuned:
    """A sampler whose settings are searched for a task and a budget.

    Attributes:
        task, sampler, budget: as of a cell.
        metric: what is best on the images to tune on.
        search: how the settings are searched.
        cell: the cell of the settings that were found.
    """

    task: str
    sampler: str
    budget: int | None
    metric: str
    search: Search
    cell: Callable[[Mapping[str, Value]], Cell]


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        name: of the comparison.
        output: folder of the tables, and of the cells' folders in `cells`.
        cells: task by task, budget by budget, sampler by sampler.
        tuned: samplers that are tuned before they are compared.
    """

    name: str
    output: Path
    cells: tuple[Cell, ...]
    tuned: tuple[Tuned, ...] = ()


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
        known = self.posteriors()
        only_known = bool(known) and not {"images", "priors", "operators"} & set(sections)
        needed = ("format", "samplers") if only_known else ("format", "images", *_LISTS)
        for key in needed:
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
        tuning = self.tuning()
        if self.problems:
            raise RecipeError(self.problems)

        name = str(sections["name"].value) if "name" in sections else self.file.stem
        output = sections["output"].value if "output" in sections else f"results/{name}"
        samplers = self.named("samplers")
        priors, operators = ({}, {}) if only_known else (self.named(key) for key in ("priors", "operators"))
        cells, tuned = [], []
        wanted = dict(tuning.search) if tuning else {}
        for sampler_name in sorted(set(wanted) - set(samplers)):
            hint = did_you_mean(sampler_name, samplers)
            self.fail(f"there is no sampler '{sampler_name}' in the comparison{hint}", "tuning")
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
                        if tuning and sampler_name in wanted and not self.problems:
                            tuned.append(self.tuned(tuning, cells[-1], sampler_name, parts, folder, name))
        for posterior in known:
            for budget in budgets:
                for sampler_name, sampler in samplers.items():
                    settings = self.settings(self.held(sampler, budget), f"samplers.{sampler_name}")
                    folder = Path(str(output), "cells", posterior, str(budget or "own"), sampler_name)
                    if settings is not None:
                        counts = {key: self.count(key) for key in (*_KNOWN, "seed")}
                        what = Known(
                            posterior, settings, counts["samples"], counts["measurements"], counts["seed"],
                            folder.absolute(),
                        )  # fmt: skip
                        cells.append(Cell(posterior, sampler_name, budget, what))
        if self.problems:
            raise RecipeError(self.problems)
        if tuning:
            require_other_images(tuning.images.files, [
                path for cell in cells if isinstance(cell.recipe, Recipe)
                and isinstance(cell.recipe.data, ImagesData) for path in cell.recipe.data.files
            ])  # fmt: skip
        return Comparison(name, Path(str(output)).absolute(), tuple(cells), tuple(tuned))

    def posteriors(self) -> list[str]:
        """Return the names of known posteriors."""
        node = self.root.value.get("posteriors")
        if node is None:
            return []
        found = node.plain()
        if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
            self.fail(f"expected a list of names, got {as_written(found)}", "posteriors")
            return []
        for name in found:
            if name not in POSTERIORS:
                hint = did_you_mean(name, POSTERIORS)
                self.fail(
                    f"unknown posterior '{name}'; there are {', '.join(POSTERIORS)}{hint}", "posteriors"
                )
        return list(dict.fromkeys(found))

    def count(self, key: str) -> int:
        """Return a whole number of the document, or what it is where not given."""
        node = self.root.value.get(key)
        value = _KNOWN.get(key, 0) if node is None else node.plain()
        if type(value) is not int or value < (1 if key in _KNOWN else 0):
            self.fail(
                f"expected a whole number from {1 if key in _KNOWN else 0} up, got {as_written(value)}", key
            )
            return 1
        return value

    def settings(self, node: Node, path: str) -> SamplerSettings | None:
        """Return the settings of a sampler that no recipe holds."""
        reader = SectionReader(self.registry)
        found = reader.section(node, [SamplerSettings], path)
        self.problems += reader.problems
        return found if isinstance(found, SamplerSettings) else None

    def tuning(self) -> TuningSettings | None:
        """Return the section `tuning`."""
        node = self.root.value.get("tuning")
        if node is None:
            return None
        if not isinstance(node.value, dict):
            self.fail(f"expected a section, got {as_written(node.plain())}", "tuning")
            return None
        reader = SectionReader(self.registry)
        found = reader.model(node, TuningSettings, node.value, "tuning", {})
        self.problems += reader.problems
        return found if isinstance(found, TuningSettings) else None

    def tuned(
        self,
        tuning: TuningSettings,
        cell: Cell,
        sampler: str,
        parts: dict[str, Node],
        folder: Path,
        name: str,
    ) -> Tuned:
        """Return the search for a sampler's settings on a task, its trials beside the cells."""
        bounds, title = tuning.search[sampler], f"{sampler} (tuned)"
        trials = Path(*("tuning" if part == "cells" else part for part in folder.parts))
        images = self.root.value["tuning"].value["images"]
        common = {"data": images} | ({"runs": Node(tuning.runs)} if tuning.runs else {})

        def with_values(values: Mapping[str, Value]) -> dict[str, Node]:
            section = parts["sampler"]
            new = {key: Node(value, section.location) for key, value in values.items()}
            return {**parts, "sampler": replace(section, value={**section.value, **new})}

        def made(values: Mapping[str, Value], at: Path, words: str, more: dict[str, Node]) -> Recipe:
            recipe = self.recipe(with_values(values), at, f"{name}: {cell.task}, {words}", more)
            if recipe is None:
                raise RecipeError(self.problems)
            return recipe

        def trial(number: int, values: Mapping[str, Value]) -> Recipe:
            return made(values, trials / str(number), f"{sampler}, trial {number}", common)

        def final(values: Mapping[str, Value]) -> Cell:
            return Cell(cell.task, title, cell.budget, made(values, folder.with_name(title), title, {}))

        for values in corners(bounds):  # what is wrong with settings is said before anything runs
            self.recipe(with_values(values), trials / "0", name, common)
        seed = self.count("seed")
        return Tuned(
            cell.task, title, cell.budget, tuning.metric, Search(bounds, tuning.trials, seed, trial), final
        )

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

    def recipe(
        self, parts: dict[str, Node], folder: Path, name: str, more: Mapping[str, Node] | None = None
    ) -> Recipe | None:
        sections = self.root.value
        given = {key: sections[key] for key in _COMMON if key in sections}
        own = {
            "format": sections["format"],
            "name": Node(name),
            "data": sections["images"],
            "output": Node(RecipeText(str(folder), Path.cwd())),
        }
        whole = complete(Node({**own, **parts, **given, **(more or {})}), self.file.stem, None)
        return read_recipe(whole, self.file, self.registry, self.problems)
