"""Folders of parts of a run, joined into one, which is then finished as if it had been one run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.paths import unwritable
from daps_kit.recipe import load_recipe, resolved_yaml
from daps_kit.store import Key

from .folder import RunFolder
from .progress import RunDisplay
from .result import RunResult
from .runner import run

__all__ = ["merge"]

BOUND = 1e-3
"""How far samples that were drawn twice may be apart: on other machines, or in other batches."""

WANTED = ("measurement", "operator", "sample", "trajectory")
"""Records that are brought; all else is made of them."""


def merge(folders: Sequence[Path], into: Path, *, quiet: bool = False) -> RunResult:
    """Bring what folders of the same run hold into one, and finish it where nothing is missing.

    Args:
        folders: of parts of a run, made by one recipe.
        into: a new folder, or one of this run.
        quiet: show no progress and no warnings.

    Raises:
        UserError: a folder is of another run or at work, two contradict each other (then nothing is brought), or
            samples are missing (then the others are there).
    """
    for folder in folders:
        if not (folder / "recipe.yaml").is_file():
            raise UserError(f"{folder} holds no run: there is no recipe.yaml in it")
    changes = [f"output={_quoted(into)}"]
    (recipe,) = load_recipe(folders[0] / "recipe.yaml", changes)
    with contextlib.ExitStack() as stack:
        target = RunFolder(recipe.output, recipe.store)
        stack.enter_context(target.claim(resolved_yaml(recipe)))
        sources = []
        for path in folders:
            if path.resolve() == recipe.output.resolve():
                continue
            source = RunFolder(path)
            (own,) = load_recipe(path / "recipe.yaml", [f"output={_quoted(path)}"])
            stack.enter_context(source.claim(resolved_yaml(own)))
            target.require_same(resolved_yaml(own))
            sources.append(source)
        # Nothing is written before everything was compared.
        wanted = list(_wanted(sources, target))
        target.begin(
            list(dict.fromkeys(key.name for _, key in wanted if key.kind != "operator")), recipe.runs
        )
        for source, key in wanted:
            if record := source.store.read(key):
                target.store.write(key, *record)
        target.store.finish()
        _join_environments([source for source in sources if source in {each for each, _ in wanted}], target)
    return run(
        target.path / "recipe.yaml", changes, quiet=quiet, progress=RunDisplay(quiet=quiet), draw=False
    )


def _quoted(path: Path) -> str:
    if problem := unwritable(path):
        raise UserError(problem)
    return json.dumps(str(path.absolute()))


def _wanted(sources: Sequence[RunFolder], target: RunFolder) -> Iterator[tuple[RunFolder, Key]]:
    """Yield what is to be brought: of each record the first that is whole, unless it is there.

    Raises:
        UserError: two are not the same.
    """
    first: dict[Key, RunFolder] = {}
    for folder in (target, *sources):
        for key in folder.store.keys():  # noqa: SIM118 (not a mapping)
            if (
                key.kind not in WANTED
                or (here := folder.read_if_whole(key)) is None
                or _given_up(folder, key)
            ):
                continue
            if key in first:
                _require_same(first[key], folder, key, here[0])
            else:
                first[key] = folder
    return ((folder, key) for key, folder in first.items() if folder is not target)


def _given_up(folder: RunFolder, key: Key) -> bool:
    """Whether a sample has none, because those who computed it failed."""
    if key.kind != "sample" or key.run is None:
        return False
    sample = folder.read_sample(key.name, key.run)
    return sample is None or (sample.failure is not None and sample.failure.cause == "worker")


def _require_same(one: RunFolder, other: RunFolder, key: Key, there: dict[str, Tensor]) -> None:
    here, _ = one.read_if_whole(key) or ({}, {})
    same = here.keys() == there.keys() and all(
        here[name].shape == there[name].shape
        and torch.allclose(here[name], there[name], rtol=0, atol=BOUND, equal_nan=True)
        for name in here
    )
    if not same:
        paths = " and ".join(str(folder.store.where(key)) for folder in (one, other))
        raise UserError(f"{paths} contradict each other; one of them is of another run")


def _join_environments(sources: Sequence[RunFolder], target: RunFolder) -> None:
    """Write with what the parts that something was brought from were computed, and how long all took together."""
    found = [each for folder in (target, *sources) if (each := folder.read_environment())]
    total = {key: sum(each.get(key, 0) for each in found) for key in ("seconds", "drawn")}
    if found:
        target.write_json("environment.json", found[0] | total)
