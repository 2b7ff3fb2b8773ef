"""Samplers on known posteriors: what exact samples score, what wrong ones do, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from daps_kit import build
from daps_kit.compare import known as module
from daps_kit.compare.arena import fight
from daps_kit.compare.document import Known, load_comparison
from daps_kit.compare.known import measure, sliced_wasserstein, variance_error
from daps_kit.compare.posteriors import known_posterior
from daps_kit.compare.report import write
from daps_samplers.daps import DAPS

TEXT = """
format: 1
posteriors: [gaussian, bipsda-low]
samplers: [{use: daps}]
budgets: [5]
measurements: 2
samples: 20
"""


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "known.yaml"
    path.write_text(text + f"output: {folder / 'out'}\n")
    return path


def test_distances_are_those_that_can_be_computed_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2000, 3), generator=generator, dtype=torch.float64)
    shift = torch.tensor([3.0, 0.0, 0.0]).double()
    # The root of the mean of (shift . direction)^2 over directions of the sphere: |shift| / sqrt d.
    assert sliced_wasserstein(x, x + shift) == pytest.approx(3 / 3**0.5, rel=0.05)
    assert sliced_wasserstein(x, x.flip(0)) == 0
    assert variance_error(2 * x, x) == pytest.approx(3)


def test_exact_samples_have_no_error_and_points_the_variance_as_theirs() -> None:
    problem = known_posterior("gaussian", 0)
    right = module._judge(problem, problem.exact(2000, 77), 5)
    assert right["sliced_wasserstein"] < 1.5 * right["floor"]
    assert right["mmse_gap"] < 0.02
    assert right["variance_error"] < 0.06
    points = module._judge(problem, problem.exact(2000, 7).mean(0).repeat(50, 1), 5)
    assert points["variance_error"] == pytest.approx(1)
    assert points["coverage"] == 0
    assert points["mmse_gap"] < 0.02
    assert module._judge(problem, problem.exact(1, 0), 5) == {}


def test_a_comparison_of_known_posteriors_is_kept_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = load_comparison(written(tmp_path))
    assert [(c.task, c.sampler, c.budget) for c in comparison.cells] == [
        ("gaussian", "daps", 5),
        ("bipsda-low", "daps", 5),
    ]
    outcomes = fight(comparison, quiet=True)
    assert [set(o.images) for o in outcomes] == [{"measurement 1", "measurement 2"}] * 2
    assert outcomes[0].cost["network_calls"] == 5
    write(comparison, outcomes)
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "2 measurements with a known posterior, 20 samples of each" in text
    assert "| sampler | CRPS | coverage | coverage off by | success | sliced Wasserstein | floor |" in text

    def refuse(*args: object) -> None:
        raise AssertionError("it samples again")

    monkeypatch.setattr(DAPS, "sample", refuse)
    assert [o.images for o in fight(comparison, quiet=True)] == [o.images for o in outcomes]
    with pytest.raises(AssertionError, match="samples again"):
        fight(load_comparison(written(tmp_path), ["samples=10"]), quiet=True)


def test_samples_that_are_lost_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = DAPS.sample

    def sample(self, prior, operator, y, streams):  # type: ignore[no-untyped-def]
        y = y.clone()
        y[:3] = torch.nan
        yield from original(self, prior, operator, y, streams)

    monkeypatch.setattr(DAPS, "sample", sample)
    settings = build_settings()
    found = measure(Known("gaussian", settings, 6, 1, 0, tmp_path))
    assert found.lost == 3
    assert found.images["measurement 1"]["success"] == 0.5
    assert json.loads((tmp_path / "known.json").read_text())["lost"] == 3


def build_settings():  # type: ignore[no-untyped-def]
    from daps_kit.recipe.sections import read_section

    settings = read_section("sampler", {"use": "daps", "budget": 4})
    assert build("sampler", settings)
    return settings
