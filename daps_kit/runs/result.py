"""What `daps_kit.run` returns: a finished run, to be looked at from Python."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit.errors import UserError

from .folder import RunFolder

__all__ = ["RunResult"]


@dataclass(frozen=True)
class RunResult:
    """A finished run, read from its folder when asked.

    Attributes:
        path: the folder of the run.
        names: the items, in the order of the recipe.
        runs: samples of each.
        tasks: for a recipe with `tasks`, the result of each in their order; `names` is then empty.
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

    def sample(self, name: str, run: int | None = None) -> Tensor:
        """Return a sample of an item, [C, H, W]: the reported one, or that of a run."""
        reported: int = (
            (self.metrics["images"][name]["reported"] or {"run": 0})["run"] if run is None else run
        )
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
        content: dict[str, Any] = json.loads((self.path / "metrics.json").read_text(encoding="utf-8"))
        return content

    @property
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
