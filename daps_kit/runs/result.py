"""What `daps_kit.run` and `daps_kit.open` return: a finished run, to be looked at from Python."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit.errors import UserError, did_you_mean
from daps_kit.paths import resolve_path
from daps_kit.reading import content_of
from daps_kit.remote import fetch
from daps_kit.report.metrics_file import read_metrics
from daps_kit.report.reading import as_written, read_values
from daps_kit.report.summary import outcome

from .claim import RECIPE
from .cost import mean_cost
from .folder import RunFolder, averages
from .posterior import SAVED, Posterior

__all__ = ["RunResult", "open"]


@dataclass(frozen=True)
class RunResult:
    """A finished run, read from its folder when asked.

    Attributes:
        path: the folder of the run.
        names: the items, in the order of the recipe.
        runs: samples of each.
        tasks: for a recipe with `tasks`, the result of each in their order, and for a sweep that of each point; `names`
            is then empty.
    """

    path: Path
    names: tuple[str, ...] = ()
    runs: int = 0
    tasks: tuple[RunResult, ...] = ()

    @property
    def grid(self) -> Path:
        """The picture that shows everything."""
        return self._folder.grid

    @cached_property
    def samples(self) -> Tensor:
        """Samples of the posterior, [items, runs, C, H, W]; NaN where a sample was lost.

        Raises:
            UserError: the items have images of different sizes (use `sample`), or the result is that of tasks.
        """
        return self._stack([torch.stack(self._images(name)) for name in self.names])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Posterior]:
        return (self[name] for name in self.names)

    def __getitem__(self, item: str | int) -> Posterior:
        """Return the samples of an item, by its name or number, read from the folder.

        Raises:
            UserError: there is no such item, or a file is gone.
        """
        if self.tasks:
            raise UserError("this recipe has tasks: look at the result of each, such as result.tasks[0]")
        if isinstance(item, str) and item not in self.names:
            hint = did_you_mean(item, self.names)
            raise UserError(f"no image '{item}'; there are {', '.join(self.names[:10])}{hint}")
        name = item if isinstance(item, str) else self.names[item]
        kept = self._folder.samples(name, self.runs)
        y, truth = self._folder.measured(name)
        means = averages(kept)
        costs = [(sample.cost, 1) for sample in kept if sample.cost is not None]
        return Posterior(
            torch.stack([sample.x0 for sample in kept])[None],
            y[None],
            residuals=lambda: self._residuals(name)[None],
            pictures=lambda: self._folder.picture(name)[None],
            failures={(0, run): sample.failure for run, sample in enumerate(kept) if sample.failure},
            truth=None if truth is None else truth[None],
            names=[name],
            cost=mean_cost(costs) if costs else None,
            single=True,
            traces=[dict(sample.parameters) for sample in kept],
            averages=None if means is None else means[None],
            periods=self._periods(name) if any(sample.parameters for sample in kept) else None,
        )

    def _periods(self, name: str) -> dict[str, float]:
        """Return the periods of those unknown numbers of an item that have one."""
        with as_written(self.path):
            if (self.path / SAVED).is_file():
                return dict(read_values(self.path / SAVED).get("periods", {}))
            told = self._numbers[name].get("parameters", {})
            return {key: each["period"] for key, each in told.items() if each.get("period")}

    def _residuals(self, name: str) -> Tensor:
        """Return the residuals of the samples of an item as they were written, [runs]; NaN where one was lost."""
        found = torch.full((self.runs,), torch.nan)
        with as_written(self.path):
            if (self.path / SAVED).is_file():
                rows = json.loads(content_of(self.path / SAVED))["residuals"]
                row = rows[self.names.index(name)]
                return torch.tensor([torch.nan if value is None else value for value in row])
            for record in self._numbers[name]["samples"]:
                found[record["run"]] = record["residual"]
        return found

    def __repr__(self) -> str:
        if self.tasks:
            return f"<RunResult of {len(self.tasks)} tasks in {self.path}>"
        return f"<RunResult of {len(self.names)} images, {self.runs} samples each, in {self.path}>"

    def _repr_html_(self) -> str:
        """Return the picture of the run and its numbers, for a notebook."""
        data = base64.b64encode(self.grid.read_bytes()).decode() if self.grid.is_file() else ""
        lines = [f"{task.path.name}: {outcome(task.metrics)}" for task in self.tasks]
        if not self.tasks and (self.path / "metrics.json").is_file():
            lines = [outcome(self.metrics)]
        said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        return (
            f"<div><p>{html.escape(repr(self)[1:-1])}</p>{said}"
            f'<img style="max-width:100%" alt="measurements, samples, means and standard deviations" '
            f'src="data:image/png;base64,{data}"></div>'
        )

    def sample(self, name: str, run: int | None = None) -> Tensor:
        """Return a sample of an item, [C, H, W]: the reported one, or that of a run."""
        reported: int = (self._numbers[name]["reported"] or {"run": 0})["run"] if run is None else run
        return self._images(name)[reported]

    @cached_property
    def measurement(self) -> Tensor:
        """The measurements, [items, ...]; raises as `samples` does."""
        return self._stack([self._folder.measured(name)[0] for name in self.names])

    @cached_property
    def truth(self) -> Tensor | None:
        """The true images, [items, C, H, W], None where they are not known; raises as `samples` does."""
        known = [self._folder.measured(name)[1] for name in self.names]
        images = [truth for truth in known if truth is not None]
        return self._stack(images) if len(images) == len(known) else None

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; for tasks, that of each by its folder's name."""
        if self.tasks:
            return {task.path.name: task.metrics for task in self.tasks}
        content: dict[str, Any] = read_values(self.path / "metrics.json")
        return content

    @cached_property
    def _numbers(self) -> Mapping[str, Any]:
        """What metrics.json says of each image."""
        images: Mapping[str, Any] = read_metrics(self.path / "metrics.json")["images"]
        return images

    @cached_property
    def _folder(self) -> RunFolder:
        return RunFolder(self.path)

    def _images(self, name: str) -> list[Tensor]:
        return [sample.x0 for sample in self._folder.samples(name, self.runs)]

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        if self.tasks:
            raise UserError("this recipe has tasks: look at the result of each, such as result.tasks[0]")
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        if len(shapes) > 1:
            raise UserError(
                f"the items have different shapes ({', '.join(map(str, shapes))}); take them one by one"
            )
        return torch.stack(tensors)


