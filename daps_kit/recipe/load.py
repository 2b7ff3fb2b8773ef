"""Recipes: a YAML file (and what it extends), overrides, and the validated settings they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, Strict, model_validator

from daps_kit.errors import ComponentError, Location, Problem, RecipeError, did_you_mean
from daps_kit.paths import FolderName, RecipeText, folder_name, resolve_path, working_folder
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import (
    ExecutorSettings,
    OperatorSettings,
    PriorSettings,
    SamplerSettings,
)

from .data import DataSettings
from .document import Node
from .installed import find_recipe, shown
from .layers import apply_changes, compose, merge, parse_overrides
from .plugins import ABOUT, PluginFiles, WithPlugins, opened, with_used
from .sections import SectionReader

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Recipe", "complete", "expand", "load_recipe", "read_document", "read_recipe"]


Metric = Literal["lpips_piq", "lpips_vgg", "lpips_alex", "fid_torchvision", "fid"]


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|[a-z]+(:\d+)?", value):
        raise ValueError(f"expected auto, cpu, cuda, cuda:1 or the like, got '{value}'")
    return value


class Recipe(WithPlugins):
    """Everything a run needs to know."""

    format: Literal[1] = Field(description="version of the format of recipes")
    name: FolderName = Field(description="name of the run; the file's name where not given")
    plugins: PluginFiles = Field((), description=ABOUT)
    data: DataSettings = Field(description="where the images or the measurement come from")
    prior: PriorSettings = Field(description="the diffusion prior")
    operator: OperatorSettings = Field(description="the forward model")
    sampler: SamplerSettings = Field(
        description="the method that draws from the posterior; {use: daps} if not given"
    )
    runs: int = Field(1, ge=1, le=1_000_000, description="posterior samples per image")
    seed: int = Field(0, ge=0, description="seed of everything that is random")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="(image, run) pairs computed at once; results do not depend on it"
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="where to compute: auto (a GPU where there is one), cpu, cuda, cuda:1, mps"
    )
    execution: ExecutorSettings = Field(
        description="where the batches are computed, which changes no result; {use: local}, this process, if not given"
    )
    store: Literal["files", "zarr"] = Field(
        "files",
        description="where tensors lie: each in a file, or all in one Zarr store, results.zarr (extra `zarr`), where "
        "many small files are a burden",
    )
    check_prior: bool = Field(
        True, description="whether to check first that the prior denoises, and to stop if it does not"
    )
    metrics: Annotated[tuple[Metric, ...], Strict(False)] = Field(
        (),
        description="metrics beside PSNR and SSIM: LPIPS and FID as in the published runs (lpips_piq, "
        "fid_torchvision) or as the standard tools have them; they need the extra `metrics`, and fetch weights",
    )
    widen: float = Field(
        1.0,
        gt=0,
        description="factor by which the intervals of pixels (5 to 95 %) are widened about the mean; `daps-kit "
        "coverage` finds it",
    )
    trackers: Annotated[tuple[str, ...], Strict(False)] = Field(
        (),
        description="who is told how the run goes, such as mlflow, tensorboard or wandb, which the plugin "
        "daps-trackers brings",
    )
    trajectory: int = Field(0, ge=0, description="how many annealing levels to show in pictures; 0 for none")
    video: Literal["mp4", "webp", "gif"] | None = Field(
        None,
        description="an animation of these levels for each image, the mean and samples as they emerge; mp4 needs the "
        "extra `video`",
    )
    output: Annotated[Path, BeforeValidator(resolve_path)] = Field(
        description="folder of the results, relative to the working folder; results/<name> if not given"
    )

    _source: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _video_of_something(self) -> Self:
        if self.video and self.trajectory < 2:
            raise ValueError("video shows the levels of the trajectory: give trajectory, 2 or more")
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    @property
    def source(self) -> Path | None:
        """The file it was read from."""
        return self._source


def load_recipe(
    recipe: str | Path, overrides: Iterable[str] = (), *, registry: Registry | None = None
) -> tuple[Recipe, ...]:
    """Read a recipe; one with `tasks` stands for several, in their order.

    Args:
        recipe: a file, or the name of an installed recipe.
        overrides: settings as `a.b.c=value`, which win over the file. Paths in them start from the working folder.
        registry: where components are looked up; the installed plugins by default.

    Raises:
        RecipeError: everything that is wrong with it.
    """
    problems: list[Problem] = []
    found, root, changes = read_document(recipe, overrides, problems)
    if "trainer" in root.value:
        message = "this is a recipe of a training; `daps-kit train` runs it"
        raise RecipeError([Problem(message, "trainer", root.value["trainer"].place)])
    for key in ("sweep", "search"):
        if key in root.value:
            message = "the recipe stands for many runs, which `daps-kit run` and `daps-kit check` take"
            raise RecipeError([Problem(message, key, root.value[key].place)])
    recipes = expand(found, root, changes, registry or default_registry(), problems)
    if problems:
        raise RecipeError(problems)
    return tuple(recipe for recipe in recipes if recipe is not None)


def expand(
    file: Path,
    root: Node,
    changes: Sequence[tuple[list[str], Node]],
    registry: Registry,
    problems: list[Problem],
) -> list[Recipe | None]:
    """Return the recipe of each task of a document, or the only one; None where anything is wrong with it."""
    root = _change_tasks(root, changes, problems)
    return [
        read_recipe(node, file, registry, problems) for node in _expand(root, file.stem, changes, problems)
    ]


def read_document(
    recipe: str | Path, overrides: Iterable[str], problems: list[Problem]
) -> tuple[Path, Node, list[tuple[list[str], Node]]]:
    """Return the file of a recipe, its document, and overrides that are still to be made to it.

    Raises:
        RecipeError: there is nothing to be read; what is wrong beyond that is added to `problems`.
    """
    found = find_recipe(recipe, working_folder())
    if isinstance(found, str):
        raise RecipeError([Problem(found)])
    changes = parse_overrides(overrides, problems)
    root = compose(found, problems)
    if root is None:
        raise RecipeError(problems)
    return found, root, changes


def _change_tasks(root: Node, changes: Sequence[tuple[list[str], Node]], problems: list[Problem]) -> Node:
    """Make the overrides of single tasks, `tasks.NAME.KEY=VALUE`."""
    tasks = root.value.get("tasks")
    names = tasks.value if tasks is not None and isinstance(tasks.value, dict) else {}
    for keys, value in changes:
        if keys[0] == "tasks" and len(keys) > 2 and keys[1] not in names:
            known = ", ".join(names) or "none"
            message = f"unknown task; there are {known}{did_you_mean(keys[1], names)}"
            problems.append(Problem(message, ".".join(keys[:2]), value.location))
        elif keys[0] == "tasks":
            root = apply_changes(root, [(keys, value)], problems)
    return root


def _expand(
    root: Node, stem: str, changes: Sequence[tuple[list[str], Node]], problems: list[Problem]
) -> list[Node]:
    """Return one document for each task, or the only one, with name, output and sampler filled in."""
    sections = dict(root.value)
    tasks = sections.pop("tasks", None)
    base = replace(root, value=sections)
    changes = [change for change in changes if change[0][0] != "tasks"]
    if tasks is None:
        return [complete(apply_changes(base, changes, problems), stem, None)]
    if not isinstance(tasks.value, dict) or not tasks.value:
        problems.append(Problem("expected a section with at least one named task", "tasks", tasks.place))
        return []
    expanded = []
    for task, overlay in tasks.value.items():
        if wrong := _wrong_task(task, overlay):
            problems.append(Problem(wrong, f"tasks.{task}", overlay.place))
            continue
        node = merge(base, replace(overlay, value=overlay.value or {}, location=overlay.place))
        expanded.append(
            complete(apply_changes(replace(node, key=overlay.key), changes, problems), stem, task)
        )
    return expanded


def _wrong_task(task: str, overlay: Node) -> str:
    """Return what is wrong with a task, or nothing."""
    if not isinstance(overlay.value, dict | None) or "/" in task:
        return "expected the settings of a task, under a name without slashes"
    try:
        folder_name(task)
    except ValueError as error:
        return str(error)
    return ""


def complete(node: Node, stem: str, task: str | None) -> Node:
    """Return a document with name, output folder (each task has its own), sampler and executor filled in."""
    sections = dict(node.value)
    end = f"/{task}" if task else ""
    given = {key: sections.get(key) or Node(None) for key in ("name", "output")}
    given = {
        key: replace(node, value=node.value + end) if isinstance(node.value, str) else node
        for key, node in given.items()
    }
    name = Node(stem + end) if given["name"].value is None else given["name"]
    place = name.location or node.place
    output = Node(f"results/{name.value}", place) if given["output"].value is None else given["output"]
    if isinstance(output.value, str):
        # Not from the recipe's folder, as other paths: results belong where the user works.
        output = replace(output, value=RecipeText(output.value, Path.cwd()))
    sections |= {"name": name, "output": output}
    for key, use in (("sampler", "daps"), ("execution", "local")):
        section = sections.setdefault(key, Node({}, node.location))
        if isinstance(section.value, dict) and "use" not in section.value:
            named = {"use": Node(RecipeText(use, Path.cwd()), section.location), **section.value}
            sections[key] = replace(section, value=named)
    return replace(node, value=sections)


def read_recipe(node: Node, file: Path, registry: Registry, problems: list[Problem]) -> Recipe | None:
    """Return the recipe that a whole document stands for; None where anything is wrong, which is added to `problems`.

    Args:
        node: the document, with every key that is needed.
        file: where it is written.
        registry: where components are looked up.
        problems: what is wrong.
    """
    before = len(problems)
    registry = opened(node, registry, problems)
    if len(problems) > before:  # what it should have brought would be missed everywhere
        return None
    reader = SectionReader(registry)
    recipe = reader.model(
        replace(node, location=node.location or Location(shown(file), 1, 1)), Recipe, node.value, "", {}
    )
    problems += reader.problems
    if not isinstance(recipe, Recipe):
        return None
    for name in recipe.trackers:
        try:
            registry.tracker(name)
        except ComponentError as error:
            problems.append(Problem(str(error), "trackers", node.value["trackers"].place))
    recipe = recipe.model_copy(update={"plugins": with_used(recipe.plugins, recipe, registry)})
    recipe._source, recipe._registry = file, registry
    return recipe
