"""The paper's table out of result folders: means with their standard errors, and the published numbers beside them.

A result is known by its resolved recipe: the model by its prior, the task by its operator. It stands beside a
published number where both are the published ones, whatever sampler it used; kernel and network calls are columns.

A run with several samples of an image has three rows, which are not to be confused:

    mean over N runs     every sample counts
    smallest residual    the sample that fits the measurement best: a choice that anybody can make
    oracle               the best sample by each metric against the truth: the choice of the published protocol

The published numbers belong to the last. With one sample of an image the three are one.

Importing this module does not import torch.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from daps_kit.errors import UserError

from .published import published

__all__ = ["Line", "Result", "csv_text", "find_results", "lines", "markdown", "read_result"]

_HEADINGS = {
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips_piq": ("LPIPS (piq)", ".3f"),
    "fid_torchvision": ("FID (torchvision)", ".1f"),
    "lpips_vgg": ("LPIPS (vgg)", ".3f"),
    "lpips_alex": ("LPIPS (alex)", ".3f"),
    "fid": ("FID", ".1f"),
    "residual": ("residual (noise sd)", ".3f"),
}
_CHOICES = {"sample_mean": "mean over {} runs", "reported": "smallest residual", "oracle": "oracle"}
_SINGLE = {"sample_mean": "one run"}
_OTHER = "(other settings)"


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: as it was given, or found.
        model, task, kernel, calls: what was run; `calls` are network calls an image.
        as_published: whether model and operator are those of a published number.
        images, runs: how many images, and samples of each.
        lost: samples that count nowhere.
        summary: the section of metrics.json.
    """

    folder: Path
    model: str
    task: str
    kernel: str
    calls: str
    as_published: bool
    images: int
    runs: int
    lost: int
    summary: dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A row of the table: a choice among the samples of a result, its metrics, and the published means."""

    result: Result
    choice: str
    found: dict[str, dict[str, Any]]
    published: dict[str, float]


# --- reading -----------------------------------------------------------------------------------------------------


def find_results(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders of finished and of unfinished runs, at or anywhere below some folders.

    Raises:
        UserError: a folder is not there or holds no run; or one that was named is of a run that is not finished.
    """
    finished: list[Path] = []
    unfinished: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"no such folder of results: {path}")
        folders = list(_runs(path))
        if not folders:
            raise UserError(f"{path} holds no results: no recipe.yaml in it or below")
        for folder in folders:
            done = (folder / "metrics.json").is_file()
            if not done and folder == path:
                raise UserError(f"{path}: the run is not finished (no metrics.json); run its recipe again")
            (finished if done else unfinished).append(folder)
    return list(dict.fromkeys(finished)), list(dict.fromkeys(unfinished))


def _runs(path: Path) -> Iterator[Path]:
    """Yield the folders of runs at or below a folder; those of runs have none below."""
    if (path / "recipe.yaml").is_file():
        yield path
        return
    for below in sorted(path.iterdir()):
        if below.is_dir():
            yield from _runs(below)


def read_result(folder: Path) -> Result:
    """Return what there is to say about a finished run.

    Raises:
        UserError: its recipe or its metrics cannot be read, or are damaged.
    """
    recipe, metrics = _load(folder / "recipe.yaml"), _load(folder / "metrics.json")
    try:
        prior, operator, sampler = (dict(recipe[key]) for key in ("prior", "operator", "sampler"))
        model, (task, exact) = published().model(prior), published().task(operator)
        return Result(
            folder=folder,
            model=model,
            task=task if exact else f"{task} {_OTHER}",
            kernel=_kernel(sampler),
            calls=_calls(sampler),
            as_published=exact and bool(published().means(model, task)),
            images=len(metrics["images"]),
            runs=int(recipe["runs"]),
            lost=len(metrics["lost"]),
            summary={choice: dict(metrics["summary"][choice]) for choice in _CHOICES},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder}: recipe.yaml or metrics.json is not what daps-kit run writes ({error!r})"
        ) from error


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def _kernel(sampler: dict[str, Any]) -> str:
    kernel = (sampler.get("kernel") or {}).get("use") or f"{sampler['use']}'s own"
    return published().kernels.get(kernel, str(kernel))


def _calls(sampler: dict[str, Any]) -> str:
    """Return the network calls an image, as far as the recipe says them, else the budget."""
    levels, steps = (
        (sampler.get(key) or {}).get(name) for key, name in (("annealing", "levels"), ("ode", "steps"))
    )
    if isinstance(levels, int) and isinstance(steps, int) and steps > 0:
        return str(levels * steps)
    return str(sampler.get("budget") or "")


# --- rows --------------------------------------------------------------------------------------------------------


