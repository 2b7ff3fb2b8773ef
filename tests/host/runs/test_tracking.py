"""Trackers hear of a run, in order; one that fails is warned of once and changes nothing."""

from __future__ import annotations

import pytest

import daps_kit
from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe
from daps_kit.registry import default_registry
from daps_kit.runs.tracking import Tracking, numbers
from daps_kit.trackers import OfferedTracker, Tracker

RECIPE = """
format: 1
data: {use: prior, count: 2, image_shape: [1, 8, 8]}
prior: {use: gaussian}
operator: {use: identity}
sampler: {use: daps, budget: 5}
check_prior: false
runs: 2
trackers: [diary]
tasks: {a: {}, b: {seed: 1}}
"""


class Diary(Tracker):
    """Writes down what it is told, and fails at one thing."""

    name = "diary"
    told: list
    fails = ""

    def __init__(self) -> None:
        type(self).told = type(self).told or []

    def __getattribute__(self, what):
        found = super().__getattribute__(what)
        if what not in ("begin", "level", "sample", "metrics", "picture", "end"):
            return found

        def told(*words):
            type(self).told.append((what, *words))
            if what == type(self).fails:
                raise ValueError("no\nmore ink")

        return told


@pytest.fixture
def diary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    monkeypatch.setattr(Diary, "told", [], raising=False)
    monkeypatch.setattr(Diary, "fails", "")
    monkeypatch.setattr(default_registry(), "trackers", [OfferedTracker("diary", "tests", Diary)])
    return Diary


def test_a_run_is_told_from_beginning_to_end(diary):
    result = daps_kit.run("mine.yaml", quiet=True)
    kinds = [entry[0] for entry in diary.told]
    levels = kinds.count("level") // 2
    assert levels > 2
    one = ["begin", *["level"] * levels, *["sample"] * 4, "metrics", "picture", "end"]
    assert kinds == 2 * one
    task = result.tasks[0]
    assert diary.told[0][1:3] == ("mine/a", task.path)
    assert diary.told[0][3] == (task.path / "recipe.yaml").read_text()
    steps = [entry[1:] for entry in diary.told if entry[0] == "level"][:levels]
    assert [step for step, _, _ in steps] == list(range(levels))
    assert [sigma for _, sigma, _ in steps] == sorted((sigma for _, sigma, _ in steps), reverse=True)
    assert all(0 < residual < 10 for _, _, residual in steps)
    samples = [entry[1:] for entry in diary.told if entry[0] == "sample"][:4]
    assert {run for _, run, _ in samples} == {0, 1}
    assert len({image for image, _, _ in samples}) == 2
    assert not any(lost for _, _, lost in samples)
    metrics = next(entry[1] for entry in diary.told if entry[0] == "metrics")
    assert metrics["posterior_mean/psnr"] == task.metrics["summary"]["posterior_mean"]["psnr"]["mean"]
    assert next(entry for entry in diary.told if entry[0] == "picture")[1:] == ("grid", task.grid)
    assert all(entry[1] == "" for entry in diary.told if entry[0] == "end")


def test_one_that_fails_stops_nothing(diary, capsys):
    diary.fails = "level"
    result = daps_kit.run("mine.yaml", ["runs=1"])
    assert not any(task.samples.isnan().any() for task in result.tasks)
    said = capsys.readouterr().err
    assert (
        said.count("tracker diary failed and is told no more: no more ink") == 1
    )  # each warning is said once
    assert [entry[0] for entry in diary.told] == 2 * ["begin", "level"]


@pytest.mark.parametrize("what", ["begin", "level", "sample", "metrics", "picture", "end"])
def test_after_a_failure_it_is_told_nothing(diary, what, tmp_path):
    diary.fails = what
    said: list[str] = []
    with Tracking([Diary], said.append) as tracking:
        tracking.begin("run", tmp_path, "")
        tracking.level(1.0, lambda: 1.0)
        tracking.sample("a", 0, False)
        tracking.finished({"summary": {}}, tmp_path)
    assert diary.told[-1][0] == what
    assert said == ["tracker diary failed and is told no more: no more ink"]


def test_trackers_may_change_in_a_folder_that_is_there(diary):
    daps_kit.run("mine.yaml", ["trackers=[]"], quiet=True)
    assert diary.told == []
    daps_kit.run("mine.yaml", quiet=True)
    assert [entry[0] for entry in diary.told] == 2 * ["begin", "metrics", "picture", "end"]


def test_a_name_that_is_not_there_is_found_before_anything_is_sampled(diary):
    with pytest.raises(RecipeError, match="unknown tracker 'dairy'.*did you mean 'diary'"):
        load_recipe("mine.yaml", ["trackers=[dairy]"])


def test_who_cannot_be_made_is_left_out():
    class Sealed(Tracker):
        name = "sealed"

        def __init__(self) -> None:
            raise OSError("no key")

    said: list[str] = []
    tracking = Tracking([Sealed, Tracker], said.append)
    assert len(tracking.trackers) == 1
    assert said == ["tracker sealed failed and is told no more: no key"]


def test_the_end_says_why():
    ends: list[str] = []

    class Last(Tracker):
        name = "last"

        def end(self, error: str) -> None:
            ends.append(error)

    with pytest.raises(ValueError, match="too"), Tracking([Last], ends.append):
        raise ValueError("too\nbad")
    assert ends == ["ValueError: too bad"]


def test_numbers_are_the_means_of_the_summary():
    summary = {"posterior_mean": {"psnr": {"mean": 20, "standard_error": None}, "fid": 3.5}, "images": 2}
    assert numbers(summary) == {"posterior_mean/psnr": 20.0, "posterior_mean/fid": 3.5}
