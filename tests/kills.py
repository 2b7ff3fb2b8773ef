"""Kills: does a run or a training that is killed at any moment go on to what an unbroken one gives?

    python tests/kills.py --runs 100 --trainings 50 --seed 0

Each is a fork of a process that has the libraries loaded, ended by SIGKILL after a random part of the time that an
unbroken one takes, and begun again by the same call, up to four times before it may end. Then every file is compared
with that of the unbroken one, byte for byte, but for what tells the time. The table has a row for each kind of work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from daps_kit.tables import markdown_table  # noqa: E402

RUN = {
    "format": 1,
    "name": "any",
    "prior": {"use": "gaussian", "std": 0.4},
    "sampler": {
        "use": "daps",
        "annealing": {"levels": 12, "sigma_max": 5.0, "sigma_min": 0.1},
        "kernel": {"use": "langevin", "steps": 8},
    },
    "runs": 3,
    "batch_size": 2,
}
SHAPE = [3, 16, 16]
RUNS: dict[str, dict[str, Any]] = {
    "images, inpainting, trajectory": {
        "data": {"use": "images", "path": "images", "size": 16},
        "operator": {"use": "inpainting", "mask": "random"},
        "trajectory": 3,
    },
    "measurements, motion blur": {
        "data": {"use": "measurement", "path": "y", "image_shape": SHAPE},
        "operator": {"use": "motion_blur", "kernel": "kernel.npy"},
    },
    "draws of the prior, phase retrieval": {
        "data": {"use": "prior", "count": 2, "image_shape": SHAPE},
        "operator": {"use": "phase_retrieval"},
    },
}
TRAININGS: dict[str, dict[str, Any]] = {
    "denoiser": {
        "use": "denoiser", "images": "images.npz", "frame": 16, "validation": 8, "images_seen": 96, "epoch": 24,
        "batch_size": 4, "warm_up": 8, "checkpoint_seconds": 0.03, "bfloat16": False,
        "network": {"components": 2, "channels": [8, 8], "blocks": [1, 1], "embedding": 16, "attention": 1},
    },
    "blur": {
        "use": "blur", "images": "images.npz", "frame": 16, "validation": 4, "pairs_seen": 48, "batch_size": 4,
        "shakes": 2, "epoch": 12, "warm_up": 8, "shapes": 16, "validation_pairs": 4, "checkpoint_seconds": 0.03,
        "network": {"kernel_dim": 12, "modes": 4, "radius": 4, "moments": 32, "width": 8, "hidden": 64},
    },
}  # fmt: skip
"""Trainings that take a second."""

CLOCK = {"images_per_second", "finished", "seconds", "drawn"}
"""What tells the time, and how often a batch was drawn."""


@dataclass
class Tally:
    """What came of the kills of one kind of work.

    Attributes:
        kills: how many.
        early: of those, before anything but the recipe was written.
        ends: how often it was let end.
        wrong: files that were others then, and calls that failed.
    """

    kills: int = 0
    early: int = 0
    ends: int = 0
    wrong: list[str] = field(default_factory=list)


def write_inputs(folder: Path) -> None:
    """Write pictures, measurements and a kernel."""
    from PIL import Image

    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (32, 24, 24, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images)
    np.save(folder / "kernel.npy", np.outer([1.0, 2, 1], [1, 2, 1]) / 16)
    for name in ("images", "y"):
        (folder / name).mkdir()
    for index in range(3):
        Image.fromarray(images[index]).save(folder / "images" / f"{index}.png")
        np.save(folder / "y" / f"{index}.npy", draw.normal(0, 0.3, SHAPE).astype(np.float32))


def works(folder: Path, runs: bool) -> dict[str, Callable[[], object]]:
    """Return what can be done, by its name; each works in `folder / "out"`."""
    import daps_kit
    from daps_kit.runs.train import train_recipe

    found: dict[str, Callable[[], object]] = {}
    for name, content in (RUNS if runs else TRAININGS).items():
        recipe = folder / f"{name.partition(',')[0].replace(' ', '-')}.yaml"
        out = str(folder / "out")
        text = (
            RUN | content | {"output": out} if runs else {"format": 1, "trainer": content | {"output": out}}
        )
        recipe.write_text(yaml.safe_dump(text))
        do = daps_kit.run if runs else train_recipe
        found[name] = lambda do=do, recipe=recipe: do(recipe, quiet=True)  # type: ignore[misc,operator]
    return found


def start(work: Callable[[], object], errors: Path) -> int:
    """Fork a process that does the work; what goes wrong is written to a file."""
    pid = os.fork()
    if pid:
        return pid
    status = 0
    try:
        work()
    except BaseException:  # noqa: BLE001 (the process ends here)
        errors.write_text(traceback.format_exc())
        status = 1
    os._exit(status)


def ended(pid: int, seconds: float) -> bool | None:
    """Wait for a process; return whether it succeeded, or None where it had to be killed after so long."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def contents(out: Path) -> dict[str, object]:
    """Return what must be the same, file by file."""
    return {
        path.relative_to(out).as_posix(): _content(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock" and path.suffix != ".previous"
    }


def _content(path: Path) -> object:
    if path.name == "log.jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name == "weights.safetensors":
        from daps_kit import tensor_file

        tensors, description = tensor_file.read(path)
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, _timeless(description)
    if path.name == "environment.json":
        return _timeless(json.loads(path.read_text()))
    if path.name == "environment.js":
        return _timeless(json.loads(path.read_text().removeprefix("daps.environment(").removesuffix(")\n")))
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in CLOCK}
    return value


