"""What the sampler's budgets give against the published settings: quality, calls and time, one table and one plot.

    python -m benchmarks samplers_quality --images faces [--count 8] [--runs 4] [--tasks ...] [--settings ...]

`--images` and `--held-out` are those of `python -m benchmarks tasks`. For each task of the recipes `embedded/TASK` the
same images, measurements and random streams go through the published DAPS-1K and DAPS-100 (parts/daps-1k, daps-100 and
parts/published/langevin/TASK) and the budgets fast, balanced and accurate, which have no setting for any task. Time
is that of the processor, one thread, in this one process, so that other work on the machine counts little. Rows are
kept in the work folder: the same command goes on where it was broken off, and the table always shows all there are.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.tasks import SUCCESS, TASKS, choose, fill
from daps_kit.contracts import Prior, RandomStreams
from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.random import stream_seed
from daps_kit.recipe import load_recipe
from daps_kit.runs.ensemble import coverage_due, posterior_mean, spread_scores
from daps_kit.runs.metrics import psnr, ssim
from daps_priors.trained.prior import load_embedded

PUBLISHED = {"DAPS-1K": "daps-1k", "DAPS-100": "daps-100"}
SETTINGS = (*PUBLISHED, "fast", "balanced", "accurate")
COLOURS = dict(zip(SETTINGS, ("#777777", "#b0b0b0", "#e69f00", "#0072b2", "#009e73"), strict=True))
CPU = torch.device("cpu")


class Counted(Prior):
    """A prior that counts its network calls."""

    def __init__(self, prior: Prior) -> None:
        self.inner, self.calls = prior, 0
        self.shape, self.sigma_range, self.calibration = prior.shape, prior.sigma_range, prior.calibration

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(x, sigma)."""
        self.calls += 1
        return self.inner.denoise(x, sigma)

    def denoising_covariance(self, sigma: float) -> Any:
        """Return the inner prior's."""
        return self.inner.denoising_covariance(sigma)


@dataclass(frozen=True)
class Case:
    """A task with certain settings of the sampler."""

    task: str
    settings: str

    def parts(self) -> tuple[Any, Any]:
        """Return the settings of the operator and of the sampler."""
        (own,) = load_recipe(f"embedded/{self.task}")
        with TemporaryDirectory() as folder:
            file = Path(folder) / "recipe.yaml"
            if self.settings in PUBLISHED:
                parts = f"parts/{PUBLISHED[self.settings]}, parts/published/langevin/{self.task}, embedded/{self.task}"
                file.write_text(f"format: 1\nextends: [{parts}]\n")
            else:
                file.write_text(
                    f"format: 1\nextends: embedded/{self.task}\nsampler: {{budget: {self.settings}}}\n"
                )
            (recipe,) = load_recipe(file)
        return own.operator, recipe.sampler

    def row(self, prior: Prior, x0: Tensor, runs: int) -> dict[str, Any]:
        """Run it and return what the table shows; `runs` samples of each image, all of a batch at once."""
        operator_settings, sampler_settings = self.parts()
        shape = (x0.shape[1], x0.shape[2], x0.shape[3])
        operator = operator_settings.build(shape=shape, seed=42, device=CPU)
        streams = RandomStreams([stream_seed(42, "measurement", image) for image in range(len(x0))])
        y = operator.measure(x0, streams).repeat_interleave(runs, 0)
        truth = x0.repeat_interleave(runs, 0)
        seeds = [stream_seed(42, "sampler", image, run) for image in range(len(x0)) for run in range(runs)]
        counted, before, start = Counted(prior), in_memory(), time.process_time()
        most = before
        for step in sampler_settings.build().sample(counted, operator, y, RandomStreams(seeds)):
            last = step
            most = max(most, in_memory(peak=True))
        seconds = (time.process_time() - start) / len(y)
        x = last.x0y.nan_to_num(0).clamp(-1, 1)
        samples = x.reshape(len(x0), runs, *shape)
        quality = psnr(x, truth)
        averages = None if last.average is None else last.average.reshape(samples.shape)
        mean = torch.stack(
            [posterior_mean(x, None if averages is None else averages[b]) for b, x in enumerate(samples)]
        )
        return {
            "images": len(x0),
            "runs": runs,
            "psnr": float(quality.mean()),
            "ssim": float(ssim(x, truth).mean()),
            "psnr_mean": float(psnr(mean, x0).mean()),
            "ssim_mean": float(ssim(mean, x0).mean()),
            **spread(samples, x0),
            "residual": float(operator.residual(last.x0y, y).nanmean()),
            "found": float((quality > SUCCESS).float().mean()),
            "calls": counted.calls,
            "seconds": seconds,
            "mebibytes": (most - before) / 2**20 / len(y),
        }