def lines(results: Iterable[Result]) -> list[Line]:
    """Return the rows of the table: by model, then by task in the paper's order."""
    models, tasks = list(published().models), list(published().tasks)

    def place(result: Result) -> tuple[Any, ...]:
        task = result.task.partition(" ")[0]
        return (
            models.index(result.model) if result.model in models else len(models),
            result.model,
            tasks.index(task) if task in tasks else len(tasks),
            result.task,
            result.kernel,
            str(result.folder),
        )

    found: list[Line] = []
    for result in sorted(results, key=place):
        numbers = published().means(result.model, result.task) if result.as_published else {}
        choices = _CHOICES if result.runs > 1 else _SINGLE
        for key, choice in choices.items():
            known = {metric: value for metric, value in result.summary[key].items() if value}
            if known:
                last = key == list(choices)[-1]
                found.append(Line(result, choice.format(result.runs), known, numbers if last else {}))
    return found


# --- writing -----------------------------------------------------------------------------------------------------


def markdown(rows: Sequence[Line]) -> str:
    """Return the table as Markdown, with what there is to know for reading it below."""
    metrics = [key for key in _metrics(rows) if key != "residual"]
    folders = _alike(rows)
    beside = [key for key in metrics if any(key in row.published for row in rows)]
    head = ["model", "task", "kernel", "calls", "images", "samples"]
    for key in metrics:
        head += [_HEADINGS.get(key, (key, ""))[0], *(["published"] if key in beside else [])]
    head += ["folder"] if folders else []
    table = [head, ["---"] * 3 + ["---:"] * 2 + ["---"] + ["---:"] * (len(head) - 6)]
    for row in rows:
        r = row.result
        cells = [r.model, r.task, r.kernel, r.calls, str(r.images), row.choice]
        for key in metrics:
            form = _HEADINGS.get(key, (key, ".3f"))[1]
            cells.append(_with_error(row.found.get(key), form))
            cells += [_number(row.published.get(key), form)] if key in beside else []
        cells += [str(r.folder)] if folders else []
        table.append(cells)
    text = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([*text, "", *_notes(rows)]) + "\n"


def csv_text(rows: Sequence[Line]) -> str:
    """Return the table as CSV: a line a row, numbers at full precision, empty where there is none."""
    metrics = _metrics(rows)
    head = ["model", "task", "kernel", "calls", "images", "runs", "lost", "samples"]
    for key in metrics:
        head += [key, f"{key}_standard_error", *([f"{key}_published"] if key in published().metrics else [])]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, "folder"])
    for row in rows:
        r = row.result
        cells: list[Any] = [r.model, r.task, r.kernel, r.calls, r.images, r.runs, r.lost, row.choice]
        for key in metrics:
            found = row.found.get(key) or {}
            cells += [found.get("mean"), found.get("standard_error")]
            cells += [row.published.get(key)] if key in published().metrics else []
        writer.writerow(["" if cell is None else cell for cell in [*cells, r.folder]])
    return out.getvalue()


def _alike(rows: Sequence[Line]) -> bool:
    """Return whether results cannot be told apart without their folders."""
    seen = {
        row.result.folder: (row.result.model, row.result.task, row.result.kernel, row.result.calls)
        for row in rows
    }
    return len(set(seen.values())) < len(seen)


def _metrics(rows: Sequence[Line]) -> list[str]:
    """Return the metrics that any row has: those of the paper first, then the others that are known."""
    used = dict.fromkeys(key for row in rows for key in (*row.found, *row.published))
    return [key for key in _HEADINGS if key in used] + [key for key in used if key not in _HEADINGS]


def _number(value: float | None, form: str) -> str:
    return "" if value is None or not math.isfinite(value) else format(value, form)


def _with_error(found: dict[str, Any] | None, form: str) -> str:
    if not found:
        return ""
    error = found.get("standard_error")
    return _number(found["mean"], form) + ("" if error is None else f" ± {_number(error, form)}")


def _notes(rows: Sequence[Line]) -> list[str]:
    """Return what there is to know for reading the table, a paragraph each."""
    told = [
        (
            True,
            "Means over the images ± standard error of the mean.",
        ),
        (
            any(row.published for row in rows),
            published().note,
        ),
        *(
            (any(row.published and row.result.task == task for row in rows), note)
            for task, note in published().notes.items()
        ),
        (
            any(row.choice == "oracle" for row in rows),
            "oracle: the best run of each image by each metric against the truth, which nobody can choose without "
            "the truth; the smallest residual can be chosen.",
        ),
        (
            any(row.result.task.endswith(_OTHER) for row in rows),
            "other settings: the operator or its noise is not the published one.",
        ),
    ]
    notes = [text for holds, text in told if holds]
    lost = {str(row.result.folder): row.result.lost for row in rows if row.result.lost}
    notes += [
        f"{folder}: samples that were lost and count nowhere: {count}." for folder, count in lost.items()
    ]
    return [line for note in notes for line in (note, "")][:-1]
