"""The outcomes of a comparison as files: tables as Markdown, CSV and LaTeX, pictures, and what can be concluded.

comparison.md     a table for each task and budget, ranks, fronts, and what can be concluded
comparison.csv    a row for each cell and image          cells.csv   a row for each cell
comparison.tex    the tables, for booktabs               ranks-*.svg, front-*.svg
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from daps_kit.runs.folder import RunFolder
from daps_kit.tables import markdown_table

from .arena import EXPLAINED, METRICS, Outcome
from .document import Comparison
from .drawing import draw_front, draw_ranks
from .statistics import LEVEL, best_and_tied, critical_difference, front, interval, mean_ranks

__all__ = ["markdown", "write"]

RANKED = ("crps", "psnr", "psnr_sample", "miss")
"""The metrics that samplers are ranked by."""

_COSTS = {
    "network_calls": ("calls", ".4g"),
    "jacobian_products": ("Jacobian products", ".4g"),
    "operator_products": ("operator products", ".4g"),
    "seconds": ("seconds", ".3g"),
}
Group = tuple[str, int | None]


def write(comparison: Comparison, outcomes: Sequence[Outcome]) -> None:
    """Write all files into the folder of the comparison."""
    folder = RunFolder(comparison.output)
    folder.write_text("comparison.md", markdown(comparison.name, outcomes))
    folder.write_text("comparison.csv", _csv_of_images(outcomes))
    folder.write_text("cells.csv", _csv_of_cells(outcomes))
    folder.write_text("comparison.tex", _latex(outcomes))
    for budget in _budgets(outcomes):
        for metric in RANKED:
            ranks, tasks = _ranks(outcomes, budget, metric)
            if len(ranks) > 1:
                title = f"{METRICS[metric].heading}: mean ranks over {tasks} tasks{_at(budget)}"
                name = f"ranks-{metric}{'' if budget is None else f'-{budget}'}.svg"
                folder.write_text(name, draw_ranks(title, ranks, critical_difference(len(ranks), tasks)))
    for cost in ("network_calls", "seconds"):
        for place, task in enumerate(_tasks(outcomes)):
            points = _points(outcomes, task, cost)
            if len(points) > 1:
                title = f"{task}: PSNR of the mean against {_COSTS[cost][0]} of a sample"
                folder.write_text(f"front-{place + 1}-{cost}.svg", draw_front(title, points, front(points)))


def markdown(name: str, outcomes: Sequence[Outcome]) -> str:
    """Return comparison.md."""
    lines = [
        f"# {name}",
        "",
        *_preface(outcomes),
        "",
        "## What can be concluded",
        "",
        *_conclusions(outcomes),
    ]
    for group in _groups(outcomes):
        lines += ["", f"## {group[0]}{_at(group[1])}", "", *_table(_of(outcomes, group))]
    for budget in _budgets(outcomes):
        lines += _rank_lines(outcomes, budget)
    return "\n".join(lines) + "\n"


def _preface(outcomes: Sequence[Outcome]) -> list[str]:
    images = max(len(outcome.images) for outcome in outcomes)
    runs = outcomes[0].cell.recipe.runs
    return [
        f"{images} images, {runs} samples of each; images, measurements, noise and priors are the same for all. In "
        f"brackets {LEVEL:.0%} intervals of the mean over images (bootstrap). **Bold** is the best mean; * are those "
        "whose paired difference from it has an interval that holds 0. *Success* is the share of samples that are "
        f"not lost and whose residual is below {EXPLAINED:g} standard deviations of the noise; *coverage off by* is "
        "the distance of the coverage from what is due. A Jacobian product costs about as much as two calls. Seconds "
        "are those of this machine, whatever else it did.",
    ]


# --- a task at a budget


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table of a task at a budget, and who is missing from it and why."""
    there = [outcome for outcome in outcomes if outcome.images]
    lines = []
    if there:
        head = ["sampler", *(metric.heading for metric in METRICS.values()), *(h for h, _ in _COSTS.values())]
        rows = [[outcome.cell.sampler, *_cells(there, outcome)] for outcome in there]
        lines = markdown_table(head, rows, left=[0])
    for outcome in outcomes:
        name = f"`{outcome.cell.sampler}`"
        if outcome.refused:
            lines += ["", f"{name} does not do this: {outcome.refused}."]
        elif outcome.failed:
            lines += ["", f"{name} failed: {outcome.failed}."]
        elif outcome.lost:
            lines += [
                "",
                f"{name} lost {outcome.lost} of {outcome.cell.recipe.runs * len(outcome.images)} samples.",
            ]
    return lines


