"""Coverage of recipes whose posterior is known: a Gaussian prior, exact draws, and what was made wrong on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from daps_kit.coverage.simulate import simulate
from daps_kit.errors import UserError
from daps_priors.exact.gaussian import GaussianPrior

Toy = Callable[..., Path]
OPERATOR = {
    "use": "gaussian_blur",
    "kernel_size": 5,
    "intensity": 1.0,
    "noise": {"use": "gaussian", "sigma": 0.2},
}
EXACT = {"use": "daps", "budget": 6}


@pytest.fixture
def gaussian(toy: Toy, tmp_path: Path) -> Path:
    """A recipe whose every level is exact, so that its samples are draws of the posterior."""
    return toy(operator=OPERATOR, sampler=EXACT)


@pytest.mark.parametrize("how", [{"count": 10**11}, {"runs": 10**11}, {"runs": 1}])
def test_counts_that_no_run_ends_with(gaussian: Path, how: dict[str, int]) -> None:
    ((name, value),) = how.items()
    with pytest.raises(UserError, match=f"{name}: expected 2 to 1000000, got {value}"):
        simulate(gaussian, **how)


def test_exact_samples_are_calibrated_and_what_is_finished_is_kept(
    gaussian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = simulate(
        gaussian, ["data={use: prior, count: 1, image_shape: [3, 16, 16]}"], count=12, runs=9, quiet=True
    )
    assert found.path == tmp_path / "out-coverage"
    assert found.verdict == "calibrated, as far as 12 images tell"
    assert set(found.by_kind) == {"pixels", "blocks", "projections", "fit", "whole images (TARP)"}
    pixels = found.by_kind["pixels"]
    assert pixels.due[0] == pytest.approx(0.8)
    assert pixels.covered[0] == pytest.approx(0.8, abs=3 * pixels.covered_errors[0])
    assert pixels.covered_errors[0] < 0.01
    for spread, error in found.groups:
        assert spread == pytest.approx(error, rel=0.12)
    record = json.loads((found.path / "coverage.json").read_text())
    assert record["coverage"]["pixels"]["covered"] == pytest.approx(pixels.covered[0])
    assert "| pixels | 0." in (found.path / "coverage.md").read_text()
    ElementTree.parse(found.path / "coverage.svg")

    calls: list[int] = []
    original = GaussianPrior.denoise
    monkeypatch.setattr(
        GaussianPrior, "denoise", lambda self, x, sigma: calls.append(len(x)) or original(self, x, sigma)
    )
    again = simulate(
        gaussian, ["data={use: prior, count: 1, image_shape: [3, 16, 16]}"], count=12, runs=9, quiet=True
    )
    assert (again, calls) == ([found], [])


@pytest.mark.parametrize(
    ("tau", "verdict"),
    [
        (0.02, "pixels too narrow"),  # fits the noise, and is sure of it
        (
            0.8,
            "the samples explain y otherwise than the truths do",
        ),  # close to the prior, whose draws have the right spread
    ],
)
def test_a_wrong_tau_is_detected(gaussian: Path, tau: float, verdict: str) -> None:
    (found,) = simulate(
        gaussian,
        ["data={use: prior, count: 1, image_shape: [3, 16, 16]}", f"sampler.tau={tau}"],
        count=12,
        runs=9,
        quiet=True,
    )
    assert found.verdict.startswith("not calibrated: ")
    assert verdict in found.verdict


def test_images_of_the_recipe_may_be_the_truths(toy: Toy, tmp_path: Path) -> None:
    path = toy(operator=OPERATOR, sampler=EXACT)
    (found,) = simulate(path, images=True, count=2, runs=3, output=tmp_path / "mine", quiet=True)
    assert (found.path, found.images, found.groups) == (tmp_path / "mine", 2, [])
    assert found.truths == "the recipe's images"
    with pytest.raises(UserError, match="the recipe has 1"):
        simulate(path, ["data.limit=1"], images=True, quiet=True)
    with pytest.raises(UserError, match="its data are none"):
        simulate(path, ["data={use: prior, count: 3, image_shape: [3, 16, 16]}"], images=True, quiet=True)
