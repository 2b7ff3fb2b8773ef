"""Pictures of a run: its grid, trajectory strips, the standard deviation in colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from daps_kit.colours import colour_map
from daps_kit.images import to_uint8

__all__ = ["Row", "draw_grid", "draw_kernel", "draw_std", "draw_strip", "strip_size"]

CELL = 192
MAX_ROWS, MAX_SAMPLES = 8, 4
_GAP, _MARGIN = 10, 28
STRIP_LEFT, STRIP_TOP = 70, 40
_INK, _FAINT, _ACCENT, _PAPER, _EMPTY = "#1d2733", "#6b7785", "#0b7a75", "#ffffff", "#eef1f4"


@dataclass(frozen=True)
class Row:
    """An item of the grid.

    Attributes:
        name: of the item.
        truth: the true image [C, H, W], where it is known.
        measurement: a picture of y, [C, h, w].
        samples: run and sample [C, H, W] of those to show.
        mean, std: over all runs, [C, H, W]; None for a single run.
        scores: what `metrics.score` gave.
    """

    name: str
    truth: Tensor | None
    measurement: Tensor
    samples: Sequence[tuple[int, Tensor]]
    mean: Tensor | None
    std: Tensor | None
    scores: dict[str, Any]


# --- colour ------------------------------------------------------------------------------------------------------


def _std_scale(std: Tensor) -> tuple[Tensor, float]:
    """Return the standard deviation of the pixels over the channels [H, W], and the value shown brightest."""
    pixels = std.detach().float().cpu().square().mean(0).sqrt()
    return pixels, max(
        float(torch.quantile(pixels.flatten()[:: max(1, pixels.numel() // 1_000_000)], 0.995)), 1e-6
    )


def _std_picture(std: Tensor) -> tuple[Image.Image, float]:
    pixels, top = _std_scale(std)
    index = (pixels / top * 255).clamp(0, 255).round().to(torch.uint8).numpy()
    return Image.fromarray(colour_map()[index]), top


# --- drawing -----------------------------------------------------------------------------------------------------


@lru_cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: str, anchor: str = "la"
) -> None:
    draw.text(place, text, font=_font(size), fill=fill, anchor=anchor)


def _shorten(text: str, size: int, width: int) -> str:
    while len(text) > 1 and _font(size).getlength(text) > width:
        text = text[:-2] + "…"
    return text


def _picture(image: Tensor) -> Image.Image:
    levels = to_uint8(image)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).convert("RGB")


def _size_in_cell(width: int, height: int) -> tuple[int, int]:
    ratio = CELL / max(width, height)
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def _scaled(picture: Image.Image, smooth: bool = True) -> Image.Image:
    """Return the picture with its long side as long as a cell."""
    enlarging = max(picture.size) < CELL and not smooth
    return picture.resize(
        _size_in_cell(*picture.size), Image.Resampling.NEAREST if enlarging else Image.Resampling.LANCZOS
    )


@dataclass(frozen=True)
class _Cell:
    picture: Image.Image | None
    caption: str = ""
    marked: bool = False
    bar: bool = False


def _scale(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, top: str, x: int, y: int, width: int, times: int = 1
) -> None:
    """Draw the colours from 0 to a number, `width` wide in all; letters are so many times as large as elsewhere."""
    size, gap = 14 * times, 6 * times
    left, right = (math.ceil(_font(size).getlength(text)) + gap for text in ("0", top))
    bar = Image.fromarray(colour_map()[None]).resize((width - left - right, 10 * times))
    canvas.paste(bar, (x + left, y + 3 * times))
    _text(draw, (x, y), "0", size, _FAINT)
    _text(draw, (x + width, y), top, size, _FAINT, "ra")


def _quality(record: dict[str, Any] | None) -> str:
    """Return the caption of an image: its PSNR, or without a truth its residual; empty where neither is known."""
    if not record:
        return ""
    if "psnr" in record:
        return f"{record['psnr']:.2f} dB"
    return f"residual {record['residual']:.2f}" if math.isfinite(record["residual"]) else ""


def _cells(row: Row) -> dict[str, _Cell]:
    """Return the cells of a row by the heading of their column."""
    cells = {"measurement": _Cell(_scaled(_picture(row.measurement), smooth=False))}
    if row.truth is not None:
        cells = {"truth": _Cell(_scaled(_picture(row.truth))), **cells}
    records = {record["run"]: record for record in row.scores["samples"]}
    reported = (row.scores["reported"] or {}).get("run")
    for place, (run, x0) in enumerate(row.samples):
        alive = run in records
        caption = _quality(records.get(run)) if alive else "lost"
        cells[f"sample {place + 1}"] = _Cell(
            _scaled(_picture(x0)) if alive else None,
            caption if run == place else f"{caption} (sample {run + 1})",
            marked=run == reported and len(row.samples) > 1,
        )
    if row.mean is not None:
        cells["mean"] = _Cell(_scaled(_picture(row.mean)), _quality(row.scores["posterior_mean"]))
    if row.std is not None:
        picture, top = _std_picture(row.std)
        cells["standard deviation"] = _Cell(_scaled(picture, smooth=False), f"{top:.2g}", bar=True)
    return cells


def _paste(canvas: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, x: int, y: int, height: int) -> None:
    """Draw a cell with its caption; `height` is that of the row's pictures."""
    if cell.picture is None:
        draw.rectangle((x, y, x + CELL - 1, y + height - 1), fill=_EMPTY)
        _text(draw, (x + CELL / 2, y + height / 2), cell.caption, 16, _FAINT, "mm")
        return
    left, top = x + (CELL - cell.picture.width) // 2, y + (height - cell.picture.height) // 2
    canvas.paste(cell.picture, (left, top))
    if cell.marked:
        edge = (left - 4, top - 4, left + cell.picture.width + 3, top + cell.picture.height + 3)
        draw.rectangle(edge, outline=_ACCENT, width=3)
    baseline = y + height + 8
    if cell.bar:
        _scale(canvas, draw, cell.caption, x, baseline, CELL)
    else:
        _text(draw, (x + CELL / 2, baseline), cell.caption, 14, _ACCENT if cell.marked else _FAINT, "ma")


