"""Tables and words of a comparison, from numbers that are given."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daps_kit.compare.arena import Outcome
from daps_kit.compare.document import Comparison
from daps_kit.compare.report import markdown, write
from tests.host.compare.comparison import cells, outcome

Toy = Callable[..., Path]


@pytest.fixture
def outcomes(toy: Toy) -> list[Outcome]:
    """`few` is better at one task, `wide` not told apart at the other; a third refuses one."""
    a, b, c, d = cells(toy())
    third = replace(a, sampler="third_one"), replace(c, sampler="third_one")
    return [
        outcome(a, psnr=[30.0, 24.0, 27.0], crps=[0.1, 0.2, 0.15], success=[1.0, 1.0, 1.0]),
        outcome(b, psnr=[29.0, 23.1, 26.0], crps=[0.2, 0.3, 0.25], success=[1.0, 0.5, 1.0]),
        Outcome(third[0], refused="it needs more light"),
        outcome(c, psnr=[20.0, 22.0, 24.0], crps=[0.1, 0.1, 0.4]),
        outcome(d, psnr=[20.5, 21.0, 24.0], crps=[0.1, 0.2, 0.2]),
        Outcome(third[1], failed="no convergence"),
    ]


def test_the_words_say_what_the_numbers_do(outcomes: list[Outcome]) -> None:
    text = markdown("duel", outcomes)
    assert text.startswith("# duel\n")
    assert "- identity, 3 network calls: best by CRPS `few`; PSNR of the mean (dB) `few`;" in text
    assert "- down_sampling, 3 network calls: best by CRPS `wide` (not told apart: `few`)" in text
    assert "`third_one` does not do this: it needs more light." in text
    assert "`third_one` failed: no convergence." in text
    assert "`third_one` cannot do all tasks and are in no ranks." in text
    assert "3 images: the intervals are rough" in text


def test_the_table_marks_the_best_and_those_tied_with_it(outcomes: list[Outcome]) -> None:
    rows = [line for line in markdown("duel", outcomes).splitlines() if line.startswith(("| few", "| wide"))]
    assert rows[0].startswith("| few | **27.00 [24.00, 30.00]**")
    assert rows[1].startswith("| wide | 26.03 [23.10, 29.00] |")
    assert "0.2000 [0.1000, 0.4000] *" in rows[4]
    assert rows[0].endswith("| 3 | 0.5 |")


def test_paired_differences_from_the_best_are_told(outcomes: list[Outcome], tmp_path: Path) -> None:
    rows = [line for line in markdown("duel", outcomes).splitlines() if line.startswith("| wide")]
    assert rows[1].startswith("| wide | +0.1000 [+0.1000, +0.1000] | -0.97 [-1.00, -0.90] |")
    assert rows[3].startswith("| wide | best | -0.17 [-1.00, +0.50] |")
    write(Comparison("duel", tmp_path, tuple(o.cell for o in outcomes)), outcomes)
    pairs = list(csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines()))
    (crps,) = [row for row in pairs if (row["task"], row["metric"]) == ("identity", "crps")]
    assert (crps["sampler"], crps["best"], round(float(crps["difference"]), 6)) == ("wide", "few", 0.1)


def test_what_a_comparison_asks_for_beyond_is_told_where_it_is_there(outcomes: list[Outcome]) -> None:
    assert "LPIPS" not in markdown("duel", outcomes)
    for scores in outcomes[0].images.values():
        scores["lpips"] = 0.25
    outcomes[0].cost["memory"] = 512.4
    text = markdown("duel", outcomes)
    assert "| LPIPS of the mean |" in text
    assert "| 0.5 | 512 |" in text


def test_ranks_leave_out_who_cannot_do_all(outcomes: list[Outcome]) -> None:
    text = markdown("duel", outcomes)
    ranks = text[text.index("## Mean ranks over 2 tasks, 3 network calls") :]
    assert "| few | 1.50 |" in ranks
    assert "third_one" not in ranks
    assert "Ranks further apart than 1.39 differ" in ranks  # 1.96 sqrt(2 * 3 / (6 * 2))


def test_lost_images_are_not_hidden(outcomes: list[Outcome]) -> None:
    outcomes[0].images["image 1"]["psnr"] = math.nan
    outcomes[0] = replace(outcomes[0], lost=3)
    text = markdown("duel", outcomes)
    assert "| few | – |" in text
    assert "`few` lost 3 of 9 samples." in text
    assert "PSNR of the mean (dB) `wide`" in text


def test_of_one_image_nothing_is_concluded(toy: Toy) -> None:
    a, b, *_ = cells(toy())
    text = markdown("duel", [outcome(a, psnr=[20.0]), outcome(b, psnr=[21.0])])
    assert "One image: nothing can be said of others." in text
    assert "best by" not in text


def test_files_are_for_programs_and_papers(outcomes: list[Outcome], tmp_path: Path) -> None:
    comparison = Comparison("duel", tmp_path / "tables", tuple(o.cell for o in outcomes))
    write(comparison, outcomes)
    images = list(csv.DictReader((tmp_path / "tables" / "comparison.csv").read_text().splitlines()))
    assert len(images) == 12
    assert float(images[0]["psnr"]) == 30.0
    found = list(csv.DictReader((tmp_path / "tables" / "cells.csv").read_text().splitlines()))
    assert [row["outcome"] for row in found] == ["done", "done", "refused", "done", "done", "failed"]
    assert (found[0]["psnr"], found[2]["psnr"], found[2]["why"]) == ("27.0", "", "it needs more light")
    tex = (tmp_path / "tables" / "comparison.tex").read_text()
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == 2
    assert r"few & \textbf{27.00} & " in tex
    assert "down\\_sampling" in tex
    lines = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in lines} == {6}
    page = (tmp_path / "tables" / "index.html").read_text()
    assert page.count("<svg") == len(list((tmp_path / "tables").glob("*.svg")))
    pictures = {path.name for path in (tmp_path / "tables").glob("*.svg")}
    assert {"ranks-crps-3.svg", "front-1-network_calls.svg", "front-2-seconds.svg"} <= pictures
