"""A recipe that stands for many runs: every combination of some values, random ones, or those that a search asks for.

    sweep: {sampler.budget: [fast, balanced, 200], seed: [1, 2, 3]}
    sweep: {use: random, count: 20, widen: [1, 1.5], operator.noise.sigma: {low: 0.01, high: 0.5, log: true}}
    search: {objective: posterior_mean.psnr, direction: maximize, trials: 30, ranges: {widen: {low: 0.5, high: 2.0}}}

What is varied is a setting by its path, as in an override, or a section of them. Each combination is a point: a recipe
as it would be with these overrides, in a folder of its own, named by its values.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from daps_kit.errors import Location, Problem, RecipeError, did_you_mean
from daps_kit.files import unique_names
from daps_kit.paths import RecipeText
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import Settings

from .document import Node, read_yaml
from .layers import apply_changes
from .load import Recipe, complete, expand, read_document
from .sections import SectionReader
from .wording import as_written

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Axis", "Point", "Range", "Search", "SearchSettings", "Sweep", "load_sweep"]

MOST = 10_000
"""Points of a sweep."""

Changes = list[tuple[list[str], Node]]


class Range(Settings):
    """Numbers from `low` to `high`; whole ones where both are."""

    low: int | float = Field(description="the least")
    high: int | float = Field(description="the largest")
    log: bool = Field(False, description="whether the logarithm is what is spread evenly")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low, {self.low}, has to be less than high, {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"the logarithm needs numbers above 0, low is {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> int | float:
        """Return the number at a share, in [0, 1), of the way from `low` to `high`."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        way = math.exp(share * math.log(high / low)) if self.log else share
        found = low * way if self.log else low + way * (high - low)
        return min(max(round(found), int(self.low)), int(self.high)) if self.whole else float(f"{found:.6g}")


class SearchSettings(Settings):
    """A search by Optuna for the settings that are best, which needs the extra `tune`."""

    objective: str = Field(
        description="what is to be best: a metric in the summary of metrics.json, such as posterior_mean.psnr"
    )
    direction: Literal["maximize", "minimize"] = Field(description="whether more of it is better, or less")
    trials: int = Field(ge=1, le=MOST, description="how many points to try")
    ranges: dict[str, Any] = Field(
        description="what is varied: settings by their paths, each with a list of values or a range {low, high, log}"
    )


@dataclass(frozen=True)
class Axis:
    """A setting that is varied.

    Attributes:
        key: its path.
        place: where that is written.
        values: what it may be, by label; empty where it is a number of the `range`.
        range: of numbers.
    """

    key: str
    place: Location | None
    values: dict[str, Node] = field(default_factory=dict)
    range: Range | None = None

    def change(self, value: Any) -> tuple[list[str], Node]:
        """Return the override that sets a number of the range, or the value of a label."""
        node = self.values[value] if self.range is None else Node(value, self.place)
        return self.key.split("."), replace(node, location=node.location or self.place, key=self.place)


@dataclass(frozen=True)
class Point:
    """One combination.

    Attributes:
        label: names it, and its folder.
        values: of the settings that are varied, as text or numbers.
        recipes: what is run; several where the recipe has tasks.
    """

    label: str
    values: dict[str, Any]
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True)
class Sweep:
    """Points that are known from the beginning.

    Attributes:
        name: of the sweep.
        output: folder of the points' folders.
        points: in their order.
    """

    name: str
    output: Path
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Search:
    """Points of which each is chosen by what those before gave.

    Attributes:
        name: of the search.
        output: folder of the points' folders.
        seed: of what is random in it.
        settings: objective, direction and number of points.
        place: where the objective is written.
        axes: what is varied.
    """

    name: str
    output: Path
    seed: int
    settings: SearchSettings
    place: Location | None
    axes: tuple[Axis, ...]
    _draft: _Draft

    def at(self, label: str, values: Mapping[str, Any]) -> Point:
        """Return a point.

        Raises:
            RecipeError: the recipe is wrong there.
        """
        found = self._draft.points([(label, dict(values))], self.axes)
        self._draft.require()
        return found[0]

    def ends(self) -> tuple[Point, ...]:
        """Return points that have every value of every list and both ends of every range."""
        first: dict[str, Any] = {}
        several: list[dict[str, Any]] = []
        for axis in self.axes:
            known = list(axis.values) if axis.range is None else [axis.range.low, axis.range.high]
            first[axis.key] = known[0]
            several += [{axis.key: value} for value in known]
        chosen = {_label(first | own): first | own for own in several}
        found = self._draft.points(list(chosen.items()), self.axes)
        self._draft.require()
        return tuple(found)


