"""`daps-kit check`: valid recipes, and every problem of the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from daps_kit.recipe import load_recipe
from tests.host.command_line import call, ok


def test_check() -> None:
    assert ok("check", "good.yaml", "--quick") == f"good: valid; results go to {Path.cwd()}/results/good\n"
    told = ok("check", "--quick", "good.yaml", "output=x", "name=n")
    assert told == f"n: valid; results go to {Path.cwd()}/x\n"
    found = call("check", "embedded/phase_retrieval")
    assert (found.exit_code, found.stderr) == (
        0,
        "not looked at: whether the prior denoises (daps-kit check-prior)\n",
    )
    assert found.stdout.startswith("phase_retrieval: valid; ")
    found = call("check", "good.yaml")
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("error: data.image_shape: needed as [C, H, W]")


def test_check_lists_every_problem_a_line_each() -> None:
    result = call("check", "bad.yaml", "seed=-1")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "bad.yaml:5:7: runs: expected at least 1, got 0"
    assert lines[1].startswith("bad.yaml:6:1: rusn: unknown key; allowed: ")
    assert lines[2:] == ["override 'seed=-1': seed: expected at least 0, got -1"]
    assert sorted(os.listdir()) == ["bad.yaml", "good.yaml"]


def test_check_for_programs() -> None:
    told = json.loads(ok("check", "good.yaml", "data.image_shape=[1,8,8]", "--json"))
    assert told == {
        "valid": True, "problems": [], "recipes": [{"name": "good", "output": str(Path.cwd() / "results/good")}],
        "errors": [], "warnings": [],
        "unseen": [
            {"recipe": "good", "message": "the images, which are drawn from the prior"},
            {"recipe": "good", "message": "whether the prior denoises (daps-kit check-prior)"},
        ],
    }  # fmt: skip
    result = call("check", "bad.yaml", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["valid"] is False
    assert told["problems"][0] == {
        "message": "expected at least 1, got 0", "path": "runs", "file": "bad.yaml", "line": 5, "column": 7,
    }  # fmt: skip


def test_check_finds_what_a_run_would_find_before_it_samples(toy: Callable[..., Path]) -> None:
    """A mask of another size: the text is right, the file is there, and a run would end."""
    np.save("mask.npy", np.ones((16, 17), dtype=np.float32))
    recipe = str(toy(operator={"use": "inpainting", "mask": "mask.npy"}))
    assert ok("check", recipe, "--quick").startswith("toy: valid; ")
    result, run = call("check", recipe), call("run", recipe)
    assert (result.exit_code, run.exit_code, result.stdout) == (2, 2, "")
    assert "mask.npy" in result.stderr
    assert result.stderr.splitlines()[0] == run.stderr.splitlines()[-1]
    told = json.loads(call("check", recipe, "--json").stdout)
    assert (told["valid"], told["problems"]) == (False, [])
    assert [f"error: {error['message']}" for error in told["errors"]] == result.stderr.splitlines()


def test_check_says_what_it_did_not_look_at_once(toy: Callable[..., Path]) -> None:
    result = call("check", str(toy(tasks={"a": {}, "b": {"seed": 4}})))
    assert result.exit_code == 0
    assert result.stderr == "not looked at: whether the prior denoises (daps-kit check-prior)\n"
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["toy/a", "toy/b"]


def test_check_prints_the_resolved_recipe() -> None:
    text = ok("check", "good.yaml", "--resolved")
    Path("again.yaml").write_text(text)
    assert load_recipe("again.yaml") == load_recipe("good.yaml")
