"""What a run would stumble over, found without running it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daps_kit
from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.report import animation
from daps_kit.runs import measurement
from daps_kit.runs.examine import examine

Toy = Callable[..., Path]
UNSEEN = "whether the prior denoises (daps-kit check-prior)"


def found(recipe: Path) -> list[tuple[str, str]]:
    before = sorted(recipe.parent.rglob("*"))
    findings = [(finding.kind, finding.text) for finding in examine(load_recipe(recipe))]
    assert sorted(recipe.parent.rglob("*")) == before, "nothing is written"
    return findings


def test_what_is_right(toy: Toy) -> None:
    assert found(toy()) == [("unseen", UNSEEN)]
    assert found(toy(check_prior=False)) == []
    assert found(toy(metrics=["fid"], check_prior=False)) == [
        ("unseen", "whether the weights of fid can be had")
    ]


def test_what_a_video_needs_is_missed_beside_what_else_is_wrong(toy: Toy, monkeypatch) -> None:
    monkeypatch.setattr(animation, "find_spec", lambda name: None)
    (first, *rest) = found(toy(trajectory=4, video="mp4", device="meta"))
    assert first[0] == "error"
    assert "pip install 'daps-kit[video]'" in first[1]
    assert [kind for kind, _ in rest] == ["error"]
    assert "error" not in dict(found(toy(trajectory=4, video="webp")))


def spoiled(tmp_path: Path, what: str) -> dict[str, Any]:
    """Return sections of a recipe whose files are there and do not fit."""
    y = np.zeros((3, 16, 16), dtype=np.float32)
    if what == "nan":
        y[0, 3, 4] = np.nan
    if what == "shape":
        y = y[:, :15]
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "mask.npy", np.zeros((16, 16), dtype=np.float32))
    np.save(tmp_path / "truth.npy", np.zeros((3, 8, 8), dtype=np.float32))
    data = {"use": "measurement", "path": str(tmp_path / "y.npy"), "image_shape": [3, 16, 16]}
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    return {
        "nan": {"data": data},
        "shape": {"data": data},
        "truth": {"data": data | {"truth": str(tmp_path / "truth.npy")}},
        "mask": {"operator": {"use": "inpainting", "mask": str(tmp_path / "mask.npy")}},
        "weights": {"prior": {"use": "trained", "path": str(tmp_path / "weights.safetensors")}},
        "device": {"device": "meta"},
        "kernel": {
            "sampler": {"use": "daps", "prior_score": "exact", "kernel": {"use": "metropolis"}},
        },
    }[what]


@pytest.mark.parametrize("what", ["nan", "shape", "truth", "mask", "weights", "device", "kernel"])
def test_a_run_ends_with_the_same_line(toy: Toy, tmp_path: Path, what: str) -> None:
    recipe = toy(**spoiled(tmp_path, what))
    ((kind, text),) = found(recipe)
    with pytest.raises(UserError) as caught:
        daps_kit.run(recipe, quiet=True)
    assert (kind, text) == ("error", str(caught.value))


def test_what_a_folder_that_is_there_would_refuse(toy: Toy, tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", np.eye(3))
    recipe = toy(operator={"use": "motion_blur", "kernel": "kernel.npy"})
    daps_kit.run(recipe, quiet=True)
    assert found(recipe) == [("unseen", UNSEEN)]
    np.save(tmp_path / "kernel.npy", np.ones((3, 3)))
    ((kind, text), _) = found(recipe)
    assert (kind, "kernel.npy changed since" in text) == ("error", True)
    assert "sampler.budget: " in found(toy(sampler={"use": "daps", "budget": 30}))[0][1]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert "holds something that is no run (x, ...)" in found(toy(output=str(tmp_path / "full")))[0][1]


def test_every_task_is_looked_at(toy: Toy, tmp_path: Path) -> None:
    """The first is wrong by its mask, the second is right, the third by its device."""
    bad, good = spoiled(tmp_path, "mask"), {"seed": 5}
    recipe = toy(tasks={"a": bad, "b": good, "c": {"device": "meta"}}, check_prior=False)
    findings = examine(load_recipe(recipe))
    assert [(finding.kind, finding.recipe) for finding in findings] == [
        ("error", "toy/a"),
        ("error", "toy/c"),
    ]


def test_doubts_are_warnings(toy: Toy, tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.ones((16, 16), dtype=np.float32))
    recipe = toy(operator={"use": "inpainting", "mask": str(tmp_path / "all.npy")}, check_prior=False)
    findings = found(recipe)
    assert [kind for kind, _ in findings] == ["warning"] * 3
    assert all("the mask hides nothing" in text for _, text in findings)


def test_it_does_not_take_long(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = measurement.Bench.measure

    def slow(self: Any, index: int, stored: Any = None) -> Any:
        time.sleep(0.05)
        return measure(self, index, stored)

    monkeypatch.setattr(measurement.Bench, "measure", slow)
    (recipe,) = load_recipe(toy(check_prior=False))
    assert [f.text for f in examine([recipe], seconds=0.02)] == ["2 of 3 images"]
    assert [f.text for f in examine([recipe], seconds=0.0)] == ["2 of 3 images"]
    assert examine([recipe], seconds=60) == []