def kill(works: dict[str, Callable[[], object]], out: Path, kills: int, seed: int) -> dict[str, Tally]:
    """Kill what is at work so many times in all, and compare what it gives in the end.

    Args:
        works: what is done, by its name.
        out: the folder that it works in.
        kills: how many.
        seed: of the moments.
    """
    draw = random.Random(seed)
    errors = out.with_name("errors.txt")
    tallies = {name: Tally() for name in works}
    whole: dict[str, tuple[dict[str, object], float]] = {}
    for name, work in works.items():
        work()  # in this process, which has all libraries loaded then
        expected = contents(out)
        shutil.rmtree(out)
        begun = time.monotonic()
        if not ended(start(work, errors), 600):
            raise RuntimeError(f"{name} fails unbroken: {errors.read_text()}")
        whole[name] = expected, time.monotonic() - begun
        tallies[name].wrong += _wrong(name, out, expected)
        shutil.rmtree(out)
    left = kills
    while left:
        name = draw.choice(list(works))
        tally, (expected, seconds) = tallies[name], whole[name]
        for _ in range(min(left, draw.randint(1, 4))):
            outcome = ended(start(works[name], errors), draw.uniform(0, seconds))
            if outcome is not None:  # it was faster this time, or failed
                break
            tally.kills, left = tally.kills + 1, left - 1
            tally.early += not [
                path
                for path in out.rglob("*")
                if path.is_file() and path.name not in (".lock", "recipe.yaml")
            ]
        if ended(start(works[name], errors), 600):
            tally.wrong += _wrong(name, out, expected)
        else:
            tally.wrong.append(f"{name}: {errors.read_text() if errors.exists() else 'took too long'}")
        tally.ends += 1
        shutil.rmtree(out, ignore_errors=True)
        errors.unlink(missing_ok=True)
    return tallies


def _wrong(name: str, out: Path, expected: Mapping[str, object]) -> list[str]:
    return [f"{name}: {file} differs" for file in differences(contents(out), expected)]


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    """Return which files are not what they should be, or are there in one only."""
    return [file for file in sorted({*found, *expected}) if found.get(file) != expected.get(file)]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Yield a folder with inputs, in which this process works meanwhile."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_inputs(folder)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def table(tallies: Mapping[str, Tally]) -> str:
    """Return the tallies as a table."""
    columns = ["work", "kills", "before anything was written", "ended", "differences"]
    rows = [
        [name, *map(str, (tally.kills, tally.early, tally.ends, len(tally.wrong)))]
        for name, tally in tallies.items()
    ]
    return "\n".join(markdown_table(columns, rows, left=[0]))


def options(about: str | None, kinds: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return a parser of how many kills of each kind there are to be, by its name and what it is, and of the seed."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, what in kinds.items():
        parser.add_argument(f"--{kind}", type=int, default=10, metavar="KILLS", help=what)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser


def verdict(wrong: Iterable[Sequence[str]]) -> int:
    """Print what is wrong and return the exit code: 1 where anything is."""
    lines = [line for part in wrong for line in part]
    print("\n".join(lines))
    return bool(lines)


def main() -> int:
    """Kill as the command line says, and print the table; 1 where anything differs."""
    given = options(__doc__, {"runs": "of runs", "trainings": "of trainings"}).parse_args()
    import torch

    torch.set_num_threads(1)  # a fork has no other
    tallies: dict[str, Tally] = {}
    with workplace() as folder:
        for runs, kills in ((True, given.runs), (False, given.trainings)):
            if kills:
                tallies |= kill(works(folder, runs=runs), folder / "out", kills, given.seed)
    print(table(tallies))
    return verdict(tally.wrong for tally in tallies.values())


if __name__ == "__main__":
    raise SystemExit(main())
