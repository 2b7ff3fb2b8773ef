"""How long a run of thousands of images takes to go on, and how much memory it takes.

    python -m benchmarks large_runs [--images 10000] [--size 16] [--folder FOLDER]

A folder is made in which all samples but one are finished: pictures of noise, denoised under a Gaussian prior, the
samples written as a run writes them. Then the run goes on, in a process of its own: `start` is the time from the
command to the first batch and `processor` what of it was spent computing, `all` the time to the end, with metrics,
pictures and page, and `memory` the most that the process held. The same for a tenth of the images: memory must not grow
with their number. Exit code 1 if a promise (`PROMISED`) is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from daps_kit.runs.cost import Cost
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.progress import RunDisplay
from daps_kit.runs.runner import run

PROMISED = {"start": 10.0, "memory": 64.0}
"""Seconds to the first batch at 10,000 images; MiB that they may take more than a tenth of them."""

RECIPE = """format: 1
data: {{use: images, path: {folder}/images}}
prior: {{use: gaussian, mean: 0.0, std: 0.4}}
operator: {{use: identity, noise: {{use: gaussian, sigma: 0.2}}}}
batch_size: 8
output: {folder}/results
"""


class Measured(Exception):
    """The moment was reached that is waited for."""


class Watch(RunDisplay):
    """Notes when the first batch begins; with `stop`, the run then ends."""

    def __init__(self, stop: bool = False) -> None:
        super().__init__(quiet=True)
        self.stop = stop
        self.started: tuple[float, float] | None = None

    def begin(self, batch: int) -> None:
        """Note the time."""
        self.started = self.started or (time.perf_counter(), time.process_time())
        if self.stop:
            raise Measured


def make(folder: Path, images: int, size: int) -> Path:
    """Make the folder of a run that lacks the sample of its last image; return its recipe."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for index in range(images):
        levels = draw.normal(127.5, 50, (size, size, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"images/image-{index:05d}.png")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder.absolute()))
    try:
        run(recipe, progress=Watch(stop=True))
    except Measured:
        results = RunFolder(folder / "results")
    for index in range(images - 1):
        name = f"image-{index:05d}"
        y, _ = results.measured(name)
        results.write_sample(name, 0, Sample(0.8 * y, cost=Cost(20.0, 0.0, 0.0)))
    return recipe


def go_on(recipe: Path) -> dict[str, float]:
    """Go on with a run; return what is measured, in seconds and MiB."""
    began, watch = (time.perf_counter(), time.process_time()), Watch()
    result = run(recipe, progress=watch)
    assert watch.started is not None, "there was nothing to be drawn"
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    page = [path.stat().st_size for path in (result.path / "report").iterdir()]
    return {
        "start": watch.started[0] - began[0],
        "processor": watch.started[1] - began[1],
        "all": time.perf_counter() - began[0],
        "memory": held,
        "largest file of the page": max(page) / 2**20,
    }


def main(arguments: list[str]) -> int:
    """Make the folders and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks large_runs", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to make the results, which are kept there")
    parser.add_argument("--go-on", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.go_on:
        print(json.dumps(go_on(chosen.go_on)))
        return 0
    with tempfile.TemporaryDirectory() as made:
        found = {}
        for images in (chosen.images // 10, chosen.images):
            recipe = make((chosen.folder or Path(made)) / str(images), images, chosen.size)
            command = [sys.executable, "-m", "benchmarks", "large_runs", "--go-on", str(recipe)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[images] = json.loads(told)
            print(
                f"{images} images:", ", ".join(f"{key} {value:.1f}" for key, value in found[images].items())
            )
    few, many = found.values()
    more = many["memory"] - few["memory"]
    print(f"memory: {more:.1f} MiB more")
    return int(many["start"] > PROMISED["start"] or more > PROMISED["memory"])
