"""From cells to what docs/photos.md says of them: a table for each form, and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daps_kit.files import write_atomic

from .cases import COVERED, HOLE, MOTION, SIGMA, TASKS, Form
from .rivals import rivals
from .run import DAPS, SAMPLES, cell_file

PAGE, PLOT = "photos.md", "photos-benchmark.svg"
BEGIN = "<!-- benchmark: written by `python -m benchmarks photos` from its cells -->\n"
END = "<!-- /benchmark -->\n"
NETWORKS = ("pnp_ffdnet", "pnp_photos")
COLOURS = {DAPS: "#0072b2", "pnp_ffdnet": "#d55e00", "pnp_photos": "#e69f00"}
OTHERS = "#8a8a8a"
COLUMNS = {
    "PSNR": ("psnr", ".2f", 1),
    "without end": ("psnr_corrected", ".2f", 1),
    "a sample": ("sample_psnr", ".2f", 1),
    "SSIM": ("ssim", ".3f", 1),
    "LPIPS": ("lpips_alex", ".3f", 1),
    "VGG": ("lpips_vgg", ".3f", 1),
    "LPIPS of a sample": ("sample_lpips_alex", ".3f", 1),
    "CRPS": ("crps", ".1f", 1000),
    "covered": ("coverage", ".0%", 1),
    "s": ("seconds", ".1f", 1),
    "MiB": ("mebibytes", ".0f", 1),
}
"""Of the table: a key of a cell, how it is shown, and by what it is multiplied."""

DESCRIPTION = f"""\
Photographs held out of the training. Blurs, down-sampling and HDR have noise of {SIGMA}; the motion is one of
{MOTION[0]} pixels at {MOTION[1]} degrees. What is missing is missing in a picture of 8 bits: pixels at random,
scratches and text over {100 * COVERED[0]:.0f} to {100 * COVERED[1]:.0f} % of it, a hole of {HOLE} x {HOLE} in its
middle. Every method has the same measurements, and is told the noise, the kernel and what is missing.

`daps` is the default sampler with {SAMPLES} samples. *PSNR* is that of the posterior mean, *without end* what the mean
of endlessly many would have, estimated from their spread. LPIPS is AlexNet's, then VGG's. CRPS is in thousandths; of a
single answer it is the mean absolute error. *Covered* is the share of pixels in the 90 % interval of Student's t.
Seconds are the processor's, of one thread, for all samples. `pnp_ffdnet` is FFDNet with its authors' weights, in
half-quadratic splitting where there is more than noise; `pnp_photos` is the same with the denoiser of this prior.
Strengths of the others were chosen on training pictures.
"""


Rows = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""By task, method and picture."""


def write(work: Path, docs: Path) -> None:
    """Write the tables and the plot anew, between the two marks in the page."""
    page = docs / PAGE
    text = page.read_text(encoding="utf-8") if page.exists() else BEGIN + END
    before, _, rest = text.partition(BEGIN)
    inside: list[str] = []
    for form in map(Form.named, ("small", "central", "whole")):
        rows = cells(work, form.name)
        if rows:
            inside += [*_section(form, rows), ""]
    if not inside:
        return
    inside = [*DESCRIPTION.splitlines(), "", *inside]
    shown = next(rows for name in ("central", "small", "whole") if (rows := cells(work, name)))
    write_atomic(docs / PLOT, plot(shown).encode())
    body = "\n".join(inside) + f"\n![PSNR of every method on every task]({PLOT})\n"
    write_atomic(page, (before + BEGIN + body + END + rest.partition(END)[2]).encode())


def cells(work: Path, form: str) -> Rows:
    """Return the cells of a form whose pictures every method of the task has, in the order of the tasks."""
    found: Rows = {}
    for task in TASKS:
        known = {}
        for method in (DAPS, *(rival.name for rival in rivals(task))):
            folder = cell_file(work, form, task, method, "any").parent
            files = sorted(folder.glob("*.json"))
            if files:
                known[method] = {file.stem: json.loads(file.read_text()) for file in files}
        if DAPS in known:
            # A method that has only begun would leave few pictures to the others.
            known = {m: rows for m, rows in known.items() if 2 * len(rows) > len(known[DAPS])}
            common = set.intersection(*(set(rows) for rows in known.values()))
            found[task] = {m: {p: rows[p] for p in sorted(common)} for m, rows in known.items()}
    return {task: methods for task, methods in found.items() if methods[DAPS] and len(methods) > 1}


def average(rows: dict[str, dict[str, Any]], key: str) -> float:
    """Return the mean of a number over pictures; NaN where a picture has none."""
    values = [row.get(key) for row in rows.values()]
    return math.fsum(values) / len(values) if all(isinstance(v, float | int) for v in values) else math.nan


def _section(form: Form, rows: Rows) -> Iterator[str]:
    size = f"{form.side} x {form.side}" if form.side else "whole"
    counts = sorted({len(methods[DAPS]) for methods in rows.values()})
    counted = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else f"{counts[0]}"
    yield f"### Pictures of the benchmark, {size}: {counted}"
    yield ""
    yield f"| task | method | {' | '.join(COLUMNS)} |"
    yield f"|---|---{'|---' * len(COLUMNS)}|"
    for task, methods in rows.items():
        best = max(average(each, "psnr") for each in methods.values())
        for number, (method, each) in enumerate(methods.items()):
            shown = []
            for name, (key, form_, factor) in COLUMNS.items():
                value = average(each, key) * factor
                repeated = method != DAPS and key in ("sample_psnr", "sample_lpips_alex")
                text = "" if math.isnan(value) or repeated else f"{value:{form_}}"
                shown.append(f"**{text}**" if name == "PSNR" and average(each, key) == best else text)
            yield f"| {'' if number else task} | {method} | {' | '.join(shown)} |"


def plot(rows: Rows) -> str:
    """Return an SVG: a line a task, a dot a method at its PSNR."""
    left, right, line, top = 118, 20, 24, 40
    width, height = 720, top + line * len(rows) + 34
    values = [average(each, "psnr") for methods in rows.values() for each in methods.values()]
    low, high = math.floor(min(values) - 0.5), math.ceil(max(values) + 0.5)

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    def text(x: float, y: float, words: str, anchor: str = "start") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(left + (width - left - right) / 2, height - 6, "PSNR of the mean, dB", "middle"),
    ]
    for level in range(low, high + 1, max(1, (high - low) // 10)):
        x = across(level)
        parts.append(f'<path d="M{x:.1f} {top - 8}V{height - 32}" stroke="#ddd"/>')
        parts.append(text(x, height - 20, f"{level}", "middle"))
    for number, (task, methods) in enumerate(rows.items()):
        y = top + line * number + 8
        parts.append(text(left - 10, y + 4, task.replace("&", "&amp;"), "end"))
        for method, each in reversed(methods.items()):
            value = average(each, "psnr")
            parts.append(
                f'<circle cx="{across(value):.1f}" cy="{y}" r="5" fill="{COLOURS.get(method, OTHERS)}" '
                f'fill-opacity="0.85"><title>{method}: {value:.2f} dB</title></circle>'
            )
    for number, (name, colour) in enumerate([*COLOURS.items(), ("without a network", OTHERS)]):
        x = left + 130 * number
        parts.append(f'<circle cx="{x}" cy="14" r="5" fill="{colour}"/>')
        parts.append(text(x + 10, 18, name))
    return "\n".join([*parts, "</svg>"]) + "\n"
