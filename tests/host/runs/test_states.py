"""How far runs are, by what lies in their folders."""

from __future__ import annotations

import pytest

import daps_kit
from daps_kit.errors import UserError
from daps_kit.runs.states import run_states


def test_states_of_runs(toy, tmp_path):
    daps_kit.run(toy(), ["runs=2", f"output={tmp_path / 'a'}", "name=first"], quiet=True)
    daps_kit.run(toy(), ["runs=2", f"output={tmp_path / 'deep/b'}"], quiet=True)
    (tmp_path / "deep/b/metrics.json").unlink()
    gone = sorted((tmp_path / "deep/b/samples").glob("*/sample-02.safetensors"))
    gone[0].unlink()
    count = 2 * len(gone)
    (tmp_path / "deep/c").mkdir()
    (tmp_path / "deep/c/recipe.yaml").write_bytes(b"\xff")
    (tmp_path / "training").mkdir()
    (tmp_path / "training/recipe.yaml").write_text("trainer:\n  use: x\n")
    first, second, third = run_states(tmp_path)
    assert (first.folder, first.name, first.state) == (tmp_path / "a", "first", "finished")
    assert "PSNR" in first.numbers
    assert (second.state, second.numbers) == (f"{count - 1} of {count}", "")
    assert third.state == "damaged"


def test_a_run_all_of_whose_samples_were_lost_has_failed(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\nruns: 1\n")
    choices = ("posterior_mean", "sample_mean", "reported", "oracle", "ensemble")
    summary = ", ".join(f'"{choice}": {{}}' for choice in choices)
    (tmp_path / "metrics.json").write_text(
        f'{{"summary": {{{summary}}}, "lost": [{{}}], "images": {{"a": {{"reported": null, "samples": []}}}}}}'
    )
    (found,) = run_states(tmp_path)
    assert (found.state, found.numbers) == ("failed", "1 sample lost")
    (tmp_path / "metrics.json").write_text("{}")
    assert next(run_states(tmp_path)).state == "damaged"
    with pytest.raises(UserError, match="no such folder"):
        list(run_states(tmp_path / "gone"))
