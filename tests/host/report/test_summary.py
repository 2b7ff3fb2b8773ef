"""The numbers of a run in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from daps_kit.report.summary import metrics_markdown, number, outcome, with_error
from daps_kit.runs.metrics import score, summarise
from daps_kit.runs.pictures import Row
from tests.host.runs.rows import row


def metrics_of(rows: list[Row]) -> dict[str, Any]:
    images = {each.name: each.scores for each in rows}
    return {"summary": summarise(images.values()), "images": images, "lost": []}


def test_the_table_holds_means_errors_and_the_oracle_with_its_label():
    rows = [row("a"), row("b", shape=(3, 12, 14))]
    metrics = metrics_of(rows)
    text = metrics_markdown("title", metrics)
    shown = rows[0].scores["reported"]
    assert f"| a | {shown['run'] + 1} | {shown['psnr']:.2f} |" in text
    psnrs = [each.scores["posterior_mean"]["psnr"] for each in rows]
    mean, error = sum(psnrs) / 2, abs(psnrs[0] - psnrs[1]) / 2
    assert f"| **posterior mean**: the answer of least error | {mean:.2f} ± {error:.2f} |" in text
    assert text.index("least error") < text.index("looks like an image") < text.index("(oracle: chosen with")
    assert outcome(metrics).startswith(f"posterior mean PSNR {mean:.2f} ± {error:.2f} dB")
    assert "chosen without the truth: smallest residual." in text
    # The range of two samples: a third of the truths is due.
    assert "| 0.333 ± 0.000 |" in text.partition("fits the truth")[2]
    for table in text.split("##"):
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_without_truth_there_is_only_the_residual():
    metrics = metrics_of([row(truth=False)])
    text = metrics_markdown("title", metrics)
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
    assert "- a, sample 3: lost at level 3" in metrics_markdown("t", metrics)
    assert outcome(metrics).endswith("1 sample lost")
    nothing = score(torch.full((2, 3, 8, 8), torch.nan), torch.zeros(3, 8, 8), lambda x: x)
    images = {"a": row("a").scores, "b": nothing}
    hopeless = {"summary": summarise(images.values()), "images": images, "lost": []}
    assert "| b | – | – | – | – |" in metrics_markdown("t", hopeless)
    assert hopeless["summary"]["reported"]["psnr"]["images"] == 1


def test_of_one_image_there_is_no_mean_to_speak_of():
    assert "Mean over" not in metrics_markdown("t", metrics_of([row()]))
    assert "Mean over 2 images ± standard error." in metrics_markdown("t", metrics_of([row("a"), row("b")]))
    told = metrics_markdown("t", metrics_of([row()]) | {"network_calls": 41.5})
    assert "41.5 calls of the prior's network for a sample." in told
    lost = metrics_of([row()]) | {"lost": [{}, {}]}
    assert outcome(lost).endswith("; 2 samples lost")


def test_doubtful_samples_are_named_and_count():
    sure, doubted = metrics_of([row()]), {"image": "a", "run": 0, "message": "the residual is up to 2.00"}
    text = metrics_markdown("t", sure | {"doubted": [doubted]})
    assert text.startswith(metrics_markdown("t", sure))
    assert text.endswith(
        "## Doubtful samples\n\nThey count as the others.\n\n- a, sample 1: the residual is up to 2.00\n"
    )


def test_numbers_that_are_not_there_are_dashes():
    assert (number(None, ".2f"), number(math.nan, ".2f"), number(math.inf, ".2f"), number(2, ".2f")) == (
        "–", "–", "–", "2.00",
    )  # fmt: skip
    assert with_error(None, ".1f", "") == ""
    assert with_error({"mean": 3.0, "standard_error": None}, ".1f") == "3.0"
    assert with_error({"mean": 3.0, "standard_error": 0.25}, ".2f") == "3.00 ± 0.25"
