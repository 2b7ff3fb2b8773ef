"""`daps-kit check`: valid recipes, and every problem of the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

from daps_kit.recipe import load_recipe
from tests.host.command_line import call, ok


def test_check() -> None:
    assert ok("check", "good.yaml") == f"good: valid; results go to {Path.cwd()}/results/good\n"
    assert ok("check", "good.yaml", "output=x", "name=n") == f"n: valid; results go to {Path.cwd()}/x\n"
    assert ok("check", "embedded/phase_retrieval").startswith("phase_retrieval: valid; ")


def test_check_lists_every_problem_a_line_each() -> None:
    result = call("check", "bad.yaml", "seed=-1")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "bad.yaml:5:7: runs: expected at least 1, got 0"
    assert lines[1].startswith("bad.yaml:6:1: rusn: unknown key; allowed: ")
    assert lines[2:] == ["override 'seed=-1': seed: expected at least 0, got -1"]
    assert sorted(os.listdir()) == ["bad.yaml", "good.yaml"]


def test_check_for_programs() -> None:
    told = json.loads(ok("check", "good.yaml", "--json"))
    assert told == {
        "valid": True, "problems": [], "recipes": [{"name": "good", "output": str(Path.cwd() / "results/good")}],
    }  # fmt: skip
    result = call("check", "bad.yaml", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["valid"] is False
    assert told["problems"][0] == {
        "message": "expected at least 1, got 0", "path": "runs", "file": "bad.yaml", "line": 5, "column": 7,
    }  # fmt: skip


def test_check_prints_the_resolved_recipe() -> None:
    text = ok("check", "good.yaml", "--resolved")
    Path("again.yaml").write_text(text)
    assert load_recipe("again.yaml") == load_recipe("good.yaml")
