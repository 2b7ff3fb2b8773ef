"""The outcomes of a comparison as files: tables as Markdown, CSV and LaTeX, pictures, and what can be concluded.

comparison.md     a table for each task and budget, ranks, fronts, and what can be concluded
index.html        the same as a page that can be published, with the pictures in it
comparison.csv    a row for each cell and image          cells.csv   a row for each cell
pairs.csv         a row for each metric of a cell: its paired difference from the best, with an interval
comparison.tex    the tables, for booktabs               ranks-*.svg, front-*.svg
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence

from daps_kit.runs.folder import RunFolder
from daps_kit.tables import markdown_table

from .arena import EXPLAINED, METRICS, Outcome
from .document import Comparison, Known
from .drawing import draw_front, draw_ranks
from .site import page
from .statistics import LEVEL, best_and_tied, critical_difference, front, interval, mean_ranks

__all__ = ["markdown", "write"]

RANKED = ("crps", "psnr", "psnr_sample", "miss", "sliced_wasserstein", "mmse_gap")
"""The metrics that samplers are ranked by, as far as tasks have them."""

PAIRED = ("crps", "psnr", "miss", "sliced_wasserstein", "mmse_gap")
"""The metrics whose paired differences are told."""

_COSTS = {
    "network_calls": ("calls", ".4g"),
    "jacobian_products": ("Jacobian products", ".4g"),
    "operator_products": ("operator products", ".4g"),
    "seconds": ("seconds", ".3g"),
    "memory": ("memory (MiB)", ".0f"),
}
Group = tuple[str, int | None]


def write(comparison: Comparison, outcomes: Sequence[Outcome]) -> None:
    """Write all files into the folder of the comparison."""
    folder = RunFolder(comparison.output)
    text = markdown(comparison.name, outcomes)
    folder.write_text("comparison.md", text)
    folder.write_text("comparison.csv", _csv_of_images(outcomes))
    folder.write_text("cells.csv", _csv_of_cells(outcomes))
    folder.write_text("pairs.csv", _csv_of_pairs(outcomes))
    folder.write_text("comparison.tex", _latex(outcomes))
    pictures = dict(_pictures(outcomes))
    for name, picture in pictures.items():
        folder.write_text(name, picture)
    folder.write(folder.path / "index.html", page(comparison.name, text, pictures))


def _pictures(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """Yield ranks and fronts, each with the name of its file."""
    for budget in _budgets(outcomes):
        for metric in RANKED:
            ranks, tasks = _ranks(outcomes, budget, metric)
            if len(ranks) > 1:
                title = f"{METRICS[metric].heading}: mean ranks over {tasks} tasks{_at(budget)}"
                name = f"ranks-{metric}{'' if budget is None else f'-{budget}'}.svg"
                yield name, draw_ranks(title, ranks, critical_difference(len(ranks), tasks))
    for cost in ("network_calls", "seconds"):
        for place, task in enumerate(_tasks(outcomes)):
            points = _points(outcomes, task, cost)
            if len(points) > 1:
                title = f"{task}: PSNR of the mean against {_COSTS[cost][0]} of a sample"
                yield f"front-{place + 1}-{cost}.svg", draw_front(title, points, front(points))


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
        here = _of(outcomes, group)
        lines += ["", f"## {group[0]}{_at(group[1])}", "", *_table(here), *_pair_lines(here)]
    for budget in _budgets(outcomes):
        lines += _rank_lines(outcomes, budget)
    return "\n".join(lines) + "\n"


def _preface(outcomes: Sequence[Outcome]) -> list[str]:
    parts = []
    for known in (False, True):
        group = [o for o in outcomes if isinstance(o.cell.recipe, Known) == known]
        if group:
            what = "measurements with a known posterior" if known else "images"
            count = max(len(outcome.images) for outcome in group)
            parts.append(f"{count} {what}, {group[0].cell.recipe.runs} samples of each")
    known_words = (
        " *Sliced Wasserstein* is the distance of the samples from exact ones and *floor* that of exact ones from each "
        "other, in the problem's units; *variance error* is relative; the *MMSE gap* is how much the mean's squared "
        "error exceeds the least."
    )
    return [
        f"{'; '.join(parts)}; images, measurements, noise and priors are the same for all. In "
        f"brackets {LEVEL:.0%} intervals of the mean over images (bootstrap). **Bold** is the best mean; * are those "
        "whose paired difference from it has an interval that holds 0. *Success* is the share of samples that are "
        f"not lost and whose residual is below {EXPLAINED:g} standard deviations of the noise; *coverage off by* is "
        "the distance of the coverage from what is due. A Jacobian product costs about as much as two calls. Seconds "
        "are those of this machine, whatever else it did; memory is the most that the process held."
        + known_words
        * any(isinstance(o.cell.recipe, Known) for o in outcomes),
    ]


# --- a task at a budget


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table of a task at a budget, and who is missing from it and why."""
    there = [outcome for outcome in outcomes if outcome.images]
    lines = []
    if there:
        metrics, costs = _told(there)
        headings = [*(METRICS[key].heading for key in metrics), *(_COSTS[key][0] for key in costs)]
        head = ["sampler", *headings]
        rows = [[outcome.cell.sampler, *_cells(there, outcome, metrics, costs)] for outcome in there]
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
        if outcome.tuning:
            found = outcome.tuning
            chosen = ", ".join(f"`{key}: {value}`" for key, value in found.settings.items())
            lines += ["", f"{name}: {chosen}, the best of {len(found.tried)} tried on images of their own."]
    return lines


