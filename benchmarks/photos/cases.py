"""The tasks of the benchmark of photographs: for each picture an operator, and what it measures.

Blurs and down-sampling have noise of standard deviation 0.02 in [-1, 1]. What is hidden is hidden in a picture of 8
bits, whose rounding is the noise. Masks and noise are seeded by the task and by the picture's name, so that every
method sees the same.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from daps_kit import build
from daps_kit.contracts import Operator, RandomStreams
from daps_kit.errors import UserError
from daps_kit.images import encode_png
from daps_kit.random import stream_seed
from daps_operators.linear_motion import linear_motion

SIGMA = 0.02
ROUNDING = 2 / 255 / math.sqrt(12)
MOTION = (21, 30)
"""Pixels and degrees of the motion."""
COVERED = (0.05, 0.15)
"""Share of a picture under scratches and text."""
HOLE = 32


@dataclass(frozen=True)
class Form:
    """Which pictures are taken, and how much of them.

    Attributes:
        name: of the form.
        side: of the central square; None for whole pictures.
        count: how many pictures at most.
    """

    name: str
    side: int | None
    count: int

    @classmethod
    def named(cls, name: str) -> Form:
        """Return a form by its name."""
        return {f.name: f for f in FORMS}[name]


FORMS = (
    Form("small", 128, 5),
    Form("central", 256, 10),
    Form("whole", None, 2),
    Form("shown", 192, 4),
    Form("tuning", 128, 2),
)


@dataclass(frozen=True)
class Picture:
    """A photograph.

    Attributes:
        name: of its file.
        x: [3, H, W] in [-1, 1].
    """

    name: str
    x: Tensor


def load(folder: Path, split: str, form: Form) -> list[Picture]:
    """Return pictures of a split, spread over it where there are more than the form takes.

    Raises:
        UserError: `photos.csv` is missing or names none.
    """
    table = folder / "photos.csv"
    if not table.is_file():
        raise UserError(f"no such file: {table}; it names the photographs, in columns file and split")
    with table.open(newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["split"] == split]
    if not names:
        raise UserError(f"{table} names no photograph of the split {split}")
    pictures: list[Picture] = []
    places = np.linspace(0, len(names), min(form.count, len(names)), endpoint=False).astype(int)
    for name in [names[place] for place in places] if form.side else names:
        image = Image.open(folder / name).convert("RGB")
        if form.side:
            left, top = ((n - form.side) // 2 for n in image.size)
            if min(left, top) < 0:
                # Smaller than the square: enlarging would invent pixels, so the square is filled by its mirror image.
                image = _mirrored(image, form.side)
                left, top = ((n - form.side) // 2 for n in image.size)
            image = image.crop((left, top, left + form.side, top + form.side))
        elif image.size[0] * image.size[1] > 200_000 or len(pictures) == form.count:
            continue
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
        pictures.append(Picture(Path(name).stem, values / 127.5 - 1))
    return pictures


def _mirrored(image: Image.Image, side: int) -> Image.Image:
    values = np.asarray(image)
    missing = [max(0, side - n) for n in values.shape[:2]]
    pads = [(m // 2, m - m // 2) for m in missing]
    return Image.fromarray(np.pad(values, [*pads, (0, 0)], mode="symmetric"))


@dataclass(frozen=True)
class Case:
    """A picture, measured.

    Attributes:
        task: its name.
        operator: what measures.
        y: the measurement, [1, ...].
        sigma: standard deviation of Gaussian noise; 0 where it is none.
        kernel: of a blur, [h, w] of sum 1.
        hidden: of what is filled, [H, W].
        factor: of down-sampling.
        peak: of photons.
        scale: of exposure.
    """

    task: str
    operator: Operator
    y: Tensor
    sigma: float = 0.0
    kernel: NDArray[np.float64] | None = None
    hidden: NDArray[np.bool_] | None = None
    factor: int = 1
    peak: float = 0.0
    scale: float = 1.0

    @property
    def seen(self) -> NDArray[np.float64]:
        """The measurement as a picture, [h, w, 3] in [0, 1] but for noise."""
        return (self.y[0].double().numpy().transpose(1, 2, 0) + 1) / 2


Maker = Callable[[tuple[int, int], np.random.Generator, Path], tuple[dict[str, Any], dict[str, Any]]]
"""(H, W), randomness and a folder for files -> the operator's section, and what else a case holds."""


def _denoise(sigma: float) -> Maker:
    return lambda size, rng, folder: (
        {"use": "identity", "noise": {"use": "gaussian", "sigma": sigma}},
        {"sigma": sigma},
    )