def open(folder: str | Path) -> RunResult:
    """Return a finished run, or what `Posterior.save` wrote, from its folder.

    Args:
        folder: of the results of a recipe; of one with tasks, the folder that holds those of each.

    Raises:
        UserError: there is no such folder, it holds no results, or the run is not finished.
    """
    try:
        path = resolve_path(folder)
    except ValueError as error:
        raise UserError(str(error)) from error
    fetch(path)
    if not path.is_dir():
        raise UserError(f"no such folder of results: {folder}")
    if (path / SAVED).is_file():
        saved = read_values(path / SAVED)
        with as_written(path):
            return RunResult(path, tuple(saved["names"]), int(saved["runs"]))
    if not (path / RECIPE).is_file():
        below = [each for each in sorted(path.iterdir()) if each.is_dir() and any(each.rglob(RECIPE))]
        tasks = [open(each) for each in below]
        if not tasks:
            raise UserError(f"{folder} holds no results: no {RECIPE} in it or below")
        return RunResult(path, tasks=tuple(tasks))
    if not (path / "metrics.json").is_file():
        raise UserError(f"{folder}: the run is not finished (no metrics.json); run its recipe again")
    metrics, recipe = read_metrics(path / "metrics.json"), read_values(path / RECIPE)
    with as_written(path):
        return RunResult(path, tuple(metrics["images"]), int(recipe["runs"]))
