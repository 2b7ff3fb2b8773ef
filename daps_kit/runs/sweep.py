"""Many runs of one recipe: each point of a sweep or a search in a folder of its own, and what they gave side by side.

    NAME/LABEL/            the run of a point                 NAME/study.log      what Optuna knows of a search
    NAME/sweep.md, .csv    the points and their numbers       NAME/report.html    the page that compares them

A point is a run: what is finished is kept, and the same command goes on where it was broken off.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daps_kit.errors import (
    ComponentError,
    LostError,
    Problem,
    RecipeError,
    RefusalError,
    UserError,
    did_you_mean,
)
from daps_kit.random import stream_seed
from daps_kit.reading import reading
from daps_kit.recipe import Recipe, resolved_yaml
from daps_kit.recipe.sweep import Axis, Point, Search, Sweep, load_sweep
from daps_kit.report.page import write_side_by_side
from daps_kit.report.summary import CHOICES, HEADINGS, with_error
from daps_kit.tables import markdown_table

from . import runner
from .claim import RECIPE
from .folder import RunFolder
from .progress import RunDisplay
from .result import RunResult
from .result import open as open_result

if TYPE_CHECKING:
    import optuna

__all__ = ["require_objective", "run"]

SHOWN = 24
"""Runs on the page that compares them, at most."""

Found = tuple[Point, RunResult | None, str]
"""A point, its result, or why it has none."""


def run(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    multirun: bool = False,
    quiet: bool = False,
    progress: RunDisplay | None = None,
    shard: str | None = None,
) -> RunResult:
    """Run a recipe, or each point of its sweep or search; what is finished in its folder already is kept.

    Args:
        recipe: a file, the name of an installed recipe, or a recipe that was read.
        overrides: settings as `a.b.c=value`, which win over the file.
        multirun: whether `a.b.c=1,2,3` among them stands for a run with each of the values.
        quiet: show no progress and no warnings.
        progress: what shows them, of a program that runs several recipes.
        shard: a part such as `3/16`, which alone is drawn, into a folder of its own; nothing is made of the samples.

    Returns:
        The result of the run; of a sweep or a search one whose `tasks` are the results of its points.

    Raises:
        RecipeError: the recipe is wrong, at any of its points.
        UserError: something the user can put right; every file already written is whole and will be used again.
    """
    found = None if isinstance(recipe, Recipe) else load_sweep(recipe, overrides, multirun=multirun)
    if found is None:
        return runner.run(recipe, overrides, quiet=quiet, progress=progress, shard=shard)
    if shard is not None:
        raise UserError(
            "--shard: a sweep has no parts; give each machine a point (an override for each setting)"
        )
    _require_folder(found.output)
    with progress or RunDisplay(quiet=quiet) as display:
        done = _search(found, display) if isinstance(found, Search) else _sweep(found, display)
        results = [result for _, result, _ in done if result is not None]
        if not results:
            raise UserError(f"no point gave a result; {done[0][0].label}: {done[0][2]}")
        ordered = _best_first(done, found) if isinstance(found, Search) else done
        _write_tables(found.output, found.name, ordered)
        _write_page(found.output, found.name, ordered, display)
        if isinstance(found, Search):
            display.say(f"best: {ordered[0][0].label}")
        display.say(f"table: {found.output / 'sweep.md'}")
    return RunResult(found.output, tasks=tuple(results))


def _require_folder(path: Path) -> None:
    if (path / RECIPE).exists():
        raise UserError(f"output: {path} holds a run; choose another folder for the points of a sweep")


def _run(point: Point, display: RunDisplay) -> Found:
    """Run a point; that all is lost there, or that the sampler refuses, is a result like others."""
    try:
        if all(_finished(recipe) for recipe in point.recipes):
            done = [open_result(recipe.output) for recipe in point.recipes]
            return point, done[0] if len(done) == 1 else RunResult(done[0].path.parent, tasks=tuple(done)), ""
        return point, runner.run(point.recipes, progress=display), ""
    except (LostError, RefusalError, ComponentError) as error:
        display.warn(f"{point.label}: {error}")
        return point, None, str(error)


def _finished(recipe: Recipe) -> bool:
    """Return whether the folder of a recipe holds the finished run of exactly this one."""
    there = recipe.output / RECIPE
    if not (there.is_file() and (recipe.output / "metrics.json").is_file()):
        return False
    with reading(there):
        return there.read_text(encoding="utf-8") == resolved_yaml(recipe)


def _sweep(sweep: Sweep, display: RunDisplay) -> list[Found]:
    done = []
    for place, point in enumerate(sweep.points):
        display.point(place + 1, len(sweep.points), point.label)
        done.append(_run(point, display))
    return done


# --- a search


def _search(search: Search, display: RunDisplay) -> list[Found]:
    """Try points that Optuna asks for, until there are as many as wanted."""
    require_objective(search)
    done: list[Found] = []
    with _study(search) as study:
        distributions = {axis.key: _distribution(axis) for axis in search.axes}
        for number in range(search.settings.trials):
            # Of a trial that was broken off the storage knows what was to be tried.
            known = study.get_trials(deepcopy=False)[number : number + 1]
            if not known:
                study.sampler = _sampler(search.seed, number)
            params = known[0].params if known else study.ask(distributions).params
            point = search.at(f"trial-{number:03d}", params)
            told = ", ".join(f"{key}: {value}" for key, value in point.values.items())
            display.point(number + 1, search.settings.trials, told)
            done.append(_run(point, display))
            if not (known and known[0].state.is_finished()):
                _tell(study, number, done[-1][1], search.settings.objective)
    return done


def require_objective(search: Search) -> None:
    """See that metrics.json has what is to be best.

    Raises:
        RecipeError: it has not.
    """
    known = [f"{choice}.{key}" for choice in CHOICES for key in HEADINGS]
    if (objective := search.settings.objective) not in known:
        message = (
            f"no such metric: {objective}; one is {', '.join(CHOICES)}, a dot, and "
            f"{', '.join(HEADINGS)}{did_you_mean(objective, known)}"
        )
        raise RecipeError([Problem(message, "search.objective", search.place)])


@contextmanager
def _study(search: Search) -> Iterator[optuna.Study]:
    """Open what Optuna knows of a search."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise UserError("search needs optuna: pip install 'daps-kit[tune]'") from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        search.output.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(search.output / "study.log")))
        study = optuna.create_study(
            study_name="search", storage=storage, direction=search.settings.direction, load_if_exists=True
        )
        distributions = {axis.key: _distribution(axis) for axis in search.axes}
        asked = {"objective": search.settings.objective, **{k: repr(d) for k, d in distributions.items()}}
        if (
            study.user_attrs.get("asked", asked) != asked
            or study.direction.name.lower() != f"{search.settings.direction}"
        ):
            raise UserError(
                f"output: {search.output} holds another search; choose another folder or remove it"
            )
        study.set_user_attr("asked", asked)
        yield study
    except OSError as error:
        raise UserError(f"cannot use {search.output} as output: {error.strerror}") from error
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.range is None:
        return CategoricalDistribution(list(axis.values))
    low, high, log = axis.range.low, axis.range.high, axis.range.log
    return (
        IntDistribution(int(low), int(high), log) if axis.range.whole else FloatDistribution(low, high, log)
    )


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return what chooses a trial: the same after those before, whether or not the search was broken off."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=stream_seed(seed, "search", number) % 2**32)