def _note(rows: Sequence[Row]) -> str:
    """Return what the mean is for, and which sample is framed."""
    ways = dict.fromkeys(row.scores["reported_by"] for row in rows if row.scores["reported"])
    framed = {"medoid": "the nearest to the others", "residual": "that of the smallest residual"}
    which = " or ".join(framed[way] for way in ways)
    return f"The mean has the least error; a sample looks like an image. Framed: {which}." if which else ""


def draw_grid(sections: Sequence[tuple[str, Sequence[Row]]], title: str) -> Image.Image:
    """Return the picture that shows a run: a row an image, with truth, measurement, samples, mean and deviation.

    Args:
        sections: heading and rows; at most `MAX_ROWS` rows of each and `MAX_SAMPLES` samples are shown.
        title: the first line; none where it is empty.
    """
    tables = [(heading, rows, [_cells(row) for row in rows[:MAX_ROWS]]) for heading, rows in sections]
    used = {column for _, _, table in tables for cells in table for column in cells}
    order = [
        "truth",
        "measurement",
        *(f"sample {i + 1}" for i in range(MAX_SAMPLES)),
        "mean",
        "standard deviation",
    ]
    columns = [column for column in order if column in used]
    single = "sample 2" not in used
    note = "" if single else _note([row for _, rows in sections for row in rows])

    def height(cells: dict[str, _Cell]) -> int:
        return max((cell.picture.height for cell in cells.values() if cell.picture), default=CELL)

    above = 36 if title else 0
    caption, heading_height, header = 34, 40, above + (60 if note else 36)
    body = sum(
        (heading_height if heading else 0) + sum(height(cells) + caption for cells in table)
        for heading, _, table in tables
    )
    width = 2 * _MARGIN + len(columns) * (CELL + _GAP) - _GAP
    canvas = Image.new("RGB", (max(width, 480), header + 28 + body + _MARGIN - 8), _PAPER)
    draw = ImageDraw.Draw(canvas)
    inner = canvas.width - 2 * _MARGIN
    _text(draw, (_MARGIN, _MARGIN - 6), _shorten(title, 26, inner), 26, _INK)
    _text(draw, (_MARGIN, _MARGIN - 6 + above), _shorten(note, 15, inner), 15, _FAINT)
    y = header
    for index, column in enumerate(columns):
        x = _MARGIN + index * (CELL + _GAP)
        label = "sample" if single and column == "sample 1" else column
        _text(draw, (x + CELL / 2, y), label, 16, _INK, "ma")
    y += 28
    for heading, rows, table in tables:
        if heading:
            draw.line((_MARGIN, y + 4, canvas.width - _MARGIN, y + 4), fill="#d5dbe1", width=1)
            _text(draw, (_MARGIN, y + 12), _shorten(heading.replace("_", " "), 17, inner), 17, _INK)
            y += heading_height
        for row, cells in zip(rows, table, strict=False):
            tall = height(cells)
            for index, column in enumerate(columns):
                if column in cells:
                    _paste(canvas, draw, cells[column], _MARGIN + index * (CELL + _GAP), y, tall)
            first = columns.index("truth" if "truth" in cells else "measurement") * (CELL + _GAP)
            _text(
                draw,
                (_MARGIN + first + CELL / 2, y + tall + 8),
                _shorten(row.name, 14, CELL),
                14,
                _FAINT,
                "ma",
            )
            y += tall + caption
    return canvas


