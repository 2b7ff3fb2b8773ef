"""What the page tells of a results folder."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

import daps_kit
from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.report.reading import result_in


def test_a_run_is_read(toy) -> None:
    run = daps_kit.run(toy(), ["trajectory=2"], quiet=True)
    result = result_in(run.path)
    assert result.name == "toy"
    assert list(result.images) == ["ash", "birch", "cedar"]
    assert result.runs == 2
    assert "sampler daps: daps-kit 0.1.0" in result.provided
    assert result.environment["batch_size"] == 16
    assert result.environment["seconds"] > 0
    assert torch.equal(torch.stack(result.samples("birch")), run.samples[1])
    assert torch.equal(result.truth("ash"), run.truth[0])
    assert torch.equal(result.measured("ash"), run.measurement[0])
    assert torch.equal(result.posterior("cedar")["mean"], run[2].mean)
    assert result.trajectory("ash", 1)["sigma"].shape == (2,)
    assert result.trajectory("ash", 7) == {}


def test_the_recipe_that_is_shown_runs_to_the_same_with_an_output_of_its_own(toy, tmp_path) -> None:
    run = daps_kit.run(toy(), quiet=True)
    path = tmp_path / "copied.yaml"
    path.write_text(result_in(run.path).recipe_text)
    assert not {"output", "device", "batch_size", "check_prior"} & yaml.safe_load(path.read_text()).keys()
    (copied,) = load_recipe(path)
    assert copied.output != run.path
    again = daps_kit.run(path, [f"output={tmp_path / 'again'}"], quiet=True)
    assert torch.equal(again.samples, run.samples)


def test_a_lost_sample_is_none(toy) -> None:
    run = daps_kit.run(toy(), quiet=True)
    metrics = json.loads((run.path / "metrics.json").read_text())
    del metrics["images"]["ash"]["samples"][0]
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    first, second = result_in(run.path).samples("ash")
    assert first is None
    assert torch.equal(second, run.samples[0, 1])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.json", None, "holds no finished run"),
        ("recipe.yaml", None, "cannot read .*recipe.yaml: No such file"),
        ("metrics.json", "{", "metrics.json is damaged: "),
        ("metrics.json", "[]", "is not what daps-kit run writes"),
        ("metrics.json", "{}", "is not what daps-kit run writes .*keys are missing"),
        ("recipe.yaml", "a: [", "is damaged"),
        (
            "recipe.yaml",
            "a: &a [x, x]\n"
            + "".join(
                f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmno", "bcdefghijklmnop", strict=True)
            ),
            "more than 20000 values",
        ),
        ("metrics.json", "[" * 100_000, "is damaged"),
        ("recipe.yaml", "", "is not what daps-kit run writes"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(tmp_path, file, text, message) -> None:
    whole = '{"summary": {}, "lost": [], "images": {}}'
    for name, content in {"metrics.json": whole, "recipe.yaml": "runs: 1", file: text}.items():
        if content is not None:
            (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        result_in(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_environment_that_cannot_be_read_is_empty(tmp_path) -> None:
    (tmp_path / "metrics.json").write_text('{"summary": {}, "lost": [], "images": {}}')
    (tmp_path / "recipe.yaml").write_text("runs: 1")
    assert result_in(tmp_path).environment == {}
    (tmp_path / "environment.json").write_text("[1]")
    assert result_in(tmp_path).environment == {}
    assert result_in(tmp_path).name == tmp_path.name