def _tell(study: optuna.Study, number: int, result: RunResult | None, objective: str) -> None:
    """Tell Optuna what a trial gave; of a recipe with tasks the mean over them."""
    from optuna.trial import TrialState

    if result is None:
        study.tell(number, state=TrialState.FAIL)
        return
    found = [_value(each.metrics, objective) for each in result.tasks or (result,)]
    study.tell(number, math.fsum(found) / len(found))


def _value(metrics: dict[str, Any], objective: str) -> float:
    choice, _, key = objective.partition(".")
    value = (metrics["summary"].get(choice) or {}).get(key)
    if value is None:
        raise UserError(
            f"search.objective: these runs have no {objective}; where the truth is not known, few have"
        )
    return float(value["mean"])


# --- what they gave


def _runs(done: Sequence[Found]) -> list[tuple[Point, RunResult]]:
    """Return the runs that there are, those of a recipe with tasks each by itself."""
    return [(point, each) for point, result, _ in done if result for each in result.tasks or (result,)]


def _best_first(done: Sequence[Found], search: Search) -> list[Found]:
    sign = -1 if search.settings.direction == "maximize" else 1

    def place(found: Found) -> float:
        values = [_value(run.metrics, search.settings.objective) for _, run in _runs([found])]
        return sign * math.fsum(values) / len(values) if values else math.inf

    return sorted(done, key=place)


