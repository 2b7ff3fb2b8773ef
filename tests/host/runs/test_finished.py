"""Finished runs: where they are found, and what their recipes say was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe, resolved_yaml
from daps_kit.runs.finished import OTHER_SETTINGS, find_results, read_result

CHOICES = ("posterior_mean", "sample_mean", "reported", "oracle", "ensemble")
SUMMARY: dict[str, Any] = {choice: {"psnr": None} for choice in (*CHOICES[:4], "more")}


def left(folder: Path, name: str, *overrides: str, finished: bool = True) -> Path:
    """Write what a run of an installed recipe leaves: two images, of which one sample is lost."""
    (recipe,) = load_recipe(name, [*overrides, f"output={folder}"])
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(resolved_yaml(recipe))
    if finished:
        content = {"summary": SUMMARY, "lost": [{"run": 1}], "images": {"a": {}, "b": {}}}
        (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def test_folders_of_runs_are_found_below_in_order_and_once(tmp_path: Path) -> None:
    task = "embedded/gaussian_blur"
    b, a, c = (left(tmp_path / "all" / place, task) for place in ("b", "a/deep", "c"))
    begun = left(tmp_path / "all" / "a" / "begun", task, finished=False)
    left(b / "below", task)  # the folder of a run has none below
    assert find_results([tmp_path / "all", c]) == ([a, b, c], [begun])
    assert find_results([c, tmp_path / "all"]) == ([c, a, b], [begun])
    with pytest.raises(UserError, match=r"begun: the run is not finished \(no metrics.json\)"):
        find_results([begun])
    with pytest.raises(UserError, match="no such folder of results: .*nowhere"):
        find_results([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no results: no recipe.yaml in it or below"):
        find_results([tmp_path / "empty"])


def test_a_published_setting_is_known_whatever_samples_it(tmp_path: Path) -> None:
    published = read_result(left(tmp_path / "a", "ffhq256ddpm/phase_retrieval", "runs=3"))
    assert (published.task, published.as_published) == ("phase_retrieval", True)
    assert (published.images, published.runs, published.lost) == (2, 3, 1)
    assert published.summary == {key: SUMMARY.get(key, {}) for key in CHOICES}
    levels, steps = (yaml.safe_load((tmp_path / "a/recipe.yaml").read_text())["sampler"][key][name]
                     for key, name in (("annealing", "levels"), ("ode", "steps")))  # fmt: skip
    assert published.calls == str(levels * steps)
    other = read_result(left(tmp_path / "b", "ffhq256ddpm/phase_retrieval", "operator.noise.sigma=0.2"))
    assert (other.task, other.as_published) == (f"phase_retrieval {OTHER_SETTINGS}", False)
    assert other.model == published.model
    own = read_result(left(tmp_path / "c", "embedded/phase_retrieval"))
    assert not own.as_published
    assert own.model != published.model
    assert own.calls == "balanced"
    assert read_result(left(tmp_path / "d", "embedded/phase_retrieval", "sampler.budget=30")).calls == "30"


@pytest.mark.parametrize("solved", [0, 4])
def test_calls_are_levels_times_steps_where_both_are_set(tmp_path: Path, solved: int) -> None:
    changes = ("sampler.annealing.levels=7", f"sampler.ode.steps={solved}", "sampler.annealing.sigma_max=10",
               "sampler.annealing.sigma_min=0.1")  # fmt: skip
    found = read_result(left(tmp_path / "a", "embedded/gaussian_blur", *changes))
    assert found.calls == ("28" if solved else "balanced")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.json", "{", "metrics.json is damaged: "),
        ("recipe.yaml", "a: [", "recipe.yaml is damaged: "),
        ("metrics.json", "{}", "is not what daps-kit run writes"),
        ("metrics.json", "[]", "is not what daps-kit run writes"),
        ("recipe.yaml", "prior: {}", "is not what daps-kit run writes"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = left(tmp_path / "a", "embedded/gaussian_blur")
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_result(folder)
    assert "\n" not in str(caught.value)
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"cannot read .*{file}: No such file"):
        read_result(folder)


def test_calls_that_were_counted_come_first(tmp_path: Path) -> None:
    folder = left(tmp_path / "a", "embedded/phase_retrieval")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"network_calls": 41.5}))
    assert read_result(folder).calls == "41.5"
