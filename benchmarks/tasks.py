"""How well the shipped prior restores faces it has not seen: the eight tasks, one table.

    python -m benchmarks tasks --images faces [--count 16] [KEY=VALUE ...]

`--images` is a folder (or a glob) of faces, or a .npz file with an array `images` uint8 [N, H, W, 3]. With
`--held-out 64` only those images are used that a training with `validation: 64` and `seed: 0` holds out; the 16 are
spread over them. Every task is run by its recipe `embedded/TASK`, four samples an image; KEY=VALUE changes the
recipes, and is written down.
`--astronaut` adds the photograph that ships with the recipes, whose subject the prior has not seen either.

Results are kept in the work folder, sample by sample: the same command goes on where it was broken off, `--tasks` runs
some tasks only, and the table (docs/eight-tasks.md) always shows all that are there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from PIL import Image

from daps_kit import run
from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.runs.metrics import psnr, ssim
from daps_kit.runs.result import RunResult
from daps_kit.tensor_file import read
from daps_priors.trained.prior import WEIGHTS
from daps_priors.training.dataset import load_images, split

TASKS = (
    "down_sampling",
    "inpainting_box",
    "inpainting_random",
    "gaussian_blur",
    "motion_blur",
    "phase_retrieval",
    "nonlinear_blur",
    "high_dynamic_range",
)
ASTRONAUT_TASKS = ("phase_retrieval", "inpainting_box", "gaussian_blur", "motion_blur")
RUNS = 4
SUCCESS = 18.0
"""PSNR in dB above which a face is recognisably found."""
AGREE = 1.02
"""Phase retrieval fails at times, and the residual shows it: the mean is that of samples whose residual is at most so
many times the smallest of their image."""
ROW = "benchmark.json"


def choose(source: Path, held_out: int, count: int, folder: Path) -> list[int]:
    """Write the central 64 x 64 pixels of `count` images as PNG into a folder; return their rows in the source."""
    images = load_images(source, 64) if source.suffix != ".npz" else _central(source)
    rows = np.arange(len(images)) if not held_out else np.array(split(len(images), held_out, 0)[1])
    if len(rows) > count:
        rows = rows[np.linspace(0, len(rows), count, endpoint=False).astype(int)]
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {f"face-{place:02d}.png": images[row] for place, row in enumerate(rows)}
    for file in folder.glob("face-*.png"):
        if file.name not in wanted:
            file.unlink()
    for name, image in wanted.items():
        if image.shape[2] != 3:
            raise UserError(
                f"{source}: the prior knows colour images, these have {image.shape[2]} channel(s)"
            )
        if not (folder / name).exists() or not np.array_equal(np.asarray(Image.open(folder / name)), image):
            Image.fromarray(image).save(folder / name)
    return [int(row) for row in rows]


def _central(source: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the images of an archive, those larger than 64 x 64 cropped: aligned faces keep their scale."""
    with np.load(source, allow_pickle=False) as archive:
        side = min(archive["images"].shape[1:3])
    images = load_images(source, side)
    margin = (side - 64) // 2
    return images[:, margin : margin + 64, margin : margin + 64]


def measure(task: str, folder: Path, overrides: Sequence[str]) -> dict[str, Any] | None:
    """Run a task (or finish it) and return its row; None where the task needs weights that are not there."""
    begun = time.perf_counter()
    fresh = not any(folder.rglob("*.safetensors"))
    changes = [f"runs={RUNS}", *overrides, f"output={json.dumps(str(folder))}"]
    try:
        result = run(f"embedded/{task}", changes)
    except UserError as error:
        if task != "nonlinear_blur":
            raise
        print(f"nonlinear_blur is left out: {error}", file=sys.stderr)
        return None
    seconds = time.perf_counter() - begun
    row = judge(result, AGREE if task == "phase_retrieval" else math.inf)
    # The time of a task that was broken off and gone on with is not known.
    known = _row(folder)
    row["seconds"] = seconds / (len(result.names) * RUNS) if fresh else known["seconds"] if known else None
    row["overrides"] = [text for text in overrides if not text.startswith(("data.", "batch_size="))]
    write_atomic(folder / ROW, json.dumps(row, indent=1).encode())
    return row


