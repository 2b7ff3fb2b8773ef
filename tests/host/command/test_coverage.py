"""`daps-kit coverage`: the table is printed, and what it cannot do is said in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from daps_kit.command.main import main


def test_a_recipe_is_calibrated(toy: Any) -> None:
    recipe = str(toy(sampler={"use": "daps", "budget": 4}))
    done = CliRunner().invoke(main, ["coverage", "-q", recipe, "--count", "2", "--runs", "2", "--images"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# Coverage of toy\n")
    assert "2 truths (the recipe's images), 2 samples each" in done.stdout
    stored = CliRunner().invoke(
        main, ["coverage", "-q", recipe, "--count", "2", "--runs", "2", "--images", "--apply"]
    )
    (told,) = [line for line in stored.stdout.splitlines() if line.startswith(f"{recipe}: widen: ")]
    assert f"\n{told.partition(': ')[2]}  # found by" in Path(recipe).read_text(encoding="utf-8")
    wrong = CliRunner().invoke(main, ["coverage", "-q", recipe, "--images", "data.limit=1"])
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "error: coverage needs two images or more, and the recipe has 1\n",
    )