def _told(there: Sequence[Outcome]) -> tuple[list[str], list[str]]:
    """Return the metrics and costs that anyone has."""
    metrics = [key for key in METRICS if any(not math.isnan(v) for o in there for v in o.values(key))]
    return metrics, [key for key in _COSTS if any(key in o.cost for o in there)]


def _pairs(there: Sequence[Outcome], metric: str) -> Iterator[tuple[str, str, float, float, float]]:
    """Yield each sampler beside the best one: both names, the mean paired difference and its interval."""
    best, _ = _standing(there, metric)
    first = {outcome.cell.sampler: outcome.values(metric) for outcome in there}
    for name, values in first.items():
        if best and name != best:
            apart = [a - b for a, b in zip(values, first[best], strict=True)]
            yield name, best, math.fsum(apart) / len(apart), *interval(apart)


def _pair_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table of paired differences from the best."""
    there = [outcome for outcome in outcomes if outcome.images]
    metrics = [key for key in PAIRED if key in _told(there)[0]]
    found = {key: {pair[0]: pair[2:] for pair in _pairs(there, key)} for key in metrics}
    if len(there) < 2 or not any(found.values()):
        return []
    rows = []
    for outcome in there:
        row = [outcome.cell.sampler]
        for key in metrics:
            rest = found[key].get(outcome.cell.sampler)
            form = METRICS[key].form
            if rest is None:
                row.append("best" if found[key] else "–")
            else:
                mean, low, high = rest
                text = "–" if math.isnan(mean) else f"{mean:+{form}}"
                row.append(text if math.isnan(low) else f"{text} [{low:+{form}}, {high:+{form}}]")
        rows.append(row)
    head = ["less the best's", *(METRICS[key].heading for key in metrics)]
    return ["", *markdown_table(head, rows, left=[0])]


def _cells(
    there: Sequence[Outcome], outcome: Outcome, metrics: Sequence[str], spent: Sequence[str]
) -> list[str]:
    cells = []
    for key in metrics:
        metric, values = METRICS[key], outcome.values(key)
        mean = math.fsum(values) / len(values)
        text = "–" if math.isnan(mean) else format(mean, metric.form)
        low, high = interval(values)
        if metric.better and not math.isnan(low):
            text += f" [{low:{metric.form}}, {high:{metric.form}}]"
        best, tied = _standing(there, key)
        name = outcome.cell.sampler
        cells.append(f"**{text}**" if name == best else f"{text} *" if name in tied else text)
    costs = {key: outcome.cost.get(key) for key in spent}
    return cells + ["–" if cost is None else format(cost, _COSTS[key][1]) for key, cost in costs.items()]


def _items(outcomes: Sequence[Outcome]) -> str:
    """Return what the intervals are over."""
    return "measurements" if all(isinstance(o.cell.recipe, Known) for o in outcomes) else "images"


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
        for key in PAIRED:
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
            f"{count} {_items(outcomes)}: the intervals are rough, and differences not told apart may be real.",
        ]
    dodged = {outcome.cell.sampler for outcome in outcomes if outcome.refused}
    if dodged:
        names = ", ".join(f"`{name}`" for name in sorted(dodged))
        lines += ["", f"{names} cannot do all tasks and are in no ranks."]
    tuned = sorted({outcome.cell.sampler for outcome in outcomes if outcome.tuning})
    names = ", ".join(f"`{name}`" for name in tuned)
    lines += [
        "",
        f"Tuned for each task on other images: {names}. The others have the settings given, the same on every task."
        if tuned
        else "Not tuned: the settings are those given, the same on every task; nothing is said of other settings.",
    ]
    return lines


# --- over tasks


def _ranks(outcomes: Sequence[Outcome], budget: int | None, metric: str) -> tuple[dict[str, float], int]:
    """Return mean ranks over the tasks at a budget of the samplers that can do them all, and how many tasks."""
    there = [outcome for outcome in outcomes if outcome.cell.budget == budget]
    known = {o.cell.task for o in there if any(not math.isnan(value) for value in o.values(metric))}
    here = [outcome for outcome in there if outcome.cell.task in known]
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
        [o.cell.task, o.cell.sampler, o.cell.budget, image, *(scores.get(key, math.nan) for key in METRICS)]
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


def _csv_of_pairs(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [*group, key, *pair]
        for group in _groups(outcomes)
        for key, metric in METRICS.items()
        if metric.better
        for pair in _pairs([o for o in _of(outcomes, group) if o.images], key)
    ]
    return _csv(["task", "budget", "metric", "sampler", "best", "difference", "low", "high"], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if c is None or c != c else c for c in row] for row in rows])
    return out.getvalue()


_PAPER = (
    "psnr",
    "ssim",
    "lpips",
    "crps",
    "coverage",
    "sliced_wasserstein",
    "variance_error",
    "mmse_gap",
    "success",
)


def _latex(outcomes: Sequence[Outcome]) -> str:
    """Return a table for each task and budget, with booktabs."""
    blocks = []
    for group in _groups(outcomes):
        there = [outcome for outcome in _of(outcomes, group) if outcome.images]
        told = _told(there)[0]
        columns = [key for key in _PAPER if key in told]
        rows = []
        for outcome in there:
            cells = [_escaped(outcome.cell.sampler)]
            for key in columns:
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
        head = " & ".join(["sampler", *(_escaped(METRICS[key].heading) for key in columns), "calls"])
        blocks += [
            r"\begin{table}",
            rf"\caption{{{_escaped(group[0] + _at(group[1]))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) + 1)}}}",
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
