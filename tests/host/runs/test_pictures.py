"""Pictures and tables: what they show, where, and that they survive odd input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from daps_kit.colours import colour_map
from daps_kit.runs import pictures as report
from daps_kit.runs.pictures import Row, draw_grid, draw_std, draw_strip
from tests.host.runs.rows import row


@pytest.fixture
def placed(monkeypatch):
    """What is drawn from now on, and where: texts, pictures by their size, rectangles and lines."""
    placed: list[tuple[str, tuple[float, ...]]] = []
    write, paste = report._text, Image.Image.paste

    def text(draw, place, words, size, fill, anchor="la"):
        if words:
            placed.append((words, place))
        write(draw, place, words, size, fill, anchor)

    def pasted(canvas, picture, place):
        placed.append(("x".join(map(str, picture.size)), place))
        paste(canvas, picture, place)

    def shape(name):
        original = getattr(ImageDraw.ImageDraw, name)

        def drawn(draw, place, **look):
            placed.append((name, place))
            original(draw, place, **look)

        return drawn

    monkeypatch.setattr(report, "_text", text)
    monkeypatch.setattr(Image.Image, "paste", pasted)
    for name in ("rectangle", "line"):
        monkeypatch.setattr(ImageDraw.ImageDraw, name, shape(name))
    return placed


def test_everything_in_a_grid_has_its_place(placed):
    """Columns are 202 apart and their captions centred; rows follow each other by their heights and captions of 34."""
    first = [row("wide", runs=3, shape=(3, 8, 16)), row("tall", runs=2, lost=1, shape=(3, 16, 12))]
    canvas = draw_grid([("box_task", first), ("other", [row("b", runs=1, truth=False)])], "title")
    columns = [28, 230, 432, 634, 836, 1038, 1240]
    assert canvas.size == (columns[-1] + 192 + 28, 806)
    names = ["truth", "measurement", "sample 1", "sample 2", "sample 3", "mean", "standard deviation"]
    assert placed == [
        ("title", (28, 22)),
        (
            "The mean has the least error; a sample looks like an image. Framed: the nearest to the others or that of "
            "the smallest residual.",
            (28, 58),
        ),
        *((name, (x + 96, 96)) for name, x in zip(names, columns, strict=True)),
        ("line", (28, 128, 1432, 128)),
        ("box task", (28, 136)),
        ("192x96", (28, 164)),
        ("192x96", (230, 164)),
        ("192x96", (432, 164)),
        ("25.40 dB", (528, 268)),
        ("192x96", (634, 164)),
        ("rectangle", (630, 160, 829, 263)),
        ("26.09 dB", (730, 268)),
        ("192x96", (836, 164)),
        ("25.73 dB", (932, 268)),
        ("192x96", (1038, 164)),
        ("30.45 dB", (1134, 268)),
        ("192x96", (1240, 164)),
        ("145x10", (1254, 271)),
        ("0", (1240, 268)),
        ("0.16", (1432, 268)),
        ("wide", (124, 268)),
        ("144x192", (52, 294)),
        ("144x192", (254, 294)),
        ("144x192", (456, 294)),
        ("rectangle", (452, 290, 603, 489)),
        ("26.14 dB", (528, 494)),
        ("rectangle", (634, 294, 825, 485)),
        ("lost", (730, 390)),
        ("tall", (124, 494)),
        ("line", (28, 524, 1432, 524)),
        ("other", (28, 532)),
        ("192x192", (230, 560)),
        ("192x192", (432, 560)),
        ("residual 0.10", (528, 760)),
        ("b", (326, 760)),
    ]


def test_without_a_title_there_is_no_room_for_one_and_what_is_not_known_has_no_caption(placed):
    unknown = row(runs=1, truth=False)
    unknown.scores["samples"][0]["residual"] = float("nan")
    canvas = draw_grid([("", [unknown])], "")
    assert canvas.size == (480, 36 + 28 + 192 + 34 + 20)
    assert ("measurement", (124, 36)) in placed
    assert not [what for what, _ in placed if "nan" in str(what)]


def test_one_sample_needs_no_note_and_a_narrow_grid_has_room_for_its_title(placed):
    canvas = draw_grid([("", [row(runs=1, truth=False)])], "t")
    assert canvas.size == (480, 72 + 28 + 192 + 34 + 20)
    assert placed == [
        ("t", (28, 22)),
        ("measurement", (124, 72)),
        ("sample", (326, 72)),
        ("192x192", (28, 100)),
        ("192x192", (230, 100)),
        ("residual 0.10", (326, 300)),
        ("a", (124, 300)),
    ]


def test_a_lower_picture_is_in_the_middle_of_its_row(placed):
    base, low = row(runs=1), torch.zeros(3, 8, 16)
    draw_grid([("", [Row("a", base.truth, low, base.samples, None, None, base.scores)])], "t")
    places = {words: place for words, place in placed if words in ("192x96", "192x192")}
    assert places["192x96"][1] - places["192x192"][1] == (192 - 96) // 2


def test_pixels_are_enlarged_as_they_are_and_reduced_by_their_means():
    checks = Image.fromarray(np.indices((16, 16)).sum(0).astype(np.uint8) % 2 * 255)
    enlarged = np.asarray(report._scaled(checks, smooth=False))
    assert np.array_equal(enlarged, np.kron(np.asarray(checks), np.ones((12, 12), np.uint8)))
    assert len(np.unique(np.asarray(report._scaled(checks)))) > 2
    fine = Image.fromarray(np.indices((960, 960)).sum(0).astype(np.uint8) % 2 * 255)
    assert np.abs(np.asarray(report._scaled(fine, smooth=False)).astype(float) - 127.5).max() < 30


def test_a_text_that_just_fits_is_not_cut():
    width = report._font(14).getlength("a name")
    assert report._shorten("a name", 14, width) == "a name"
    assert report._shorten("a name", 14, width - 1).endswith("…")


@pytest.mark.parametrize(
    ("shape", "size", "picture", "scale"),
    [
        ((3, 8, 16), (192, 130), (192, 96), [("137x10", (18, 107)), ("0", (4, 104)), ("0.25", (188, 104))]),
        (
            (1, 300, 400),
            (400, 334),
            (400, 300),
            [("345x10", (18, 311)), ("0", (4, 308)), ("0.25", (396, 308))],
        ),
        ((1, 9, 1100), (1100, 77), (1100, 9), [("989x20", (36, 31)), ("0", (8, 25)), ("0.25", (1092, 25))]),
    ],
)
def test_everything_in_the_picture_of_a_deviation_has_its_place(placed, shape, size, picture, scale):
    """Small ones are enlarged to a cell, others keep their pixels; the scale below is as wide, its letters grow."""
    assert draw_std(0.25 + torch.zeros(shape)).size == size
    assert placed == [("x".join(map(str, picture)), (0, 0)), *scale]


@pytest.mark.parametrize("width", [16, 64, 128, 192, 193, 512, 2000])
@pytest.mark.parametrize("top", [0.25, 0.0012, 3.4e-5])
def test_nothing_cuts_off_the_numbers_of_a_scale(width, top):
    """From left to right there are paper, 0, paper, the colours, paper, the number, paper."""
    picture = draw_std(top + torch.zeros(1, 8, width))
    times = max(1, round(picture.width / 512))
    drawn = (np.asarray(picture)[-32 * times :] != 255).any((0, 2))
    edges = np.flatnonzero(np.diff(drawn, prepend=True, append=True))
    assert sum(paper[1] - paper[0] > 3 * times for paper in zip(edges[::2], edges[1::2], strict=True)) == 4


def test_everything_in_a_strip_has_its_place(placed):
    x = torch.zeros(3, 8, 16)
    canvas = draw_strip([(9.0, {"x_t": x, "x0hat": x}), (0.5, {"x_t": x, "x0hat": x})])
    assert canvas.size == (70 + 2 * 192 + 6 + 28, 40 + 2 * 96 + 6 + 28)
    assert placed == [
        ("x_t", (58, 88)),
        ("x0hat", (58, 190)),
        ("sigma 9", (166, 28)),
        ("192x96", (70, 40)),
        ("192x96", (70, 142)),
        ("sigma 0.5", (364, 28)),
        ("192x96", (268, 40)),
        ("192x96", (268, 142)),
    ]


def test_what_is_long_is_cut_where_it_has_no_room(placed):
    draw_grid([("", [row("name" * 20, runs=1, truth=False)])], "title" * 20)
    for words, width, size in ((placed[0][0], 424, 26), (placed[-1][0], 192, 14)):
        length = report._font(size).getlength
        assert words.endswith("…")
        assert length(words) <= width < length(words[:-1] + "WW")


def test_the_brightest_colour_is_that_of_all_but_the_largest_deviations():
    deviation = torch.linspace(0, 1, 1200 * 1000).reshape(1, 1200, 1000)
    _, top = report._std_scale(deviation.expand(3, -1, -1))
    assert top == pytest.approx(0.995, abs=1e-3)
    pixels, top = report._std_scale(torch.tensor([3.0, 4.0, 0.0])[:, None, None].expand(3, 2, 2))
    assert pixels.tolist() == [[pytest.approx(5 / math.sqrt(3))] * 2] * 2
    assert top == pytest.approx(5 / math.sqrt(3))
    picture, _ = report._std_picture(2 * torch.tensor([0.0, 0.25, 0.5, 1.0]).repeat(1, 500, 1))
    shown = np.asarray(picture)[0]
    assert [tuple(colour) for colour in shown] == [tuple(colour_map()[i]) for i in (0, 64, 128, 255)]


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
    assert base.scores["reported_by"] == "medoid"
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


def test_a_strip_has_a_cell_for_every_level():
    images = {key: torch.zeros(3, 8, 8) for key in ("x_t", "x0hat", "x0y")}
    two, three = draw_strip([(9.0, images)] * 2), draw_strip([(9.0, images)] * 3)
    assert three.width - two.width == report.CELL + 6
    # x_t is brought back to the range of images.
    loud = {"x_t": torch.full((3, 8, 8), math.sqrt(1 + 9.0**2) / 2)}
    pixels = np.asarray(draw_strip([(9.0, loud)]))
    assert (pixels == round(255 * 0.75)).all(-1).sum() >= report.CELL**2
