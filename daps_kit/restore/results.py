"""From a finished run to restored pictures, in the form of the one that it began with.

    OUTPUT/NAME.png                  the posterior mean: of all pictures the one nearest to the truth on average
    OUTPUT/NAME/sample-1.png ...     the samples, any of which may be true
    OUTPUT/NAME/uncertainty.png      the standard deviation of the samples in colour, with its scale
    OUTPUT/NAME/before-after.png     the picture beside its mean

The folder OUTPUT/NAME is that of the run (see `daps_kit.runs.folder`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.images import encode_png
from daps_kit.parameters import KERNEL
from daps_kit.runs.pictures import draw_kernel, draw_std
from daps_kit.runs.result import RunResult

from .picture import Picture
from .recipe import Draft, Wishes

__all__ = ["advice", "begun", "found", "write"]


@contextlib.contextmanager
def begun(draft: Draft, output: Path | None = None) -> Iterator[None]:
    """Write a recipe and what it needs, unless they are there; where nothing comes of it they are taken away again.

    Args:
        draft: the recipe.
        output: where results will be; None where it is not run.

    Raises:
        UserError: something else is there.
    """
    files = {**draft.files, draft.path: draft.text.encode()}
    for path, content in files.items():
        if path.exists() and not (path.is_file() and path.read_bytes() == content):
            raise UserError(f"{path} is there, and is of something else; choose another name or move it away")
    runs = {} if output is None else {name: output / name / "recipe.yaml" for name in draft.names}
    for name, run in runs.items():
        target = run.parents[1] / f"{name}.png"
        if target.exists() and not run.exists():
            raise UserError(f"{target} is there, and was not restored here; choose another --output")
    fresh = [path for path in files if not path.exists()]
    for path in fresh:
        write_atomic(path, files[path])
    try:
        yield
    except UserError:
        if not any(run.exists() for run in runs.values()):
            for path in fresh:
                path.unlink(missing_ok=True)
        raise


def advice(picture: Picture, result: RunResult, wishes: Wishes) -> str:
    """Return what to try where the samples say that the noise is not what it was estimated to be; empty elsewhere."""
    (item,) = result.metrics["images"].values()
    noise = item.get("noise") or {}
    words = {"overstated": "less detail may be lost", "understated": "less noise may be left"}
    if wishes.denoise is not None or wishes.counts is not None or noise.get("cause") not in words:
        return ""
    if picture.coarse_colours and noise["cause"] == "overstated" and noise["ratio"] > COARSE:
        return ""
    # A grey picture that is measured in each of three channels has their noise together.
    level = noise["level"] / math.sqrt(result.samples[0].shape[1] / len(picture.seen))
    return f"{picture.path}: the noise was estimated; with --denoise {level:.2g} {words[noise['cause']]}"


COARSE = 0.5
"""Share of the stated noise above which a file with coarse colours is as was estimated: without their fine noise it has
0.6 of that of its brightness, and the samples of a noisy photograph tell 0.55."""


WORDS = {
    "intensity": "the blur",
    "length": "the motion",
    "angle": "its angle",
    "noise.sigma": "the noise",
}
"""What is called what, of that which `auto` leaves open."""


SURE = 0.9
"""The agreement of the samples' kernels from which the kernel was found, as a rule."""


def found(picture: Picture, result: RunResult) -> str:
    """Return what the samples say of what was not known, with the interval of 90 %; empty where all was."""
    (item,) = result.metrics["images"].values()
    said = []
    for name, each in item.get("parameters", {}).items():
        low, high = each["interval"] or (each["mean"], each["mean"])
        said.append(f"{WORDS.get(name, name)} is {each['mean']:.3g} ({low:.3g} to {high:.3g})")
    if kernel := item.get(KERNEL):
        sure = kernel["agreement"]
        doubt = "" if sure is None or sure >= SURE else ": look at it with doubt"
        said.append(
            "the kernel is in kernel.png" + ("" if sure is None else f", samples agree to {sure:.2f}{doubt}")
        )
    return f"{picture.path}: {', '.join(said)}" if said else ""


def write(picture: Picture, result: RunResult, wishes: Wishes, output: Path, name: str) -> Path:
    """Write the pictures of a run and return the mean's path.

    Args:
        picture: what was restored.
        result: of its run.
        wishes: what was to be done.
        output: the folder of all results.
        name: of the picture.
    """
    posterior = result[0]
    alive = posterior.samples[posterior.samples.isfinite().flatten(1).all(1)]
    kept = wishes.kept(picture)
    mean = picture.in_form(posterior.mean.numpy(), kept, wishes.holes)
    target, folder = output / f"{name}.png", output / name
    for number, sample in enumerate(alive, 1):
        one = picture.in_form(sample.numpy(), kept, wishes.holes)
        write_atomic(folder / f"sample-{number}.png", picture.encode(one))
    if len(alive) > 1:
        write_atomic(folder / "uncertainty.png", encode_png(draw_std(alive.std(0))))
    (item,) = result.metrics["images"].values()
    if kernel := item.get(KERNEL):
        write_atomic(folder / "kernel.png", encode_png(draw_kernel(kernel)))
    write_atomic(folder / "before-after.png", picture.beside([picture.own_form(), mean]))
    write_atomic(target, picture.encode(mean))
    return target