def judge(result: RunResult, agree: float) -> dict[str, Any]:
    """Return means over images: of the first sample, of the best by residual, and of the mean of those that agree."""
    samples, truths = result.samples, result.truth
    assert truths is not None
    items = [result.metrics["images"][name] for name in result.names]
    first, best, mean, residuals, found = [], [], [], [], []
    for item, images, truth in zip(items, samples, truths, strict=True):
        records = {record["run"]: record for record in item["samples"]}
        if not records:
            continue
        least = min(record["residual"] for record in records.values())
        agreeing = [r for r, record in records.items() if record["residual"] <= agree * least]
        average = images[agreeing].mean(0, keepdim=True)
        first.append(records[min(records)])
        best.append(min(records.values(), key=lambda record: record["residual"]))
        mean.append({"psnr": float(psnr(average, truth[None])), "ssim": float(ssim(average, truth[None]))})
        residuals.append(best[-1]["residual"])
        found += [record["psnr"] > SUCCESS for record in records.values()]

    def average_of(records: list[dict[str, float]]) -> dict[str, float]:
        return {key: math.fsum(r[key] for r in records) / len(records) for key in ("psnr", "ssim")}

    return {
        "images": len(items),
        "one": average_of(first),
        "best": average_of(best),
        "mean": average_of(mean),
        "residual": math.fsum(residuals) / len(residuals),
        "found": sum(found) / (len(items) * RUNS),
        "lost": len(items) * RUNS - len(found),
    }


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return rows as the lines of a Markdown table."""
    lines = [
        "| task | one sample: PSNR / SSIM | best of 4 by residual | posterior mean | residual | s a sample | "
        f"runs above {SUCCESS:.0f} dB |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, row in rows.items():
        cells = [f"{row[key]['psnr']:.2f} / {row[key]['ssim']:.3f}" for key in ("one", "best", "mean")]
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        cells += [f"{row['residual']:.2f}", seconds, f"{100 * row['found']:.0f} %"]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return lines


def document(work: Path) -> str:
    """Return docs/eight-tasks.md from what lies in the work folder."""
    faces = {task: row for task in TASKS if (row := _row(work / "faces" / task))}
    astronaut = {task: row for task in TASKS if (row := _row(work / "astronaut" / task))}
    description = read(WEIGHTS / "portraits64.safetensors")[1]
    training = description["training"]
    processor = platform.processor() or platform.machine()
    count = max((row["images"] for row in faces.values()), default=0)
    lines = [
        "# Eight tasks with the prior that ships with the package",
        "",
        "Written by `python -m benchmarks tasks`; do not edit.",
        "",
        *fill(
            f"{count} faces that the prior has not seen, {RUNS} samples each, 64 x 64 pixels, noise of standard "
            "deviation 0.05 in [-1, 1], by the recipes `embedded/TASK`. Weights: "
            f"{training['images_seen']:,} images seen, finished {training['finished'][:10]}. *Best of 4* is the "
            "sample with the smallest residual: no truth is needed to choose it. *Posterior mean* is the mean of all "
            f"samples; of phase retrieval, which fails at times, of those whose residual is at most {AGREE} times the "
            "smallest. *Residual* is that of the best sample, in standard deviations of the noise. Seconds: torch "
            f"{torch.__version__.partition('+')[0]}, {torch.get_num_threads()} thread(s) of {os.cpu_count()} "
            f"{processor} cores that had other work too."
        ),
        "",
        *table(faces),
    ]
    if astronaut:
        lines += [
            "",
            *fill(
                "The photograph of an astronaut that ships with the recipes: a younger person, in other clothes and "
                "before another background than those the prior was trained on."
            ),
            "",
            *table(astronaut),
        ]
    changed: dict[str, list[str]] = {}
    for task, row in [*faces.items(), *astronaut.items()]:
        changed.setdefault(" ".join(row["overrides"]), []).append(task)
    for overrides, tasks in changed.items():
        if overrides:
            lines += ["", *fill(f"Changed in the recipes {', '.join(dict.fromkeys(tasks))}: `{overrides}`.")]
    missing = [task for task in TASKS if task not in faces]
    if missing:
        lines += ["", f"Not measured here: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def fill(text: str) -> list[str]:
    """Return a paragraph as lines."""
    return wrap(text, 118, break_long_words=False, break_on_hyphens=False)


def _row(folder: Path) -> dict[str, Any] | None:
    file = folder / ROW
    row: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
    return row


def main(arguments: list[str]) -> int:
    """Run the tasks and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tasks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, help="folder, glob or .npz file of faces")
    parser.add_argument("--held-out", type=int, default=0, help="use the held-out ones of so many only")
    parser.add_argument("--count", type=int, default=16, help="how many images")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=None, help="which; all by default")
    parser.add_argument("--astronaut", action="store_true", help="run the shipped photograph too")
    parser.add_argument(
        "--work", type=Path, default=Path("results/eight-tasks"), help="where results are kept"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/eight-tasks.md"), help="the table")
    options, changes = parser.parse_known_args(arguments)
    unknown = [text for text in changes if text.startswith("-") or "=" not in text]
    if unknown:
        parser.error(f"expected KEY=VALUE, got {' '.join(unknown)}")
    try:
        if options.images:
            folder = options.work / "images"
            rows = choose(options.images, options.held_out, options.count, folder)
            print(f"images: rows {', '.join(map(str, rows))}", file=sys.stderr)
            for task in options.tasks or TASKS:
                data = [f"data.path={json.dumps(str(folder.absolute()))}"]
                measure(task, options.work / "faces" / task, [*data, *changes])
                write_atomic(options.output, document(options.work).encode())
        for task in (options.tasks or ASTRONAUT_TASKS) if options.astronaut else ():
            measure(task, options.work / "astronaut" / task, changes)
            write_atomic(options.output, document(options.work).encode())
        text = document(options.work)
        write_atomic(options.output, text.encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0
