"""A results folder as the page tells of it: recipe, versions, numbers, and where the tensors of each image are."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daps_kit.errors import UserError
from daps_kit.reading import reading
from daps_kit.recipe import plain_yaml, to_yaml
from daps_kit.store import Key, Store, open_store

from .metrics_file import read_metrics

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["Result", "as_written", "read_environment", "read_values", "result_in"]

_OF_THE_MACHINE = ("batch_size", "device", "execution", "store", "check_prior", "trackers", "output")
"""Settings that change no result, and so are not in the recipe that is shown."""


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: where it lies.
        recipe: the resolved recipe.
        provided: which distributions its components came from, a line each.
        metrics: what metrics.json holds; what it says of images is read when it is asked for.
    """

    folder: Path
    recipe: dict[str, Any]
    provided: tuple[str, ...]
    metrics: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.metrics.get("name") or self.folder.name)

    @property
    def images(self) -> Mapping[str, dict[str, Any]]:
        """What metrics.json says of each image, by its name."""
        images: Mapping[str, dict[str, Any]] = self.metrics["images"]
        return images

    @property
    def runs(self) -> int:
        """How many samples there are of each image."""
        return int(self.recipe["runs"])

    @property
    def recipe_text(self) -> str:
        """The recipe as it runs again, without what changes no result: so copied, it gets an output of its own."""
        kept = {key: value for key, value in self.recipe.items() if key not in _OF_THE_MACHINE}
        return to_yaml(kept)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What environment.json holds; empty where it cannot be read."""
        return read_environment(self.folder)

    # --- tensors

    def truth(self, name: str) -> Tensor | None:
        """Return the true image [C, H, W] where it is known."""
        return self._tensors(Key("measurement", name)).get("truth")

    def measured(self, name: str) -> Tensor | None:
        """Return the measurement."""
        return self._tensors(Key("measurement", name)).get("y")

    def samples(self, name: str) -> list[Tensor | None]:
        """Return the samples [C, H, W] of an image; None for one that was lost."""
        alive = {record["run"] for record in self.images[name]["samples"]}
        found = [self._tensors(Key("sample", name, run)) for run in range(self.runs)]
        return [tensors.get("x0") if run in alive else None for run, tensors in enumerate(found)]

    def posterior(self, name: str) -> dict[str, Tensor]:
        """Return mean, std and quantiles [C, H, W]; empty where there is one sample."""
        return self._tensors(Key("posterior", name))

    def trajectory(self, name: str, run: int) -> dict[str, Tensor]:
        """Return sigma [L] and x_t, x0hat, x0y [L, C, H, W] of a sample; empty where none was kept."""
        return self._tensors(Key("trajectory", name, run))

    def picture(self, name: str) -> Image.Image | None:
        """Return the measurement as a picture; None where there is none."""
        from PIL import Image

        if found := self._tensors(Key("picture", name)):
            levels = found["picture"].numpy()
            return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
        path = self.folder / "measurement" / f"{name}.png"
        if not path.exists():
            return None
        with reading(path), Image.open(path) as picture:
            picture.load()
            return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")

    @cached_property
    def store(self) -> Store:
        """The records of measurements and samples."""
        return open_store(self.folder)

    def _tensors(self, key: Key) -> dict[str, Tensor]:
        found = self.store.read(key)
        return found[0] if found else {}


def read_environment(folder: Path) -> dict[str, Any]:
    """Return what environment.json of a results folder holds; empty where there is nothing to be read."""
    try:
        found = read_values(folder / "environment.json")
    except UserError:
        return {}
    found = found if isinstance(found, dict) else {}
    for key in ("seconds", "drawn"):  # what is added to
        if key in found and not isinstance(found[key], int | float):
            del found[key]
    return found


def read_values(path: Path) -> Any:
    """Return what a .json or .yaml file of a results folder holds.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    return _parsed(path)[1]


def _parsed(path: Path) -> tuple[str, Any]:
    """Return the text of such a file and what it holds."""
    with reading(path):
        text = path.read_text(encoding="utf-8")
        try:
            return text, json.loads(text) if path.suffix == ".json" else plain_yaml(text, path)
        except (ValueError, RecursionError, UserError) as error:
            raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def as_written(*folders: Path) -> Iterator[None]:
    """Make one line of what comes of values that are not those that a run writes.

    Raises:
        UserError: something is missing in the files of results folders, or of another kind or size.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{', '.join(map(str, folders))}: recipe.yaml or metrics.json is not what daps-kit run writes ({error!r})"
        ) from error


def result_in(folder: Path) -> Result:
    """Return a finished run.

    Raises:
        UserError: the folder holds none, or its recipe or its metrics are damaged.
    """
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder} holds no finished run (no metrics.json); run its recipe again")
    text, recipe = _parsed(folder / "recipe.yaml")
    metrics = read_metrics(folder / "metrics.json")
    with as_written(folder):
        if not {"summary", "lost", "images"} <= metrics.keys() or not isinstance(recipe["runs"], int):
            raise ValueError("keys are missing")
    kinds = "prior|operator|noise|sampler|kernel"
    provided = re.findall(rf"^# ((?:{kinds}) \S+: .+)$", text, re.MULTILINE)
    return Result(folder, recipe, tuple(provided), metrics)
