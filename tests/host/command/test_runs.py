"""`daps-kit runs`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.host.command_line import call, ok


def test_runs_are_listed(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "results" / name).mkdir(parents=True)
        (folder / "results" / name / "recipe.yaml").write_text(f"name: {name}\nruns: 3\n")
    lines = ok("runs").splitlines()
    assert lines[0].split() == ["folder", "state", "numbers"]
    assert [line.split()[0] for line in lines[1:]] == ["results/a", "results/b"]
    told = json.loads(ok("runs", "results/b", "--json"))
    assert told == [{"folder": "results/b", "name": "b", "state": "0 of 0", "numbers": ""}]
    (folder / "empty").mkdir()
    assert ok("runs", "empty") == "no runs there\n"
    assert "no such folder of results: gone" in call("runs", "gone").stderr