def _cells(there: Sequence[Outcome], outcome: Outcome) -> list[str]:
    cells = []
    for key, metric in METRICS.items():
        values = outcome.values(key)
        mean = math.fsum(values) / len(values)
        text = "–" if math.isnan(mean) else format(mean, metric.form)
        low, high = interval(values)
        if metric.better and not math.isnan(low):
            text += f" [{low:{metric.form}}, {high:{metric.form}}]"
        best, tied = _standing(there, key)
        name = outcome.cell.sampler
        cells.append(f"**{text}**" if name == best else f"{text} *" if name in tied else text)
    costs = [outcome.cost.get(key) for key in _COSTS]
    return cells + [
        "–" if cost is None else format(cost, form)
        for cost, (_, form) in zip(costs, _COSTS.values(), strict=True)
    ]


def _standing(there: Sequence[Outcome], metric: str) -> tuple[str, list[str]]:
    """Return the best sampler by a metric, and those tied with it."""
    better = METRICS[metric].better
    table = {outcome.cell.sampler: outcome.values(metric) for outcome in there}
    return best_and_tied(table, better) if better else ("", [])


def _conclusions(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each task and budget: who is best by what, and who cannot be told from it."""
    count = max(len(outcome.images) for outcome in outcomes)
    if count < 2:
        return ["One image: nothing can be said of others."]
    lines = []
    for group in _groups(outcomes):
        there = [outcome for outcome in _of(outcomes, group) if outcome.images]
        parts = []
        for key in ("crps", "psnr", "miss"):
            best, tied = _standing(there, key)
            if best:
                also = f" (not told apart: {', '.join(f'`{name}`' for name in tied)})" if tied else ""
                parts.append(f"{METRICS[key].heading} `{best}`{also}")
        lines.append(
            f"- {group[0]}{_at(group[1])}: best by {'; '.join(parts)}."
            if parts
            else f"- {group[0]}: nothing."
        )
    if count < 8:
        lines += [
            "",
            f"{count} images: the intervals are rough, and differences that are not told apart may be real.",
        ]
    dodged = {outcome.cell.sampler for outcome in outcomes if outcome.refused}
    if dodged:
        names = ", ".join(f"`{name}`" for name in sorted(dodged))
        lines += ["", f"{names} cannot do all tasks and are in no ranks."]
    lines += [
        "",
        "Not tuned: the settings are those given, the same on every task; nothing is said of other settings.",
    ]
    return lines


# --- over tasks


def _ranks(outcomes: Sequence[Outcome], budget: int | None, metric: str) -> tuple[dict[str, float], int]:
    """Return mean ranks over the tasks at a budget of the samplers that can do them all, and how many tasks."""
    here = [outcome for outcome in outcomes if outcome.cell.budget == budget]
    refused = {outcome.cell.sampler for outcome in here if outcome.refused}
    table: dict[str, list[float]] = {}
    for outcome in here:
        if outcome.cell.sampler not in refused:
            values = outcome.values(metric)
            mean = math.fsum(values) / len(values) if values else math.nan
            table.setdefault(outcome.cell.sampler, []).append(mean)
    if not table or all(math.isnan(value) for row in table.values() for value in row):
        return {}, 0
    return mean_ranks(table, METRICS[metric].better), len(next(iter(table.values())))


def _rank_lines(outcomes: Sequence[Outcome], budget: int | None) -> list[str]:
    found = {metric: _ranks(outcomes, budget, metric) for metric in RANKED}
    known = {metric: ranks for metric, (ranks, tasks) in found.items() if len(ranks) > 1 and tasks > 1}
    if not known:
        return []
    names = list(next(iter(known.values())))
    tasks = max(tasks for _, tasks in found.values())
    head = ["sampler", *(METRICS[metric].heading for metric in known)]
    rows = [[name, *(format(ranks[name], ".2f") for ranks in known.values())] for name in names]
    cd = critical_difference(len(names), tasks)
    return [
        "",
        f"## Mean ranks over {tasks} tasks{_at(budget)}",
        "",
        *markdown_table(head, rows, left=[0]),
        "",
        f"Ranks further apart than {cd:.2f} differ at a level of 5 % over all pairs (Nemenyi); nearer ones need not be "
        "equal.",
    ]


def _points(outcomes: Sequence[Outcome], task: str, cost: str) -> dict[str, tuple[float, float]]:
    """Return cost and PSNR of the mean of every cell of a task that has both."""
    points = {}
    for outcome in outcomes:
        values = outcome.values("psnr")
        if outcome.cell.task == task and values and cost in outcome.cost and all(map(math.isfinite, values)):
            budget = "" if outcome.cell.budget is None else f" {outcome.cell.budget}"
            points[f"{outcome.cell.sampler}{budget}"] = (outcome.cost[cost], math.fsum(values) / len(values))
    return points


# --- for programs and papers


def _csv_of_images(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [o.cell.task, o.cell.sampler, o.cell.budget, image, *scores.values()]
        for o in outcomes
        for image, scores in o.images.items()
    ]
    return _csv(["task", "sampler", "budget", "image", *METRICS], rows)


def _csv_of_cells(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for o in outcomes:
        means = [math.fsum(o.values(key)) / len(o.images) if o.images else math.nan for key in METRICS]
        said = "refused" if o.refused else "failed" if o.failed else "done"
        costs = [o.cost.get(key, math.nan) for key in _COSTS]
        rows.append(
            [o.cell.task, o.cell.sampler, o.cell.budget, said, *means, *costs, o.lost, o.refused or o.failed]
        )
    return _csv(["task", "sampler", "budget", "outcome", *METRICS, *_COSTS, "lost", "why"], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if c is None or c != c else c for c in row] for row in rows])
    return out.getvalue()


_PAPER = ("psnr", "ssim", "crps", "coverage", "success")


def _latex(outcomes: Sequence[Outcome]) -> str:
    """Return a table for each task and budget, with booktabs."""
    blocks = []
    for group in _groups(outcomes):
        there = [outcome for outcome in _of(outcomes, group) if outcome.images]
        rows = []
        for outcome in there:
            cells = [_escaped(outcome.cell.sampler)]
            for key in _PAPER:
                values = outcome.values(key)
                mean = math.fsum(values) / len(values)
                text = "--" if math.isnan(mean) else format(mean, METRICS[key].form)
                best, tied = _standing(there, key)
                bold = outcome.cell.sampler == best
                cells.append(
                    rf"\textbf{{{text}}}"
                    if bold
                    else text + (r"$^*$" if outcome.cell.sampler in tied else "")
                )
            calls = outcome.cost.get("network_calls")
            cells.append("--" if calls is None else f"{calls:.4g}")
            rows.append(" & ".join(cells) + r" \\")
        head = " & ".join(["sampler", *(_escaped(METRICS[key].heading) for key in _PAPER), "calls"])
        blocks += [
            r"\begin{table}",
            rf"\caption{{{_escaped(group[0] + _at(group[1]))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(_PAPER) + 1)}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(["% needs \\usepackage{booktabs}", *blocks])


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "_%&#$" else c for c in text)


# --- groups


def _at(budget: int | None) -> str:
    return "" if budget is None else f", {budget} network calls"


def _groups(outcomes: Sequence[Outcome]) -> list[Group]:
    return list(dict.fromkeys((outcome.cell.task, outcome.cell.budget) for outcome in outcomes))


def _of(outcomes: Sequence[Outcome], group: Group) -> list[Outcome]:
    return [outcome for outcome in outcomes if (outcome.cell.task, outcome.cell.budget) == group]


def _tasks(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.cell.task for outcome in outcomes))


def _budgets(outcomes: Sequence[Outcome]) -> list[int | None]:
    return list(dict.fromkeys(outcome.cell.budget for outcome in outcomes))