def load_sweep(
    recipe: str | Path,
    overrides: Iterable[str] = (),
    *,
    multirun: bool = False,
    registry: Registry | None = None,
) -> Sweep | Search | None:
    """Read a recipe that stands for many runs; None where it stands for itself.

    Args:
        recipe: a file, or the name of an installed recipe.
        overrides: settings as `a.b.c=value`, which win over the file; a setting that they give is not varied.
        multirun: whether an override `a.b.c=1,2,3` varies the setting.
        registry: where components are looked up; the installed plugins by default.

    Raises:
        RecipeError: everything that is wrong with any of its points.
    """
    problems: list[Problem] = []
    own: list[Axis] = []
    plain: list[str] = []
    for text in overrides:
        axis = _axis_of(text, problems) if multirun else None
        if axis is None:
            plain.append(text)
        else:
            own.append(axis)
    found, root, changes = read_document(recipe, plain, problems)
    about = [change for change in changes if change[0][0] in ("sweep", "search")]
    root = apply_changes(root, about, problems)
    changes = [change for change in changes if change not in about]
    sections = dict(root.value)
    sweep, search = sections.pop("sweep", None), sections.pop("search", None)
    if sweep is None and search is None and not own and not problems:
        return None
    draft = _Draft(found, replace(root, value=sections), changes, registry or default_registry(), problems)
    fixed = [".".join(keys) for keys, _ in changes]
    if search is not None:
        if sweep is not None or own:
            message = "a recipe has a sweep or a search, not both"
            problems.append(Problem(message, "search", search.place))
        return draft.search(search, fixed)
    return draft.sweep(sweep, own, fixed)


