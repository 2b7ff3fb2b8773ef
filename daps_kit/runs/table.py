"""The paper's table out of result folders: means with their standard errors, and the published numbers beside them.

Kernel and network calls are columns. A run with several samples of an image has four rows, which are not to be
confused:

    mean of N samples    their average, the answer of least error; beside it how well their spread fits the truth
    a sample             an answer that looks like an image: the mean of the metric over the samples
    sample shown         the one nearest to the others, or of the smallest residual: a choice that anybody can make
    oracle               the best sample by each metric against the truth: the choice of the published protocol

The published numbers belong to the last. With one sample of an image they are one.

Importing this module does not import torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from daps_kit.report.summary import HEADINGS, number, with_error
from daps_kit.tables import markdown_table

from .finished import OTHER_SETTINGS, FinishedRun
from .published import published

__all__ = ["Line", "csv_text", "lines", "markdown"]

_FORMS = {
    "psnr": ".2f",
    "ssim": ".3f",
    "lpips_piq": ".3f",
    "fid_torchvision": ".1f",
    "lpips_vgg": ".3f",
    "lpips_alex": ".3f",
    "fid": ".1f",
    "residual": ".3f",
    "crps": ".4f",
    "coverage": ".3f",
    "coverage_due": ".3f",
    "spread_error": ".3f",
    "psnr_corrected": ".2f",
}
"""The metrics of the paper first."""
_CHOICES = {
    "posterior_mean": "mean of {} samples",
    "sample_mean": "a sample",
    "reported": "sample shown",
    "oracle": "oracle",
}
_SINGLE = {"sample_mean": "one run"}


@dataclass(frozen=True)
class Line:
    """A row of the table: a choice among the samples of a result, its metrics, and the published means."""

    result: FinishedRun
    choice: str
    found: dict[str, dict[str, Any]]
    published: dict[str, float]


def lines(results: Iterable[FinishedRun]) -> list[Line]:
    """Return the rows of the table: by model, then by task in the paper's order."""
    models, tasks = list(published().models), list(published().tasks)

    def place(result: FinishedRun) -> tuple[Any, ...]:
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
            spread = result.summary["ensemble"] if key == "posterior_mean" else {}
            known = {metric: value for metric, value in {**result.summary[key], **spread}.items() if value}
            if known:
                last = key == list(choices)[-1]
                found.append(Line(result, choice.format(result.runs), known, numbers if last else {}))
    return found


def markdown(rows: Sequence[Line]) -> str:
    """Return the table as Markdown, with what there is to know for reading it below."""
    metrics = [key for key in _metrics(rows) if key != "residual"]
    folders = _alike(rows)
    beside = [key for key in metrics if any(key in row.published for row in rows)]
    head = ["model", "task", "kernel", "calls", "images", "samples"]
    for key in metrics:
        head += [HEADINGS.get(key, key), *(["published"] if key in beside else [])]
    head += ["folder"] if folders else []
    table = []
    for row in rows:
        r = row.result
        cells = [r.model, r.task, r.kernel, r.calls, str(r.images), row.choice]
        for key in metrics:
            form = _FORMS.get(key, ".3f")
            cells.append(with_error(row.found.get(key), form, ""))
            cells += [number(row.published.get(key), form, "")] if key in beside else []
        cells += [str(r.folder)] if folders else []
        table.append(cells)
    return "\n".join([*markdown_table(head, table, left=[0, 1, 2, 5]), "", *_notes(rows)]) + "\n"


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
    return [key for key in _FORMS if key in used] + [key for key in used if key not in _FORMS]


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
            "the truth; the sample shown can be chosen.",
        ),
        (
            any("coverage" in row.found for row in rows),
            "coverage: the share of pixels in the 90 % interval of the samples, or in their range where they are fewer "
            "than 19; samples of the right posterior cover what is due, and their spread / error is 1.",
        ),
        (
            any(row.result.task.endswith(OTHER_SETTINGS) for row in rows),
            "other settings: the operator or its noise is not the published one.",
        ),
    ]
    notes = [text for holds, text in told if holds]
    lost = {str(row.result.folder): row.result.lost for row in rows if row.result.lost}
    notes += [
        f"{folder}: samples that were lost and count nowhere: {count}." for folder, count in lost.items()
    ]
    return [line for note in notes for line in (note, "")][:-1]
