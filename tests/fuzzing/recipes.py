"""Mutated recipes and overrides, through the commands `check` and `run`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner
from PIL import Image

from daps_kit.command.main import main
from daps_kit.recipe import installed_recipes
from daps_kit.registry import default_registry

from .mutate import NASTY, WORDS, mutated_bytes, mutated_tree, paths
from .watch import Case, Fault

__all__ = ["name_cases", "recipe_cases", "write_inputs"]

SAMPLER = {
    "use": "daps",
    "annealing": {"use": "edm", "levels": 3, "sigma_max": 5.0, "sigma_min": 0.1},
    "kernel": {"use": "langevin", "steps": 2, "lr": 1.0e-4},
}
GAUSSIAN = {"use": "gaussian", "mean": 0.0, "std": 0.4}
COMMON = {
    "prior": GAUSSIAN,
    "sampler": SAMPLER,
    "runs": 1,
    "seed": 3,
    "batch_size": 2,
    "device": "cpu",
    "trajectory": 0,
}
IMAGES = {"use": "images", "path": "photos", "size": 16}
OWN: list[dict[str, Any]] = [
    {
        "format": 1, "data": IMAGES, **COMMON,
        "operator": {"use": "gaussian_blur", "kernel_size": 5, "noise": {"use": "gaussian", "sigma": 0.1, "quantised": 8}},
    },
    {
        "format": 1, "name": "mine", "data": {"use": "measurement", "path": "y.npy", "image_shape": [3, 16, 16], "white_level": 1.0},
        **COMMON, "operator": {"use": "inpainting", "mask": "mask.npy", "noise": {"use": "poisson_gaussian"}},
    },
    {
        "format": 1, "data": {"use": "prior", "count": 2, "image_shape": [3, 16, 16]}, **COMMON,
        "operator": {"use": "motion_blur", "kernel": "kernel.npy"}, "output": "results/here",
        "tasks": {"plain": {}, "more": {"runs": 2, "operator": {"use": "down_sampling", "factor": 2}}},
    },
    {
        "format": 1, "extends": "base.yaml", "data": IMAGES, "metrics": [], "widen": 1.0,
        "operator": {"use": "phase_retrieval", "oversample": 2.0, "noise": {"use": "laplace"}},
        "sampler": {**SAMPLER, "kernel": {"use": "auto"}, "annealing": {"use": "auto"}, "budget": "fast"},
    },
    {
        "format": 1, "data": {**IMAGES, "limit": 1}, **COMMON,
        "prior": {"use": "mixture", "means": [0.5, -0.5], "std": [0.1, 0.2], "weights": [0.3, 0.7]},
        "operator": {"use": "high_dynamic_range", "noise": {"use": "student_t"}},
    },
    {
        "format": 1, "data": IMAGES, **COMMON,
        "prior": {"use": "tiled", "of": GAUSSIAN, "side": 8}, "operator": {"use": "identity"},
    },
    {"format": 1, "trainer": {"use": "denoiser", "images": "photos", "output": "training/x"}},
]  # fmt: skip
"""Recipes over the files of `write_inputs`, which are built in no time."""
CHARACTERS = "{}[]:,&*!|>'\"%@`#-?~\t\n \0\x1b\x85\u2028\ufeff\udcff<<=é"
TEXTS = (
    "a: &a [*a]\n", "? [a, b]\n: 1\n", "? {c: 1}\n: 2\n", "<<: {a: 1}\n", "a: 1\na: 2\n", "--- \n---\n", "%YAML 9.9\n---\n",
    "&a a: *a\n", "!!python/object/apply:os.system [touch canary]\n", "a: !!binary aGk=\n", "\tseed: 1\n", "name: \"\\ud800\"\n",
    "name: \"\\0\\e[2J\"\n", "tasks: {\"..\": {}, \".\": {}}\n", "tasks: {\"a/b\": {}, \"\": {}, \"~\": null}\n", "1: 2\n", "null: 3\n", "~: 4\n",
    "seed: " + "9" * 5000 + "\n", "seed: 0x" + "f" * 50_000 + "\n", "seed: 1e" + "9" * 5000 + "\n", "seed: " + "[" * 900 + "]" * 900 + "\n",
    "seed: " + "[" * 50_000 + "\n", "seed: " + "{a: " * 2000 + "\n", "seed: " + "- " * 3000 + "1\n", "seed: " + "'" * 9999 + "\n",
    "bomb0: &b0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9)),
    "extends: r.yaml\n", "extends: [base.yaml, base.yaml, r.yaml]\n", "extends: /dev/zero\n", "extends: fifo\n", "extends: photos\n",
    "extends: ~nobody/x.yaml\n", "extends: y.npy\n", "extends: \"\\0\"\n", f"extends: {'e' * 5000}\n", "extends: {a: 1}\n", "k" * 100_000 + "\n",
    *(f"k{'y' * length}: 1\n" for length in (1023, 1025, 100_000)),
)  # fmt: skip
"""Lines that are put into a recipe."""


def write_inputs(folder: Path) -> None:
    """Write pictures, a measurement, a mask, a kernel and a recipe to be extended."""
    draw = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    for name in "ab":
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
            folder / "photos" / f"{name}.png"
        )
    np.save(folder / "y.npy", draw.uniform(-1, 1, (3, 16, 16)).astype(np.float32))
    np.save(folder / "mask.npy", (draw.random((16, 16)) < 0.7).astype(np.float32))
    np.save(folder / "kernel.npy", np.outer([1.0, 2, 1], [1, 2, 1]) / 16)
    (folder / "base.yaml").write_text(
        yaml.safe_dump({"prior": GAUSSIAN, "operator": {"use": "identity"}, "runs": 2})
    )


def recipe_cases(count: int) -> Iterator[Case]:
    """Yield so many recipes: a third of texts, a third of trees, a sixth of overrides, a sixth of installed recipes."""
    kinds = (_text, _tree, _override, _text, _tree, _installed)
    for index in range(count):
        do = kinds[index % len(kinds)]
        yield Case(f"recipes: {do.__name__[1:]}", f"{index}", do)


def name_cases(count: int) -> Iterator[Case]:
    """Yield so many runs with names that mean something to a file system: of tasks, of runs, of pictures, of outputs."""
    for index in range(count):
        yield Case("names of files", f"{index}", _named)


def _text(folder: Path, draw: Random) -> str:
    text = yaml.safe_dump(draw.choice(OWN), sort_keys=False, default_flow_style=draw.choice((None, False)))
    for _ in range(draw.choice((1, 1, 2, 3))):
        lines = text.splitlines(keepends=True) or [""]
        at = draw.randrange(len(lines))
        match draw.randrange(6):
            case 0:
                lines.insert(at, draw.choice(TEXTS))
            case 1:
                del lines[at]
            case 2:
                lines.insert(at, lines[draw.randrange(len(lines))])
            case 3:
                lines.insert(draw.choice((0, len(lines))), draw.choice(TEXTS))
            case _:
                place = draw.randrange(len(lines[at]) + 1)
                lines[at] = (
                    lines[at][:place] + draw.choice(CHARACTERS) * draw.choice((1, 1, 3)) + lines[at][place:]
                )
        text = "".join(lines)
    data = text.encode("utf-8", "surrogateescape")
    match draw.randrange(8):
        case 0:
            data = mutated_bytes(data, draw)
        case 1:
            data = text.encode(draw.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig")), "replace")
    return _check(folder, data)


def _tree(folder: Path, draw: Random) -> str:
    return _check(folder, _dumped(mutated_tree(draw.choice(OWN), draw)))


def _override(folder: Path, draw: Random) -> str:
    recipe = draw.choice(OWN)
    texts = []
    for _ in range(draw.choice((1, 1, 2, 4))):
        key = ".".join(str(part) for part in draw.choice(paths(recipe)))
        if draw.random() < 0.3:
            key = f"{key}.{draw.choice(WORDS)}"
        value = draw.choice(NASTY)
        written = value if isinstance(value, str) else json.dumps(value)
        texts.append(
            draw.choice(
                (
                    f"{key}={written}",
                    f"{key}={written}",
                    f"{key}",
                    f"={written}",
                    written,
                    f"{key}={draw.choice(TEXTS)}",
                )
            )
        )
    return _check(
        folder, _dumped(recipe), *(text.replace("\0", "") for text in texts if not text.startswith("-"))
    )


def _installed(folder: Path, draw: Random) -> str:
    name = draw.choice(sorted(installed_recipes()))
    section = draw.choice(default_registry().components())
    fields = {key: draw.choice(NASTY) for key in section.settings.model_fields if draw.random() < 0.5}
    tree = (
        {section.kind: {"use": section.name, **fields}}
        if draw.random() < 0.7
        else {draw.choice(WORDS): draw.choice(NASTY)}
    )
    return _check(folder, _dumped({"extends": name, **tree}), quick=True)


def _dumped(tree: Any) -> bytes:
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=False)
    return text.encode("utf-8", "surrogatepass")


def _check(folder: Path, data: bytes, *overrides: str, quick: bool = False) -> str:
    write_inputs(folder)
    (folder / "r.yaml").write_bytes(data)
    before = _files(folder)
    result = CliRunner().invoke(main, ["check", *(["--quick"] if quick else []), "--", "r.yaml", *overrides])
    if _files(folder) != before:
        raise Fault("files were written")
    return _judged(result, located=not overrides)


def _judged(result: Any, *, located: bool = False) -> str:
    """Return what came of a command; what it printed must be for the eyes, and name the place of what is wrong in a recipe."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code not in (0, 2):
        raise Fault(f"exit code {result.exit_code}: {result.output[:200]!r}")
    for line in result.output.splitlines():
        if not line.isprintable():
            raise Fault(f"a line that cannot be printed: {line[:200]!r}")
        if "not enough memory" in line:
            raise Fault(f"memory was asked for: {line[:200]}")
        if len(line) > 2000:
            raise Fault(f"a line of {len(line)} letters: {line[:200]!r}")
    if result.exit_code == 0:
        return "valid"
    lines = result.stderr.splitlines()
    if not lines:
        raise Fault("it was refused without a word")
    if lines[0].startswith(("error: ", "warning: ")):  # found when it was built
        return "found at build"
    places = r"(?:r\.yaml|base\.yaml|y\.npy|photos/a\.png):\d+:\d+: " + ("" if located else "|override '")
    for line in lines:
        if not re.match(places, line) and ".yaml:" not in line.split(" ")[0]:
            raise Fault(f"an error without its place: {line[:200]!r}")
    return "refused"


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): ((facts := path.lstat()).st_size, facts.st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def _named(folder: Path, draw: Random) -> str:
    (home := folder / "home" / "work").mkdir(parents=True)
    write_inputs(home)
    word, other = draw.choice(WORDS), draw.choice(WORDS)
    recipe = {**OWN[0], "operator": {"use": "identity"}, "sampler": SAMPLER, "output": "results/r"}
    match draw.randrange(4):
        case 0:
            recipe["tasks"] = {word: {}, other: {}}
        case 1:
            recipe["name"] = word
            del recipe["output"]
        case 2:
            for each in (word, other):
                name = f"{each.replace('/', '-')}.png".encode("utf-8", "surrogatepass")[:200]
                if b"\0" not in name:
                    shutil.copy(home / "photos" / "a.png", bytes(home / "photos") + b"/" + name)
        case 3:
            recipe["tasks"] = {word: {"name": other}}
            del recipe["output"]
    (home / "r.yaml").write_bytes(_dumped(recipe))
    os.chdir(home)
    before = _files(folder)
    result = CliRunner().invoke(main, ["run", "-q", "r.yaml"])
    new = [Path(path) for path, facts in _files(folder).items() if before.get(path) != facts]
    results = home / "results"
    astray = [
        path for path in new if not path.is_relative_to(results) or len(path.relative_to(results).parts) < 2
    ]
    if astray:
        raise Fault(
            f"files outside of their folder: {[str(path.relative_to(folder)) for path in astray[:3]]}"
        )
    return _judged(result)