_COLUMNS = tuple(
    (choice, key)
    for choice, keys in {
        "posterior_mean": ("psnr", "ssim"),
        "sample_mean": ("psnr", "residual"),
        "ensemble": ("crps", "coverage", "spread_error"),
    }.items()
    for key in keys
)
_WORDS = {"posterior_mean": " of the mean", "sample_mean": " of a sample", "ensemble": ""}


def _write_tables(output: Path, name: str, done: Sequence[Found]) -> None:
    """Write sweep.md and sweep.csv: a row for each run, in the order of the points."""
    axes = list(done[0][0].values)
    several = any(result is not None and result.tasks for _, result, _ in done)
    rows = []
    for point, result in _runs(done):
        own = [str(point.values[key]) for key in axes] + ([result.path.name] if several else [])
        rows.append((own, result.metrics, os.path.relpath(result.path, output)))
    shown = [
        (choice, key) for choice, key in _COLUMNS if any(m["summary"][choice].get(key) for _, m, _ in rows)
    ]
    head = [*axes, *(["task"] if several else [])]
    table = markdown_table(
        [*head, *(HEADINGS[key] + _WORDS[choice] for choice, key in shown), "calls", "lost", "folder"],
        [
            [
                *own,
                *(with_error(m["summary"][choice].get(key), _form(key)) for choice, key in shown),
                "–" if m["network_calls"] is None else f"{m['network_calls']:.4g}",
                str(len(m["lost"])),
                folder,
            ]
            for own, m, folder in rows
        ],
        left=range(len(head)),
    )
    failed = [f"- {point.label}: {text}" for point, result, text in done if result is None]
    lines = [f"# {name}", "", "Mean over the images ± standard error.", "", *table]
    lines += ["", "## Points without a result", "", *failed] if failed else []
    whole = RunFolder(output)
    whole.write_text("sweep.md", "\n".join(lines) + "\n")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = [f"{choice}.{key}" for choice, key in shown]
    writer.writerow([*head, *numbers, "network_calls", "lost", "folder"])
    for own, m, folder in rows:
        found = [(m["summary"][choice].get(key) or {}).get("mean") for choice, key in shown]
        cells = [*own, *found, m["network_calls"], len(m["lost"]), folder]
        writer.writerow(["" if cell is None else cell for cell in cells])
    whole.write_text("sweep.csv", text.getvalue())


def _form(key: str) -> str:
    return ".2f" if key == "psnr" else ".3f"


def _write_page(output: Path, name: str, done: Sequence[Found], display: RunDisplay) -> None:
    """Write the page that compares the first points; results are there, whatever happens to it."""
    folders = [result.path for _, result in _runs(done)][:SHOWN]
    try:
        write_side_by_side(folders, output / "report.html", write=RunFolder(output).write, title=name)
    except Exception as error:  # noqa: BLE001 (whatever it is)
        display.warn(f"{output}: report.html was not written: {error}")
