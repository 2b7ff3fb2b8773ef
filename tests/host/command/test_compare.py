"""`daps-kit compare` from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from daps_kit.command.main import main
from tests.host.compare.comparison import written
from tests.plugin_files import write_plugin


def test_a_comparison_is_run_and_told(toy: Callable[..., Path], tmp_path: Path) -> None:
    path = written(toy(), operators=[{"use": "identity"}])
    out = tmp_path / "there"
    done = CliRunner().invoke(main, ["compare", str(path), "runs=2", "--output", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    assert f"tables: {out / 'comparison.md'}" in done.output
    assert "identity, 3 network calls: best by" in (out / "comparison.md").read_text()
    assert (out / "cells" / "identity" / "3" / "few" / "grid.png").is_file()


def test_what_is_wrong_is_one_line_and_exit_code_2(toy: Callable[..., Path]) -> None:
    path = written(toy(), budgets="many")
    done = CliRunner().invoke(main, ["compare", str(path)])
    assert done.exit_code == 2
    assert "budgets: expected a list of whole numbers from 1 up" in done.output


def test_components_may_come_from_a_file_of_python(toy: Callable[..., Path], tmp_path: Path) -> None:
    path = written(toy(), operators=[{"use": "dim", "strength": 2}])
    unknown = CliRunner().invoke(main, ["compare", str(path)])
    assert "unknown operator 'dim'" in unknown.output
    known = CliRunner().invoke(main, ["compare", str(path), "--plugin", str(write_plugin(tmp_path))])
    assert known.exit_code == 2
    assert "strength: expected at most 1" in known.output
