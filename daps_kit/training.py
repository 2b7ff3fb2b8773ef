"""Training from a recipe, `daps-kit train`: the recipe holds a `trainer` in place of the sections of a run.

    format: 1
    trainer: {use: denoiser, images: photos/*.png}

Reading it, and what is told while it trains, is the host's; what is trained, and how, is the trainer's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from daps_kit.document import Node, compose, find, shown
from daps_kit.errors import Location, Problem, RecipeError, UserError
from daps_kit.files import write_atomic
from daps_kit.recipe import apply_changes, read_document, resolved_yaml
from daps_kit.registry import Registry, default_registry
from daps_kit.sections import SectionReader
from daps_kit.settings import Settings, TrainerSettings, resolve_path
from daps_kit.trainer import TrainingProgress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["TrainingRecipe", "is_training", "load_training", "train"]

RECIPE = "recipe.yaml"
"""The resolved recipe, in the output folder."""


class TrainingRecipe(Settings):
    """Everything a training needs to know."""

    format: Literal[1] = Field(description="version of the format of recipes")
    name: str = Field(description="name of the training; the file's name where not given")
    trainer: TrainerSettings = Field(description="what is trained, on what, and how")


def is_training(recipe: str | Path) -> bool:
    """Return whether a recipe that can be read has a `trainer`."""
    found = find(recipe, Path.cwd())
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
    reader = SectionReader(registry or default_registry())
    settings = reader.model(root, TrainingRecipe, root.value, "", {})
    if problems + reader.problems:
        raise RecipeError(problems + reader.problems)
    assert isinstance(settings, TrainingRecipe)
    return settings


def _complete(root: Node, stem: str) -> Node:
    """Fill in the name and the output folder, which starts from where the user works, not from the recipe."""
    sections = dict(root.value)
    name = sections.setdefault("name", Node(stem)).value
    trainer = sections["trainer"]
    if isinstance(trainer.value, dict):
        given = trainer.value.get("output", Node(f"training/{name}"))
        if isinstance(given.value, str):
            given = replace(given, value=resolve_path(str(given.value)))
        sections["trainer"] = replace(trainer, value={**trainer.value, "output": given})
    return replace(root, value=sections)


def train(
    recipe: str | Path | TrainingRecipe,
    overrides: Iterable[str] = (),
    *,
    quiet: bool = False,
    console: Console | None = None,
) -> Path:
    """Train as a recipe says and return the file of weights; a training that was broken off goes on.

    Raises:
        RecipeError: the recipe is wrong.
        UserError: something the user can put right; the last checkpoint is intact.
        KeyboardInterrupt: broken off by the user, who has been told how to go on.
    """
    if not isinstance(recipe, TrainingRecipe):
        recipe = load_training(recipe, overrides)
    elif list(overrides):
        raise UserError("overrides change the text of a recipe; give its file, not a recipe that was read")
    from rich.console import Console

    folder = recipe.trainer.output
    console = console or Console(stderr=True, soft_wrap=True, highlight=False, quiet=quiet)
    trainer = recipe.trainer.build()
    write_atomic(folder / RECIPE, resolved_yaml(recipe, command="train").encode())
    with Report(recipe.name, console) as report:
        try:
            weights = trainer.run(report)
        except KeyboardInterrupt:
            report.stop()
            report.say(
                f"stopped at {report.images:,} images; the same command goes on from the last checkpoint in {folder}"
            )
            raise
    report.say(f"weights: {weights}")
    return weights


class Report:
    """Shows how far a training is: a bar on a terminal, a line now and then elsewhere, and a table each epoch.

    Args:
        name: of the training.
        console: where to write.
        clock: returns seconds.
    """

    def __init__(self, name: str, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.name, self.console, self.clock = name, console, clock
        self.images = 0
        self._shown, self._interval = -float("inf"), 5.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task(name, total=None, text="starting")

    def __enter__(self) -> Report:
        if self.console.is_terminal and not self.console.quiet:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar.live.is_started:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(text, markup=False)

    def __call__(self, progress: TrainingProgress) -> None:
        """Tell how far the training is."""
        self.images = progress.images
        text = _line(progress)
        self._bar.update(self._task, total=progress.of, completed=progress.images, text=text)
        now = self.clock()
        due = not self.console.is_terminal and now - self._shown >= self._interval
        if progress.measured or due:
            self._shown, self._interval = now, min(60.0, 1.5 * self._interval)
            self.say(f"{self.name}: {text}")
        for line in _table(progress.measured or {}):
            self.say(line)


def _line(progress: TrainingProgress) -> str:
    seconds = (progress.of - progress.images) / max(progress.images_per_second, 1e-9)
    hours, minutes = divmod(round(seconds / 60), 60)
    left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return (
        f"{progress.images:,} of {progress.of:,} images  loss {progress.loss:.4f}  "
        f"rate {progress.learning_rate:.2g}  {progress.images_per_second:.0f} images/s  {left} left"
    )


def _table(rows: dict[str, dict[str, float]]) -> list[str]:
    """Return rows of numbers under a head of all their columns; what a row has no number for is left blank."""
    if not rows:
        return []
    head = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [["", *head]]
    cells += [[name, *(f"{row[c]:.3g}" if c in row else "" for c in head)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    return [
        "  " + "  ".join([row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], others, strict=True))])
        for row in cells
    ]