class _Draft:
    """A recipe of which the varied settings are still open."""

    def __init__(
        self, file: Path, root: Node, changes: Changes, registry: Registry, problems: list[Problem]
    ) -> None:
        self.file, self.root, self.changes = file, root, changes
        self.registry, self.problems = registry, problems
        whole = complete(apply_changes(root, [c for c in changes if c[0][0] != "tasks"], []), file.stem, None)
        self.name, output = (str(whole.value[key].value) for key in ("name", "output"))
        self.output = Path(output).expanduser().absolute()
        seed = whole.value.get("seed", Node(0)).value
        self.seed = seed if isinstance(seed, int) else 0

    def require(self) -> None:
        """Raise what is wrong, if anything is."""
        if self.problems:
            raise RecipeError(self.problems)

    def points(self, chosen: Sequence[tuple[str, dict[str, Any]]], axes: Sequence[Axis]) -> list[Point]:
        """Return the points with these labels and values."""
        by_key = {axis.key: axis for axis in axes}
        found = []
        for label, values in chosen:
            own = [by_key[key].change(value) for key, value in values.items()]
            output = Node(RecipeText(str(self.output / label), Path.cwd()))
            named = Node(RecipeText(f"{self.name}/{label}", Path.cwd()))
            changes = [*self.changes, *own, (["output"], output), (["name"], named)]
            recipes = expand(self.file, self.root, changes, self.registry, self.problems)
            found.append(Point(label, values, tuple(each for each in recipes if each is not None)))
        return found

    # --- sweeps

    def sweep(self, node: Node | None, own: Sequence[Axis], fixed: Sequence[str]) -> Sweep | None:
        """Return the points of a sweep."""
        use, count = "grid", None
        sections: dict[str, Node] = {}
        if node is not None:
            if not isinstance(node.value, dict):
                self._fail(
                    f"expected settings with lists of values, got {as_written(node.plain())}", "sweep", node
                )
            else:
                sections = dict(node.value)
            use, count = self._kind(sections, node)
        axes = self._axes(sections, "sweep", ranges=use == "random")
        axes = [*(axis for axis in axes if axis.key not in {each.key for each in own}), *own]
        axes = [axis for axis in axes if axis.key not in fixed]
        self.require()
        if not axes and not fixed:
            self._fail("expected at least one setting with a list of values", "sweep", node or self.root)
        self.require()
        if not axes:
            return None
        chosen = list(self._random(axes, count) if count is not None else self._grid(axes))
        labels = unique_names(map(_label, chosen))
        points = self.points(list(zip(labels, chosen, strict=True)), axes)
        self.require()
        return Sweep(self.name, self.output, tuple(points))

    def _kind(self, sections: dict[str, Node], node: Node) -> tuple[str, int | None]:
        """Take `use` and `count` out of a sweep and return them."""
        use, count = sections.pop("use", Node("grid")), sections.pop("count", None)
        if use.value not in ("grid", "random"):
            hint = did_you_mean(str(use.value), ("grid", "random"))
            self._fail(f"expected grid or random, got {as_written(use.plain())}{hint}", "sweep.use", use)
        elif use.value == "random":
            if count is None:
                self._fail("is missing: how many points to draw", "sweep.count", use)
            elif type(count.value) is not int or not 1 <= count.value <= MOST:
                given = as_written(count.plain())
                self._fail(f"expected a whole number from 1 to {MOST}, got {given}", "sweep.count", count)
            else:
                return "random", count.value
        elif count is not None:
            self._fail("a grid has no count; {use: random, count: N} has", "sweep.count", count)
        return str(use.value), None

    def _grid(self, axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
        if (size := math.prod(len(axis.values) for axis in axes)) > MOST:
            self._fail(f"{size} points; at most {MOST} are run", "sweep", self.root)
            self.require()
        for values in itertools.product(*(axis.values for axis in axes)):
            yield dict(zip((axis.key for axis in axes), values, strict=True))

    def _random(self, axes: Sequence[Axis], count: int) -> Iterator[dict[str, Any]]:
        """Yield so many points, each once, or all that there are; more of them begin with the same."""
        seen: set[tuple[Any, ...]] = set()
        for place in range(100 * count):
            draw = random.Random(f"{self.seed}, point {place}")
            values = tuple(
                draw.choice(list(axis.values)) if axis.range is None else axis.range.at(draw.random())
                for axis in axes
            )
            if values not in seen:
                seen.add(values)
                yield dict(zip((axis.key for axis in axes), values, strict=True))
            if len(seen) == count:
                return

    # --- searches

    def search(self, node: Node, fixed: Sequence[str]) -> Search:
        """Return a search."""
        if not isinstance(node.value, dict):
            self._fail(f"expected a section of settings, got {as_written(node.plain())}", "search", node)
            self.require()
        reader = SectionReader(self.registry)
        settings = reader.model(node, SearchSettings, node.value, "search", {})
        self.problems += reader.problems
        ranges = node.value.get("ranges")
        axes: list[Axis] = []
        if ranges is not None and isinstance(ranges.value, dict):
            axes = [axis for axis in self._axes(ranges.value, "search.ranges", True) if axis.key not in fixed]
            if not axes:
                self._fail("expected at least one setting that is varied", "search.ranges", ranges)
        self.require()
        assert isinstance(settings, SearchSettings)
        place = node.value["objective"].location
        return Search(self.name, self.output, self.seed, settings, place, tuple(axes), self)

    # --- both

    def _axes(self, sections: Mapping[str, Node], path: str, ranges: bool, prefix: str = "") -> list[Axis]:
        """Return what is varied in some sections."""
        axes = []
        for key, node in sections.items():
            whole, at = f"{prefix}{key}", f"{path}.{key}"
            if isinstance(node.value, list) and node.value:
                axes.append(_values(whole, node.place, node.value))
            elif isinstance(node.value, dict) and {"low", "high"} & node.value.keys():
                reader = SectionReader(self.registry)
                found = reader.model(node, Range, node.value, at, {})
                self.problems += reader.problems
                if not ranges:
                    self._fail("a grid takes lists of values; {use: random, count: N} takes ranges", at, node)
                elif isinstance(found, Range):
                    axes.append(Axis(whole, node.place, range=found))
            elif isinstance(node.value, dict) and node.value:
                axes += self._axes(node.value, at, ranges, f"{whole}.")
            else:
                what = "a list of values, such as [1, 2]" + (", or a range {low, high}" if ranges else "")
                self._fail(f"expected {what}, got {as_written(node.plain())}", at, node)
        return axes

    def _fail(self, message: str, path: str, node: Node) -> None:
        self.problems.append(Problem(message, path, node.location or node.place))


def _values(key: str, place: Location | None, nodes: Sequence[Node]) -> Axis:
    """Return an axis of values, each once."""
    different = {repr(node.plain()): node for node in nodes}
    labels = unique_names(map(_word, different.values()))
    return Axis(key, place, dict(zip(labels, different.values(), strict=True)))


def _word(node: Node) -> str:
    """Return a value in a word."""
    value = node.plain()
    if isinstance(value, dict):
        words = [_word(item) if key == "use" else f"{key}={_word(item)}" for key, item in node.value.items()]
        return " ".join(words)
    if isinstance(value, list):
        return " ".join(map(_word, node.value))
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value).rpartition("/")[2] if isinstance(value, str) else str(value)


def _label(values: Mapping[str, Any]) -> str:
    """Return the label of a point: `budget=fast,seed=1`, by the ends of paths where these tell them apart."""
    ends = [key.rpartition(".")[2] for key in values]
    named = ends if len(set(ends)) == len(ends) else list(values)
    return ",".join(f"{key}={value}" for key, value in zip(named, values.values(), strict=True))


def _axis_of(text: str, problems: list[Problem]) -> Axis | None:
    """Return what an override with commas, outside of brackets and quotes, varies; None where it has none."""
    path, equals, value = text.partition("=")
    parts = re.findall(r"""((?:"[^"]*"|'[^']*'|\[[^\]]*\]|\{[^}]*\}|[^,])+)""", value)
    if not equals or len(parts) < 2:
        return None
    place = Location(f"override '{text if len(text) <= 100 else f'{text[:97]}...'}'")
    nodes = [read_yaml(part.strip(), place.file, Path.cwd(), problems, lines=False) for part in parts]
    return _values(path.strip(), place, [replace(n or Node(None), location=place) for n in nodes])
