"""Pictures and tables: what they show, where, and that they survive odd input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from daps_kit.runs import pictures as report
from daps_kit.runs.pictures import Row, draw_grid, draw_std, draw_strip
from tests.host.runs.rows import row


def test_columns_follow_what_there_is(monkeypatch):
    drawn: list[str] = []
    original = report._text
    monkeypatch.setattr(
        report, "_text", lambda *args, **kw: (drawn.append(args[2]), original(*args, **kw))[0]
    )
    draw_grid([("", [row(runs=3)])], "title")
    assert [
        text for text in drawn if text in ("truth", "measurement", "sample 3", "mean", "standard deviation")
    ] == [
        "truth",
        "measurement",
        "sample 3",
        "mean",
        "standard deviation",
    ]
    drawn.clear()
    draw_grid([("", [row(runs=1, truth=False)])], "title")
    assert "sample" in drawn
    assert not {"truth", "sample 1", "mean", "standard deviation"} & set(drawn)
    assert any(text.startswith("residual ") for text in drawn)
    drawn.clear()
    draw_grid([("", [row(lost=1)])], "title")
    assert "lost" in drawn


def test_pictures_are_where_the_headings_say_and_keep_their_colours():
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 16, 16)
    base = row(runs=2)
    grid = draw_grid([("", [Row("a", red, -red, [(0, red), (1, red)], red, base.std, base.scores)])], "t")
    pixels = np.asarray(grid)
    is_red = (pixels == [255, 0, 0]).all(-1)
    cell = report.CELL * report.CELL
    assert is_red.sum() == 4 * cell  # truth, two samples, mean
    assert (pixels == [0, 255, 255]).all(-1).sum() == cell


def test_the_reported_sample_is_framed():
    base = row(runs=3)
    reported = base.scores["reported"]["run"]
    assert reported == min(base.scores["samples"], key=lambda record: record["residual"])["run"]
    pixels = np.asarray(draw_grid([("", [base])], "t"))
    accent = tuple(int(report._ACCENT[i : i + 2], 16) for i in (1, 3, 5))
    columns = np.flatnonzero((pixels == accent).all(-1).sum(0) > report.CELL)
    step = report.CELL + report._GAP
    left = report._MARGIN + (2 + reported) * step
    assert columns.min() == left - 4
    assert columns.max() == left + report.CELL + 3


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 40, 8), (2, 8, 8), (5, 9, 30), (3, 300, 200)])
def test_any_shape_can_be_shown(shape):
    grid = draw_grid([("", [row(shape=shape)]), ("another", [row(shape=(3, 8, 8), truth=False)])], "t" * 300)
    assert grid.width < 2000
    assert draw_std(torch.rand(shape)).width >= report.CELL


def test_the_deviation_is_drawn_in_rising_lightness():
    colours = report._colours().astype(float)
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.3).all()
    assert luminance[0] < 15
    assert luminance[-1] > 230
    # Equal steps of the value are equal steps of lightness: L* of grey with the colour's own linear luminance.
    linear = np.where(
        colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4
    )
    y = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)
    assert np.abs(np.diff(lightness) - 92 / 255).max() < 1.0
    assert np.abs(lightness - np.linspace(4, 96, 256)).max() < 5


def test_a_strip_has_a_cell_for_every_level():
    images = {key: torch.zeros(3, 8, 8) for key in ("x_t", "x0hat", "x0y")}
    two, three = draw_strip([(9.0, images)] * 2), draw_strip([(9.0, images)] * 3)
    assert three.width - two.width == report.CELL + 6
    # x_t is brought back to the range of images.
    loud = {"x_t": torch.full((3, 8, 8), math.sqrt(1 + 9.0**2) / 2)}
    pixels = np.asarray(draw_strip([(9.0, loud)]))
    assert (pixels == round(255 * 0.75)).all(-1).sum() >= report.CELL**2
