"""The factor that widens intervals goes into the recipe's own file, and a run says that it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import daps_kit
from daps_kit.coverage.apply import apply, require_own
from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe


def test_a_factor_is_written_and_replaced(toy: Any) -> None:
    path = toy()
    before = path.read_text()
    apply(path, 1.2345)
    assert path.read_text() == f"{before}widen: 1.23  # found by daps-kit coverage\n"
    apply(path, 0.9)
    assert path.read_text() == f"{before}widen: 0.9  # found by daps-kit coverage\n"
    assert load_recipe(path)[0].widen == 0.9


def test_a_run_uses_the_factor_and_says_so(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy()
    plain = daps_kit.run(path, quiet=True)
    file = plain.path / "samples/ash/posterior.safetensors"
    was = load_file(file)
    apply(path, 1.5)
    wide = daps_kit.run(path)
    now = load_file(file)
    mean = plain.samples[0].mean(0)
    assert (now["q95"] - mean).allclose(1.5 * (was["q95"] - mean), atol=1e-6)
    assert now["mean"].equal(was["mean"])
    assert now["std"].equal(was["std"])
    assert wide.metrics["widen"] == 1.5
    assert "intervals widened 1.5 times" in " ".join(capsys.readouterr().err.split())
    assert "widened 1.5 times" in (wide.path / "metrics.md").read_text()
    covered = [each.metrics["summary"]["ensemble"]["coverage"]["mean"] for each in (plain, wide)]
    assert covered[1] >= covered[0]


def test_only_a_recipe_of_ones_own_is_changed(toy: Any) -> None:
    path = toy()
    assert require_own(path, load_recipe(path)) == Path(path)
    with pytest.raises(UserError, match="daps-kit recipes copy quickstart my.yaml"):
        require_own("quickstart", load_recipe("quickstart"))
    path.write_text(path.read_text() + "tasks: {a: {}, b: {}}\n")
    with pytest.raises(UserError, match="has tasks"):
        require_own(path, load_recipe(path))