def spread(samples: Tensor, truth: Tensor) -> dict[str, float | None]:
    """Return CRPS, spread over error and coverage of samples [N, M, ...] of images [N, ...], means over the images.

    With M = 1 there are none.
    """
    found = [spread_scores(own, image) for own, image in zip(samples, truth, strict=True)]
    told = [scores for scores in found if scores is not None]
    names = {"crps": "crps", "spread": "spread_error", "covered": "coverage"}
    return {
        name: sum(scores[key] for scores in told) / len(told) if told else None for name, key in names.items()
    }


def in_memory(peak: bool = False) -> int:
    """Return bytes of this process in memory: now (the peak begins anew), or the most since it began; 0 elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if not peak:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is freed but kept would hide what is needed anew
        Path("/proc/self/clear_refs").write_text("5")
    name = "VmHWM:" if peak else "VmRSS:"
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def table(rows: dict[Case, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    found = f"above {SUCCESS:.0f} dB"
    head = [
        "task",
        "settings",
        "PSNR",
        "SSIM",
        "PSNR of the mean",
        "SSIM of the mean",
        "CRPS",
        "spread / error",
        "covered",
        "residual",
        found,
    ]
    head += ["calls", "s", "ratio", "MiB"]
    usual = max((row["images"], row["runs"]) for row in rows.values())
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for case, row in rows.items():
        reference = rows.get(Case(case.task, "DAPS-1K"))
        ratio = f"1/{reference['seconds'] / row['seconds']:.0f}" if reference else ""
        cells = [
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.3f}",
            f"{row['psnr_mean']:.2f}",
            f"{row['ssim_mean']:.3f}",
            f"{1000 * row['crps']:.1f}" if row["crps"] else "",
            f"{row['spread']:.2f}" if row["spread"] else "",
            f"{100 * row['covered']:.0f} %" if row["covered"] else "",
            f"{row['residual']:.2f}",
        ]
        cells += [f"{100 * row['found']:.0f} %", str(row["calls"]), f"{row['seconds']:.2f}", ratio]
        cells.append(f"{row['mebibytes']:.1f}")
        fewer = f" ({row['images']} x {row['runs']})" if (row["images"], row["runs"]) != usual else ""
        yield f"| {case.task} | {case.settings}{fewer} | {' | '.join(cells)} |"


def plot(rows: dict[Case, dict[str, Any]]) -> str:
    """Return an SVG: PSNR against seconds (logarithmic) of one sample, one line a task."""
    width, height, left, bottom = 640, 420, 56, 44
    seconds = np.log10([row["seconds"] for row in rows.values()])
    quality = [row["psnr"] for row in rows.values()]
    x0, x1 = np.floor(seconds.min() * 2) / 2, np.ceil(seconds.max() * 2) / 2 + 0.01
    y0, y1 = np.floor(min(quality)) - 0.5, np.ceil(max(quality)) + 0.5

    def place(row: dict[str, Any]) -> tuple[float, float]:
        x = left + (np.log10(row["seconds"]) - x0) / (x1 - x0) * (width - left - 130)
        return float(x), float(height - bottom - (row["psnr"] - y0) / (y1 - y0) * (height - bottom - 16))

    def text(x: float, y: float, words: str, anchor: str = "start") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(
            left + (width - left - 130) / 2,
            height - 8,
            "seconds a sample (one thread, logarithmic)",
            "middle",
        ),
        text(8, 12, "PSNR, dB"),
    ]
    for exponent in np.arange(x0, x1, 0.5):
        x, _ = place({"seconds": 10**exponent, "psnr": y0})
        parts.append(text(x, height - bottom + 16, f"{10**exponent:.2g}", "middle"))
    for level in np.arange(np.ceil(y0), y1, 2):
        _, y = place({"seconds": 10**x0, "psnr": level})
        parts.append(text(left - 6, y + 4, f"{level:.0f}", "end"))
        parts.append(f'<path d="M{left} {y:.1f}H{width - 130}" stroke="#ddd"/>')
    for task in dict.fromkeys(case.task for case in rows):
        points = sorted(place(row) for case, row in rows.items() if case.task == task)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="#ccc"/>')
        parts.append(text(points[-1][0] + 8, points[-1][1] + 4, task))
    for case, row in rows.items():
        x, y = place(row)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[case.settings]}"/>')
    for number, (name, colour) in enumerate(COLOURS.items()):
        y = 20 + 16 * number
        parts.append(f'<circle cx="{width - 96}" cy="{y - 4}" r="5" fill="{colour}"/>')
        parts.append(text(width - 86, y, name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def document(rows: dict[Case, dict[str, Any]], picture: str) -> str:
    """Return the page of the documentation."""
    row = next(iter(rows.values()))
    due = 100 * coverage_due(row["runs"])
    intro = (
        f"{row['images']} portraits that the prior has not seen, {row['runs']} samples each, 64 x 64 pixels, noise of "
        "standard deviation 0.05. *PSNR* and *SSIM* are those of one sample, the mean over all; *of the mean*: "
        "of the mean of an image's samples. *CRPS*: continuous ranked probability score of a pixel, less is better, in "
        "thousandths: it asks of the samples as a whole that they be near and no less spread than uncertain. "
        "*Spread / error*: the samples' standard deviation against the error of their plain mean, "
        "corrected for their number; 1 is right, less is too sure. *Covered*: how many pixels of the truth "
        f"lie in the interval of an image's samples; {due:.0f} % are due. "
        "*Residual* is in standard deviations of the noise: 1 is what the "
        "true image has, below it the noise is fitted too. *Calls* are network calls of a sample; *s* is processor "
        f"time of a sample, one thread (torch {torch.__version__.partition('+')[0]}); *ratio* is that time against "
        "DAPS-1K; *MiB* is the memory that a sample of a batch takes at the peak, beside the network. The budgets have "
        "no setting for any task; DAPS-1K and DAPS-100 have the published step sizes. Where fewer were measured, "
        "the row tells: (images x samples). What is empty was not measured."
    )
    lines = ["# Budgets against the published settings", ""]
    lines += ["Written by `python -m benchmarks samplers_quality`; do not edit.", "", *fill(intro), ""]
    return "\n".join([*lines, *table(rows), "", f"![PSNR against seconds]({picture})"]) + "\n"


def main(arguments: list[str]) -> int:
    """Run what is asked for and write the page and the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks samplers_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, required=True, help="folder, glob or .npz file of faces")
    parser.add_argument("--held-out", type=int, default=0, help="use the held-out ones of so many only")
    parser.add_argument("--count", type=int, default=8, help="how many images")
    parser.add_argument("--runs", type=int, default=4, help="samples of each image")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="which tasks")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="which settings")
    parser.add_argument(
        "--work", type=Path, default=Path("results/samplers-quality"), help="where rows are kept"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/samplers.md"), help="the page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.work / "images"
    choose(options.images, options.held_out, options.count, folder)
    pictures = np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("face-*.png"))])
    x0 = torch.from_numpy(pictures.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    prior = load_embedded("portraits64", shape=(3, 64, 64), device=CPU)
    stored = options.work / "rows.json"
    known: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    for task in options.tasks:
        for settings in options.settings:
            key = f"{task}/{settings}"
            row = known.get(key)
            if row and (row["images"], row["runs"]) == (len(x0), options.runs):
                continue
            try:
                known[key] = Case(task, settings).row(prior, x0, options.runs)
            except UserError as error:
                print(f"{key} is left out: {error}", file=sys.stderr)
                continue
            print(key, known[key], file=sys.stderr, flush=True)
            write_atomic(stored, json.dumps(known, indent=1).encode())
    order = [(task, settings) for task in TASKS for settings in SETTINGS if f"{task}/{settings}" in known]
    rows = {Case(*pair): known["/".join(pair)] for pair in order}
    picture = options.output.with_suffix(".svg")
    write_atomic(picture, plot(rows).encode())
    text = document(rows, picture.name)
    write_atomic(options.output, text.encode())
    print(text)
    return 0