def draw_std(std: Tensor) -> Image.Image:
    """Return a standard deviation [C, H, W] in colour (root mean square over the channels), with its scale."""
    picture, top = _std_picture(std)
    picture = _scaled(picture, smooth=False) if max(picture.size) < CELL else picture
    width = max(picture.width, CELL)
    times = max(1, round(width / 512))  # what is larger than a screen is shown smaller, its scale with it
    canvas = Image.new("RGB", (width, picture.height + 34 * times), _PAPER)
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    _scale(canvas, draw, f"{top:.2g}", 4 * times, picture.height + 8 * times, width - 8 * times, times)
    return canvas


def strip_size(levels: Sequence[tuple[float, dict[str, Tensor]]]) -> tuple[int, int]:
    """Return height and width of what `draw_strip` draws."""
    images = levels[0][1]
    rows, columns = next(iter(images.values())).shape[-2:]
    width, height = _size_in_cell(columns, rows)
    return (
        STRIP_TOP + len(images) * (height + 6) + _MARGIN - 6,
        STRIP_LEFT + len(levels) * (width + 6) + _MARGIN - 6,
    )


def draw_strip(levels: Sequence[tuple[float, dict[str, Tensor]]]) -> Image.Image:
    """Return a picture of a trajectory: a column a level, a row for each of x_t, x0hat, x0y.

    Args:
        levels: sigma, and images [C, H, W] by name; x_t is shown divided by sqrt(1 + sigma^2).
    """
    names = list(levels[0][1])
    pictures = [
        [_scaled(_picture(x / math.sqrt(1 + sigma**2) if name == "x_t" else x)) for name, x in images.items()]
        for sigma, images in levels
    ]
    width, height = pictures[0][0].size
    left, top = STRIP_LEFT, STRIP_TOP
    bottom, right = strip_size(levels)
    canvas = Image.new("RGB", (right, bottom), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, name in enumerate(names):
        _text(draw, (left - 12, top + row * (height + 6) + height / 2), name, 16, _INK, "rm")
    for column, (sigma, _) in enumerate(levels):
        x = left + column * (width + 6)
        _text(draw, (x + width / 2, top - 12), f"sigma {sigma:.3g}", 15, _FAINT, "mb")
        for row, picture in enumerate(pictures[column]):
            canvas.paste(picture, (x, top + row * (height + 6)))
    return canvas


def draw_kernel(kernel: Mapping[str, Any]) -> Image.Image:
    """Draw a kernel: its mean, its standard deviation and the true one, where known, white at the largest number.

    Args:
        kernel: as metrics.json has it.
    """
    tables = [np.asarray(kernel[key]) for key in ("mean", "std", "truth") if kernel[key] is not None]
    scale = 255 / max(max(float(table.max()) for table in tables), 1e-12)
    tiles = [np.pad(np.kron(table * scale, np.ones((8, 8))), 4, constant_values=128) for table in tables]
    return Image.fromarray(np.concatenate(tiles, 1).round().astype(np.uint8))
