"""The photographs of the split `test`, each damaged in its own way and restored, as one picture."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from daps_kit.runs.ensemble import posterior_mean
from daps_kit.runs.metrics import psnr
from daps_kit.runs.pictures import draw_std

from .cases import Form, case, load
from .run import ours

SHOWN = ("denoise 0.2", "blur 1.6", "scratches, text", "down-sampling 2")
COLUMNS = ("truth", "measured", "mean", "a sample", "where samples differ")
SIDE, GAP, LINE = 192, 6, 20


def show(folder: Path, target: Path, form: Form) -> None:
    """Write the picture: a row a photograph, with truth, measurement, mean, a sample and standard deviation.

    Args:
        folder: of the photographs.
        target: a WebP file.
        form: what of each photograph is shown.
    """
    pictures = load(folder, "test", form)
    sheet = Image.new("RGB", (len(COLUMNS) * (SIDE + GAP) - GAP, LINE + len(SHOWN) * (SIDE + LINE)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for column, words in enumerate(COLUMNS):
        pen.text((column * (SIDE + GAP), 3), words, "black", font)
    for row, (task, picture) in enumerate(zip(SHOWN, pictures, strict=False)):
        with TemporaryDirectory() as files:
            measured = case(task, picture, Path(files))
            samples, averages, _, _ = ours(measured.operator, measured.y, picture)
        mean, top = posterior_mean(samples, averages), LINE + row * (SIDE + LINE)
        std = draw_std(samples.std(0)).convert("RGB").crop((0, 0, *picture.x.shape[:0:-1]))
        shown = [_image(picture.x), _image(measured.y[0]), _image(mean), _image(samples[0]), std]
        words = [
            f"{picture.name}, {task}",
            "",
            *(f"{_db(x, picture.x):.1f} dB" for x in (mean, samples[0])),
            "",
        ]
        for column, (image, text) in enumerate(zip(shown, words, strict=True)):
            sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.BOX), (column * (SIDE + GAP), top))
            pen.text((column * (SIDE + GAP), top + SIDE + 2), text, "black", font)
    sheet.save(target, quality=60, method=6)


def _image(x: Tensor) -> Image.Image:
    levels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))


def _db(x: Tensor, truth: Tensor) -> float:
    return float(psnr(x[None], truth[None]))