def _gaussian(intensity: float) -> Maker:
    def make(
        size: tuple[int, int], rng: np.random.Generator, folder: Path
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        side = 2 * math.ceil(4 * intensity) + 1
        taps = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * intensity**2))
        section = {"use": "gaussian_blur", "kernel_size": side, "intensity": intensity}
        kernel = np.outer(taps, taps) / taps.sum() ** 2
        return section | {"noise": {"use": "gaussian", "sigma": SIGMA}}, {"sigma": SIGMA, "kernel": kernel}

    return make


def _motion(
    size: tuple[int, int], rng: np.random.Generator, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    length, angle = MOTION
    section = {"use": "linear_motion_blur", "length": float(length), "angle": float(angle)}
    kernel = linear_motion(length, angle)
    return section | {"noise": {"use": "gaussian", "sigma": SIGMA}}, {"sigma": SIGMA, "kernel": kernel}


def _smaller(factor: int) -> Maker:
    return lambda size, rng, folder: (
        {"use": "down_sampling", "scale_factor": factor, "noise": {"use": "gaussian", "sigma": SIGMA}},
        {"sigma": SIGMA, "factor": factor},
    )


def _hidden(draw: Callable[[tuple[int, int], np.random.Generator], NDArray[np.bool_]]) -> Maker:
    def make(
        size: tuple[int, int], rng: np.random.Generator, folder: Path
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        hidden = draw(size, rng)
        (folder / "mask.png").write_bytes(encode_png(Image.fromarray(~hidden)))
        section = {"use": "inpainting", "mask": str((folder / "mask.png").absolute())}
        noise = {"noise": {"use": "gaussian", "sigma": ROUNDING}}
        return section | noise, {"sigma": ROUNDING, "hidden": hidden}

    return make


def _scattered(share: float) -> Callable[[tuple[int, int], np.random.Generator], NDArray[np.bool_]]:
    return lambda size, rng: rng.random(size) < share


def _hole(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    hidden = np.zeros(size, bool)
    top, left = ((n - HOLE) // 2 for n in size)
    hidden[top : top + HOLE, left : left + HOLE] = True
    return hidden


def scratches(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw scratches of 1 to 9 pixels and words over a picture, until 5 to 15 % of it are covered."""
    height, width = size
    wanted = rng.uniform(*COVERED)
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    covered = np.asarray(canvas).copy()
    while covered.mean() < wanted:
        before = canvas.copy()
        start = rng.uniform(0, (width, height))
        if rng.random() < 0.5:
            steps = rng.normal(0, 12, (6, 2)) + rng.normal(0, 12, 2)
            points = [tuple(point) for point in start + np.cumsum(steps, 0)]
            pen.line(points, fill=1, width=int(rng.integers(1, 10)), joint="curve")
        else:
            font = ImageFont.load_default(size=float(rng.integers(14, 29)))
            words = "".join(rng.choice(list("abcdefghknoprstuvw 0123456789"), 9))
            pen.text(tuple(start - (40, 10)), words, fill=1, font=font)
        covered = np.asarray(canvas).copy()
        if covered.mean() > COVERED[1]:
            canvas.paste(before)
            covered = np.asarray(canvas).copy()
    return covered


def _photons(peak: float) -> Maker:
    return lambda size, rng, folder: (
        {"use": "identity", "noise": {"use": "poisson", "peak": peak}},
        {"peak": peak},
    )


def _exposed(
    size: tuple[int, int], rng: np.random.Generator, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    section = {"use": "high_dynamic_range", "scale": 2.0, "noise": {"use": "gaussian", "sigma": SIGMA}}
    return section, {"sigma": SIGMA, "scale": 2.0}


TASKS: dict[str, Maker] = {
    "denoise 0.1": _denoise(0.1),
    "denoise 0.2": _denoise(0.2),
    "blur 1.6": _gaussian(1.6),
    "blur 3": _gaussian(3.0),
    "motion 21": _motion,
    "down-sampling 2": _smaller(2),
    "down-sampling 4": _smaller(4),
    "50 % missing": _hidden(_scattered(0.5)),
    "80 % missing": _hidden(_scattered(0.8)),
    "scratches, text": _hidden(scratches),
    "hole": _hidden(_hole),
    "50 photons": _photons(50),
    "10 photons": _photons(10),
    "HDR": _exposed,
}


def case(task: str, picture: Picture, folder: Path) -> Case:
    """Return a picture measured as a task has it.

    Args:
        task: its name.
        picture: the photograph.
        folder: for the files that the operator reads.
    """
    size = (picture.x.shape[1], picture.x.shape[2])
    seed = stream_seed(42, task, picture.name)
    section, known = TASKS[task](size, np.random.default_rng(seed), folder)
    operator = build("operator", section, shape=(3, *size))
    y = operator.measure(picture.x[None], RandomStreams([seed]))
    return Case(task, operator, y, **known)
