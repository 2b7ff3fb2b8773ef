"""Parts of a run that are joined give the files of one run, and what does not belong together is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import daps_kit
from daps_kit.errors import UserError
from daps_kit.failures import Failure
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.merge import merge
from daps_kit.runs.runner import run
from tests.host.runs.test_workers import contents


def test_parts_are_joined_to_the_whole(toy, tmp_path):
    changes = ["batch_size=2", "trajectory=2", "runs=3"]
    operator = {"use": "inpainting", "mask": "random"}
    whole = daps_kit.run(toy(operator=operator), [*changes, f"output={tmp_path / 'whole'}"], quiet=True)
    parts = []
    for number in (1, 2):
        part = run(toy(operator=operator), changes, quiet=True, shard=f"{number}/2")
        assert part.path == tmp_path / f"out-shard-{number}-of-2"
        assert not (part.path / "metrics.json").exists()
        parts.append(part)
    assert [part.names for part in parts] == [("ash", "birch"), ("birch", "cedar")]
    with pytest.raises(
        UserError, match=r"5 of 9 samples are missing, the first is birch, sample 2; .*recipe\.yaml"
    ):
        merge([parts[0].path], tmp_path / "out", quiet=True)
    result = merge([part.path for part in parts], tmp_path / "out", quiet=True)
    assert contents(result.path) == contents(whole.path)
    environments = [RunFolder(each.path).read_environment() for each in (result, *parts)]
    assert [each["drawn"] for each in environments] == [9, 4, 5]
    again = merge([parts[1].path], result.path, quiet=True)
    assert contents(again.path) == contents(whole.path)


def test_contradictions_are_refused_before_anything_is_written(toy, tmp_path):
    one = run(toy(), ["check_prior=false"], quiet=True, shard="1/2").path
    other = tmp_path / "other"
    shutil.copytree(one, other)
    folder = RunFolder(other)
    sample = folder.read_sample("ash", 0)
    folder.write_sample("ash", 0, replace(sample, x0=sample.x0 + 5e-4))
    with pytest.raises(UserError, match="3 of 6 samples are missing"):  # within the bound
        merge([one, other], tmp_path / "first", quiet=True)
    folder.write_sample("ash", 0, replace(sample, x0=sample.x0 + 0.01))
    with pytest.raises(UserError, match="ash/sample-01.safetensors contradict each other"):
        merge([one, other], tmp_path / "into", quiet=True)
    assert not list((tmp_path / "into").rglob("*.safetensors"))


def test_what_was_given_up_in_one_part_is_taken_from_the_other(toy, tmp_path):
    one = run(toy(), ["check_prior=false", "data.limit=1", "runs=1"], quiet=True, shard="1/1").path
    other = tmp_path / "other"
    shutil.copytree(one, other)
    failure = Failure(0, 0, 0, 0.0, "worker", "gone")
    RunFolder(one).write_sample("ash", 0, Sample(torch.full((3, 16, 16), torch.nan), failure))
    result = merge([one, other], tmp_path / "into", quiet=True)
    assert result.metrics["lost"] == []


def test_other_recipes_and_folders_are_refused(toy, tmp_path):
    changes = ["check_prior=false", "data.limit=1", "runs=1"]
    one = run(toy(), changes, quiet=True, shard="1/1").path
    other = run(
        toy("other"), [*changes, "seed=4", f"output={tmp_path / 'other'}"], quiet=True, shard="1/1"
    ).path
    with pytest.raises(UserError, match="holds the run of another recipe"):
        merge([one, other], tmp_path / "into", quiet=True)
    with pytest.raises(UserError, match="holds no run: there is no recipe.yaml in it"):
        merge([one, Path("nowhere")], tmp_path / "into", quiet=True)
