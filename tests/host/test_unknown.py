"""Priors of unknown numbers, against scipy's; what a recipe may say of them, and what it may not."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from daps_kit.recipe import load_recipe, resolved_yaml
from daps_kit.settings import GaussianNoiseSettings
from daps_kit.unknown import Jeffreys, LogNormal, LogUniform, Normal, Uniform, Unknown
from tests.recipe_text import MINIMAL, load, problems, write


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SCIPY = {
    "uniform": (Uniform(low=0.5, high=5.0), scipy.stats.uniform(0.5, 4.5)),
    "log_uniform": (LogUniform(low=0.01, high=3.0), scipy.stats.loguniform(0.01, 3.0)),
    "lognormal": (LogNormal(median=2.0, factor=1.5), scipy.stats.lognorm(math.log(1.5), scale=2.0)),
    "normal": (Normal(mean=-1.0, std=0.3), scipy.stats.norm(-1.0, 0.3)),
    "jeffreys": (Jeffreys(), scipy.stats.loguniform(1e-4, 1e2)),
}


@pytest.mark.parametrize("name", SCIPY)
def test_quantiles_and_probabilities_are_those_of_scipy(name: str) -> None:
    ours, theirs = SCIPY[name]
    assert type(ours).model_fields["use"].default == name
    for u in (1e-6, 0.05, 0.5, 0.9):
        assert ours.quantile(u) == pytest.approx(theirs.ppf(u), rel=1e-9)
    for value in theirs.ppf(np.array([0.01, 0.3, 0.99])):
        assert ours.cdf(float(value)) == pytest.approx(theirs.cdf(value), rel=1e-9)
    if name != "normal":
        assert ours.cdf(-1.0) == 0


def test_an_unknown_is_the_median_of_its_prior_and_equal_only_to_the_same() -> None:
    unknown = Unknown(Uniform(low=1.0, high=3.0), 1.5)
    assert unknown * 1.0 == 2.0
    assert unknown == Unknown(Uniform(low=1.0, high=3.0), 1.5)
    assert unknown != Unknown(Uniform(low=1.0, high=3.0))
    assert unknown != 2.0
    assert len({unknown, copy.copy(unknown), pickle.loads(pickle.dumps(unknown))}) == 1  # noqa: S301
    assert unknown.written() == {"unknown": [1.0, 3.0], "truth": 1.5}


OPEN = MINIMAL.replace(
    "identity}",
    "gaussian_blur, intensity: {unknown: [0.5, 5.0], truth: 2}, noise: {use: gaussian, sigma: unknown}}",
)


def test_a_recipe_with_unknowns_resolves_to_itself() -> None:
    recipe = load(OPEN)
    assert recipe.operator.intensity == Unknown(Uniform(low=0.5, high=5.0), 2.0)  # type: ignore[attr-defined]
    assert recipe.operator.noise.left_open == {"sigma": Unknown(Jeffreys())}
    text = resolved_yaml(recipe)
    assert "unknown: [0.5, 5.0]" in text
    assert load_recipe(write("again.yaml", text)) == (recipe,)
    other = load(OPEN, "operator.intensity={unknown: {use: lognormal, median: 2.75, factor: 1.5}}")
    assert other != recipe
    assert other.operator.intensity == Unknown(LogNormal(median=2.75, factor=1.5))  # type: ignore[attr-defined]


def test_a_list_may_be_open_in_part() -> None:
    recipe = load(OPEN, "operator.noise.sigma=[0.03, unknown, {unknown: [0.01, 0.1], truth: 0.02}]")
    noise = recipe.operator.noise
    assert noise.left_open == {
        "sigma.1": Unknown(Jeffreys()),
        "sigma.2": Unknown(Uniform(low=0.01, high=0.1), 0.02),
    }
    assert noise.at({"sigma.1": 0.2, "sigma.2": 0.4}).sigma == (0.03, 0.2, 0.4)  # type: ignore[attr-defined]
    assert load_recipe(write("again.yaml", resolved_yaml(recipe))) == (recipe,)
    (sigma,) = [kind for kind in recipe_schema_of_sigma() if kind.get("type") == "array"]
    assert {"const": "unknown"} in sigma["items"]["anyOf"]


def recipe_schema_of_sigma() -> list[dict[str, Any]]:
    kinds: list[dict[str, Any]] = GaussianNoiseSettings.model_json_schema()["properties"]["sigma"]["anyOf"]
    return kinds


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("noise.sigma=[0.1, a, 0.2]", "noise.sigma.1: expected a number, got 'a'"),
        ("noise.sigma=[0.1, -1]", "noise.sigma.1: expected at least 0, got -1"),
        ("noise.sigma=[unknown, {unknown: [-1, 1]}]",
         "noise.sigma.1: expected at least 0, got -1.0, which its prior allows"),
        ("noise.sigma=[0.1, {unknown: 3}]", "noise.sigma.1.unknown: expected [low, high] or a prior such as {use: "
         "lognormal, median: 2, factor: 1.5}, got 3"),
        ("noise.clipped=[unknown, 1]", "noise.clipped.0: cannot be unknown; of this section sigma can"),
        ("intensity=unknown", "intensity: needs a prior, such as {unknown: [low, high]}; intensity has none of its own"),
        ("kernel_size=unknown", "kernel_size: cannot be unknown; of this section intensity can"),
        ("noise.quantised={unknown: [1, 3]}", "noise.quantised: cannot be unknown; of this section sigma can"),
        ("intensity={unknown: [-1, 3]}", "intensity: expected more than 0, got -1.0, which its prior allows"),
        ("intensity={unknown: [1, 3], truth: 0}", "intensity: expected more than 0, got 0.0, which its prior allows"),
        ("intensity={unknown: [1, 3], truth: a}", "intensity.truth: expected a number, got 'a'"),
        ("intensity={unknown: [3, 1]}", "intensity.unknown: [3, 1] is no range; allowed: low < high"),
        ("intensity={unknown: [1, a]}", "intensity.unknown: expected [low, high], got [1, \"a\"]"),
        ("intensity={unknown: 3}", "intensity.unknown: expected [low, high] or a prior such as {use: lognormal, "
         "median: 2, factor: 1.5}, got 3"),
        ("intensity={unknown: [1, 2], true_value: 3}",
         "intensity.true_value: unknown key; allowed: unknown, truth"),
        ("intensity={unknown: {use: lognorma}}", "intensity.unknown.use: expected 'uniform', 'log_uniform', "
         "'lognormal', 'normal' or 'jeffreys', got 'lognorma'; did you mean 'lognormal'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_unknown_is_one_line_with_its_place(override: str, said: str) -> None:
    (line,) = problems(OPEN, f"operator.{override}")
    assert line == f"override 'operator.{override}': operator.{said}"


def test_the_place_is_that_of_the_value() -> None:
    (line,) = problems(MINIMAL.replace("identity}", "identity, noise: {use: gaussian, clipped: unknown}}"))
    assert line.startswith("r.yaml:4:")
    (line,) = problems(MINIMAL + "runs: unknown\n")
    assert line == "r.yaml:5:7: runs: cannot be unknown"
