"""Settings are searched on other images, the best is taken, and the search goes on where it was broken off."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from daps_kit.compare.arena import fight
from daps_kit.compare.document import load_comparison
from daps_kit.compare.report import markdown
from daps_kit.compare.tuning import Choices, Search, corners, require_other_images, search
from daps_kit.errors import RecipeError, UserError
from tests.host.compare.comparison import written

Toy = Callable[..., Path]


def searched(
    judge: Callable[[dict[str, Any]], float], bounds: Mapping[str, Any], better: int, trials: int
) -> Any:
    pytest.importorskip("optuna")
    what = Search(bounds, trials, 0, lambda number, values: dict(values))  # type: ignore[arg-type, return-value]
    return search(what, better, judge)  # type: ignore[arg-type]


def test_the_best_settings_are_found() -> None:
    bounds = {"a": [0.01, 10.0], "n": [1, 8], "way": Choices(choices=["up", "down"])}

    def judge(values: dict[str, Any]) -> float:
        return (math.log(values["a"]) - math.log(0.5)) ** 2 + (values["n"] - 3) ** 2 + (values["way"] == "up")

    found = searched(judge, bounds, -1, 30)
    assert found.value < 2
    assert found.settings["n"] in (2, 3, 4)
    assert len(found.tried) == 30
    again = searched(judge, bounds, -1, 30)
    assert again == found, "the same results lead to the same tries"
    other = searched(lambda values: -judge(values), bounds, 1, 30)
    assert other.settings == found.settings


def test_trials_that_fail_are_passed_over() -> None:
    found = searched(lambda values: math.nan if values["a"] > 0.5 else values["a"], {"a": [0.0, 1.0]}, 1, 12)
    assert 0 <= found.settings["a"] <= 0.5
    nothing = searched(lambda values: math.nan, {"a": [0.0, 1.0]}, 1, 3)
    assert nothing.settings == {}
    assert len(nothing.tried) == 3


def test_corners_are_the_ends() -> None:
    bounds = {"a": [0.1, 2.0], "way": Choices(choices=["up", "on", "down"])}
    assert corners(bounds) == [{"a": 0.1, "way": "up"}, {"a": 2.0, "way": "down"}]  # type: ignore[arg-type]


def test_images_must_be_others(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, content in zip(paths, (b"1", b"2", b"1"), strict=True):
        path.write_bytes(content)
    require_other_images(paths[:1], paths[1:2])
    with pytest.raises(
        UserError, match=r"tuning.images: .*c.png is among the images of the comparison \(a.png\)"
    ):
        require_other_images(paths[2:], paths[:2])


def tuning(toy: Path, **changes: Any) -> Path:
    """Write a comparison over one image of the toy, tuned on another."""
    (photos,) = {path.parent for path in toy.parent.rglob("ash.png")}
    return written(
        toy,
        images={"use": "images", "path": str(photos / "ash.png")},
        operators=[{"use": "identity"}],
        tuning={
            "images": {"use": "images", "path": str(photos / "birch.png")},
            "trials": 2,
            "metric": "psnr",
            "search": {"few": {"restarts": [1, 2]}},
        }
        | changes,
    )


def test_a_tuned_sampler_joins_the_comparison(toy: Toy) -> None:
    pytest.importorskip("optuna")
    comparison = load_comparison(tuning(toy()))
    outcomes = fight(comparison, quiet=True)
    assert [o.cell.sampler for o in outcomes] == ["few", "wide", "few (tuned)"]
    found = outcomes[-1].tuning
    assert found is not None
    folder = comparison.output / "tuning" / "identity" / "3" / "few"
    tried = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    assert set(tried) == {"0", "1"}
    assert all(list(metrics["images"]) == ["birch"] for metrics in tried.values())
    values = [metrics["images"]["birch"]["posterior_mean"]["psnr"] for metrics in tried.values()]
    assert found.value == pytest.approx(max(values))
    assert list(outcomes[-1].images) == ["ash"]
    text = markdown("tuned", outcomes)
    assert f"`few (tuned)`: `restarts: {found.settings['restarts']}`, the best of 2 tried on images" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"fewer": {"restarts": [1, 2]}}}, "there is no sampler 'fewer' in the comparison"),
        ({"search": {"few": {"restarts": [2, 1]}}}, "few.restarts: expected two rising numbers, got [2, 1]"),
        ({"search": {"few": {"restart": [1, 2]}}}, "sampler.restart: unknown key"),
        ({"search": {"few": {"restarts": [0, 2]}}}, "restarts"),
        ({"trials": 0}, "tuning.trials"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(toy: Toy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_comparison(tuning(toy(), **changes))
    assert message in str(error.value)
