"""Cells are run on the same measurements, kept, and counted where they fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from daps_kit.compare.arena import fight, read
from daps_kit.compare.document import load_comparison
from daps_kit.contracts import Operator, Prior
from daps_kit.errors import UserError
from daps_kit.runs.folder import RunFolder
from daps_samplers.daps import DAPS
from tests.host.compare.comparison import written

Toy = Callable[..., Path]


def test_cells_are_on_the_same_measurements_and_go_on_where_they_were(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = load_comparison(written(toy()))
    outcomes = fight(comparison, quiet=True)
    assert [o.cell for o in outcomes] == list(comparison.cells)
    for one, other in ((outcomes[0], outcomes[1]), (outcomes[2], outcomes[3])):
        y = [RunFolder(o.cell.recipe.output).measured("ash")[0] for o in (one, other)]
        assert torch.equal(*y)
    for o in outcomes:
        assert set(o.images) == {"ash", "birch", "cedar"}
        metrics = json.loads((o.cell.recipe.output / "metrics.json").read_text())
        ash = metrics["images"]["ash"]
        assert o.images["ash"]["psnr"] == ash["posterior_mean"]["psnr"]
        assert o.images["ash"]["crps"] == ash["ensemble"]["crps"]
        due = ash["ensemble"]["coverage_due"]
        assert o.images["ash"]["miss"] == pytest.approx(abs(o.images["ash"]["coverage"] - due))
        assert 0 <= o.images["ash"]["success"] <= 1
        assert o.cost["network_calls"] == 3
        assert o.cost["seconds"] > 0

    def refuse(*args: object) -> None:
        raise AssertionError("it samples again")

    monkeypatch.setattr(DAPS, "sample", refuse)
    again = fight(comparison, quiet=True)
    assert [o.images for o in again] == [o.images for o in outcomes]


def test_what_a_sampler_refuses_is_a_result(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(self: DAPS, prior: Prior, operator: Operator) -> str:
        return "it is not in the mood" if self.restarts else ""

    monkeypatch.setattr(DAPS, "refusal", refusal)
    samplers = {"able": {"use": "daps"}, "unable": {"use": "daps", "restarts": 2}}
    able, unable = fight(
        load_comparison(written(toy(), operators=[{"use": "identity"}], samplers=samplers)), quiet=True
    )
    assert able.images
    assert (unable.images, unable.refused, unable.failed) == ({}, "it is not in the mood", "")


def test_a_cell_that_breaks_is_a_result_and_lost_samples_are_counted(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DAPS.sample

    def sample(self, prior, operator, y, streams):  # type: ignore[no-untyped-def]
        if self.restarts == 2:
            raise ArithmeticError("no convergence\nat all")
        if self.restarts == 3:
            y = y.clone()
            y[0] = torch.nan
        yield from original(self, prior, operator, y, streams)

    monkeypatch.setattr(DAPS, "sample", sample)
    samplers = {"breaks": {"use": "daps", "restarts": 2}, "loses": {"use": "daps", "restarts": 3}}
    path = written(toy(), operators=[{"use": "identity"}], samplers=samplers, runs=1)
    breaks, loses = fight(load_comparison(path), quiet=True)
    assert breaks.failed == "no convergence"
    assert loses.lost == 1
    assert math.isnan(loses.images["ash"]["psnr"])
    assert loses.images["ash"]["success"] == 0
    assert loses.images["birch"]["success"] == 1
    assert str(read(loses.cell)) == str(loses)  # NaN are not equal
    with pytest.raises(UserError, match="^no cell gave a result; breaks: no convergence$"):
        fight(
            load_comparison(
                path, ["samplers={breaks: {use: daps, restarts: 2}}", f"output={tmp_path / 'elsewhere'}"]
            ),
            quiet=True,
        )
