"""A cell of the benchmark: a task, a method and a picture -> numbers, in a file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from benchmarks.samplers_quality import in_memory
from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_kit.files import write_atomic
from daps_kit.random import stream_seed
from daps_kit.runs.ensemble import crps, posterior_mean, spread_scores
from daps_kit.runs.metrics import psnr, ssim
from daps_kit.runs.perceptual import load_perceptual

from .cases import Form, Picture, case
from .rivals import Rival, photos, rivals

DAPS = "daps"
SAMPLES = 4
LEVEL = 0.9
"""Of the intervals whose coverage is told."""
OURS = Rival(DAPS, lambda case: None, "daps_kit")  # type: ignore[arg-type, return-value]

Judges = Mapping[str, Callable[[Tensor, Tensor], Tensor]]


def perceptual() -> Judges:
    """Return LPIPS, where its weights are there."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    return load_perceptual(["lpips_alex", "lpips_vgg"], torch.device("cpu"), say).distances


def methods_for(task: str) -> list[Rival]:
    """Return all methods of a task, ours first."""
    return [OURS, *(rival for rival in rivals(task) if rival.there)]


def run_cell(
    work: Path,
    form: Form,
    task: str,
    method: Rival,
    picture: Picture,
    training: Sequence[Picture],
    judges: Judges,
) -> None:
    """Restore a picture and write what came of it, unless that is there."""
    file = cell_file(work, form.name, task, method.name, picture.name)
    if file.exists():
        return
    parameters = {} if method.name == DAPS else tuned(work, task, method, training)
    with TemporaryDirectory() as folder:
        measured = case(task, picture, Path(folder))
        photos()  # loaded before anything is timed
        before, start = in_memory(), time.process_time()
        if method.name == DAPS:
            samples, averages, most, calls = ours(measured.operator, measured.y, picture)
        else:
            averages = None
            samples = _tensor(method.restore(measured, **parameters))[None]
            most, calls = in_memory(peak=True), None
        seconds = time.process_time() - start
    row = judge(samples, averages, picture.x, judges) | {
        "task": task,
        "method": method.name,
        "picture": picture.name,
        "size": list(picture.x.shape[1:]),
        "parameters": dict(parameters),
        "calls": calls,
        "seconds": seconds,
        "mebibytes": (most - before) / 2**20,
    }
    write_atomic(file, json.dumps(row, indent=1).encode())
    print(
        f"{form.name} {task} {method.name} {picture.name}: {row['psnr']:.2f} dB, {seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def cell_file(work: Path, form: str, task: str, method: str, picture: str) -> Path:
    """Return where a cell is."""
    return work / form / task.replace(" ", "-").replace("%", "percent") / method / f"{picture}.json"


def ours(operator: Any, y: Tensor, picture: Picture) -> tuple[Tensor, Tensor | None, int, int]:
    """Return samples [4, 3, H, W] by the default sampler, their averages, bytes at the peak and calls of a sample."""
    sampler = build("sampler", {"use": "daps"})
    seeds = [stream_seed(42, "sampler", picture.name, run) for run in range(SAMPLES)]
    batch = y.expand(SAMPLES, *y.shape[1:])
    levels, most = 0, in_memory()
    with torch.no_grad():
        for step in sampler.sample(photos(), operator, batch, RandomStreams(seeds)):
            last, levels = step, step.levels
            most = max(most, in_memory(peak=True))
    return last.x0y, last.average, most, levels


def judge(samples: Tensor, averages: Tensor | None, truth: Tensor, judges: Judges) -> dict[str, Any]:
    """Return the scores of samples [R, 3, H, W] and of the mean with their averages, or of one estimate."""
    mean, x0, found = posterior_mean(samples, averages)[None], truth[None], {}
    for name, image in {"": mean, "sample_": samples[:1]}.items():
        found[f"{name}psnr"] = float(psnr(image, x0))
        found[f"{name}ssim"] = float(ssim(image, x0))
        for metric, distance in judges.items():
            found[f"{name}{metric}"] = float(distance(image.clamp(-1, 1), x0))
    error = (samples[0] - truth).abs().mean()
    found["crps"] = float(crps(samples, truth).mean()) if len(samples) > 1 else float(error)
    scores = spread_scores(samples, truth)
    if scores is not None:
        found["psnr_corrected"], found["range_coverage"] = scores["psnr_corrected"], scores["coverage"]
        found["spread_error"], found["coverage"] = scores["spread_error"], covered(samples, truth)
    return found


def covered(samples: Tensor, truth: Tensor) -> float:
    """Return which share of pixels has the truth in the 90 % interval of Student's t for one more draw.

    With mean m and standard deviation s of R samples it is m -+ t_{R-1} s sqrt(1 + 1/R), which is exact for a Gaussian
    posterior of any R; a range of four samples would be no wider than a 60 % interval.
    """
    count = len(samples)
    half = samples.std(0) * float(student.ppf((1 + LEVEL) / 2, count - 1)) * (1 + 1 / count) ** 0.5
    return float(((truth - samples.mean(0)).abs() <= half).double().mean())


def tuned(work: Path, task: str, method: Rival, training: Sequence[Picture]) -> Mapping[str, Any]:
    """Return the parameters with the least error on training pictures; they are kept in a file."""
    if len(method.candidates) == 1:
        return method.candidates[0]
    file = cell_file(work, "tuning", task, method.name, "chosen")
    if not file.exists():
        errors = []
        for parameters in method.candidates:
            with TemporaryDirectory() as folder:
                errors.append(
                    np.mean(
                        [
                            float(
                                psnr(
                                    _tensor(method.restore(case(task, each, Path(folder)), **parameters))[
                                        None
                                    ],
                                    each.x[None],
                                )
                            )
                            for each in training
                        ]
                    )
                )
        chosen = {
            "parameters": method.candidates[int(np.argmax(errors))],
            "psnr": [[dict(p), float(e)] for p, e in zip(method.candidates, errors, strict=True)],
        }
        write_atomic(file, json.dumps(chosen, indent=1).encode())
    found: Mapping[str, Any] = json.loads(file.read_text())["parameters"]
    return found


def _tensor(unit: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1))).float() * 2 - 1
