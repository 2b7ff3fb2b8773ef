"""Pictures and tables: what they show, where, and that they survive odd input."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from daps_kit.runs import pictures as report
from daps_kit.runs.metrics import score, summarise
from daps_kit.runs.pictures import Row, draw_grid, draw_std, draw_strip, markdown, outcome
from daps_kit.runs.progress import Progress


def row(
    name: str = "a", *, runs: int = 2, truth: bool = True, lost: int | None = None, shape=(3, 16, 16)
) -> Row:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(shape, generator=generator) * 2 - 1
    samples = clean + 0.1 * torch.randn(runs, *shape, generator=generator)
    if lost is not None:
        samples[lost] = torch.nan
    scores = score(
        samples, clean if truth else None, lambda x: (x - clean).square().flatten(1).mean(1).sqrt()
    )
    alive = samples[[record["run"] for record in scores["samples"]]]
    mean, std = (alive.mean(0), alive.std(0)) if len(alive) > 1 else (None, None)
    return Row(
        name, clean if truth else None, clean, [(i, x) for i, x in enumerate(samples)], mean, std, scores
    )


# --- the grid


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


# --- the tables


def metrics_of(rows: list[Row]) -> dict[str, Any]:
    images = {each.name: each.scores for each in rows}
    return {"summary": summarise(images.values()), "images": images, "lost": []}


def test_the_table_holds_means_errors_and_the_oracle_with_its_label():
    rows = [row("a"), row("b", shape=(3, 12, 14))]
    metrics = metrics_of(rows)
    text = markdown("title", metrics)
    psnrs = [each.scores["reported"]["psnr"] for each in rows]
    mean, error = sum(psnrs) / 2, abs(psnrs[0] - psnrs[1]) / 2
    assert f"| **reported sample** (smallest residual) | {mean:.2f} ± {error:.2f} |" in text
    assert "(oracle: chosen with the truth)" in text
    assert f"| a | {rows[0].scores['reported']['run']} | {psnrs[0]:.2f} |" in text
    assert f"PSNR {mean:.2f} ± {error:.2f} dB" in outcome(metrics)
    for table in text.split("##"):
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_without_truth_there_is_only_the_residual():
    metrics = metrics_of([row(truth=False)])
    text = markdown("title", metrics)
    assert "PSNR" not in text
    assert "oracle" not in text
    assert "residual (noise sd)" in text


def test_lost_samples_are_named_and_count_nowhere():
    spoiled, intact = row(runs=3, lost=2), row(runs=3)
    assert len(spoiled.scores["samples"]) == 2
    for with_lost, without in zip(spoiled.scores["samples"], intact.scores["samples"], strict=False):
        assert with_lost == pytest.approx(without, rel=1e-5)
    mean = sum(record["psnr"] for record in intact.scores["samples"][:2]) / 2
    assert spoiled.scores["sample_mean"]["psnr"] == pytest.approx(mean, rel=1e-5)
    metrics = metrics_of([spoiled]) | {"lost": [{"image": "a", "run": 2, "message": "lost at level 3"}]}
    assert "- a, run 2: lost at level 3" in markdown("t", metrics)
    assert outcome(metrics).endswith("1 sample lost")
    nothing = score(torch.full((2, 3, 8, 8), torch.nan), torch.zeros(3, 8, 8), lambda x: x)
    images = {"a": row("a").scores, "b": nothing}
    hopeless = {"summary": summarise(images.values()), "images": images, "lost": []}
    assert "| b | – | – | – | – |" in markdown("t", hopeless)
    assert hopeless["summary"]["reported"]["psnr"]["images"] == 1


def test_scores_by_hand():
    truth = torch.zeros(1, 12, 12)
    samples = torch.stack([torch.full((1, 12, 12), value) for value in (0.4, -0.2)])
    found = score(samples, truth, lambda x: x.abs().flatten(1).mean(1) * 10)
    # On [0, 1] the errors are 0.2 and 0.1; the average of the samples is 0.1, an error of 0.05.
    assert found["reported"]["run"] == 1
    assert found["reported"]["residual"] == pytest.approx(2)
    assert found["reported"]["psnr"] == pytest.approx(20, abs=1e-3)
    assert found["samples"][0]["psnr"] == pytest.approx(-20 * math.log10(0.2), abs=1e-3)
    assert found["sample_mean"]["residual"] == pytest.approx(3)
    assert found["posterior_mean"]["psnr"] == pytest.approx(-20 * math.log10(0.05), abs=1e-3)
    assert found["oracle"]["psnr"] == found["reported"]["psnr"]


# --- progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def followed(
    cost: float, *, levels: int = 1000, each: float = 1.0, quiet: bool = False, terminal: bool = False
):
    clock, calls, out = Clock(), [], io.StringIO()

    def residual() -> float:
        calls.append(clock.now)
        clock.now += cost
        return 1.25

    console = Console(file=out, force_terminal=terminal, width=140, quiet=quiet)
    with Progress(quiet=quiet, console=console, clock=clock) as progress:
        progress.plan("blur", total=8, done=4)
        progress.begin(2)
        for level in range(levels):
            clock.now += each
            progress.level(level, levels, 3.0, residual)
        progress.finish(2)
    return out.getvalue(), calls, clock.now


def test_plain_lines_are_rare_and_say_everything():
    text, _, _ = followed(cost=0.0)
    lines = text.splitlines()
    assert 10 < len(lines) < 30
    assert lines[0].startswith("blur: level 1/1000  sigma 3  residual 1.25  4 of 8 samples done  ")
    # 4 samples are left, 2 of them take 1000 levels of a second: 2000 s less the first level.
    assert lines[0].endswith("33 min 19 s left")


@pytest.mark.parametrize("cost", [0.001, 0.5, 5.0])
def test_residuals_take_at_most_a_fiftieth_of_the_time(cost):
    _, calls, total = followed(cost=cost)
    assert calls
    # The very first is taken whatever it costs; beyond it the share holds.
    assert cost * (len(calls) - 1) <= 0.02 * total


def test_quiet_shows_nothing_and_asks_for_no_residual():
    text, calls, _ = followed(cost=0.001, quiet=True)
    assert text == ""
    assert calls == []


def test_on_a_terminal_there_is_a_bar():
    text, calls, _ = followed(cost=0.001, levels=30, terminal=True)
    assert "residual 1.25" in text
    assert "\x1b[" in text
    assert calls


def test_who_interrupts_is_told_how_to_go_on():
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(console=Console(file=out, width=200)):
        raise KeyboardInterrupt
    assert "the same command goes on" in out.getvalue()


def test_a_warning_is_given_once():
    out = io.StringIO()
    progress = Progress(console=Console(file=out, width=200))
    for _ in range(3):
        progress.warn("sample [1] is odd")
    assert out.getvalue() == "warning: sample [1] is odd\n"
