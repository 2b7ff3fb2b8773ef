"""A comparison's file, its cells, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daps_kit.compare.document import load_comparison
from daps_kit.errors import RecipeError
from tests.host.compare.comparison import cells, written

Toy = Callable[..., Path]


def test_every_cell_is_a_recipe_on_the_same_data_in_a_folder_of_its_own(toy: Toy, tmp_path: Path) -> None:
    found = cells(toy(), budgets=[3, 5], seed=7, check_prior=False)
    assert [(c.task, c.budget, c.sampler) for c in found] == [
        (task, budget, sampler)
        for task in ("identity", "down_sampling")
        for budget in (3, 5)
        for sampler in ("few", "wide")
    ]
    assert {c.recipe.output for c in found} == {
        tmp_path / "out" / "cells" / c.task / str(c.budget) / c.sampler for c in found
    }
    assert len({str(c.recipe.data) for c in found}) == 1
    assert all((c.recipe.seed, c.recipe.runs, c.recipe.check_prior) == (7, 3, False) for c in found)
    assert [c.recipe.sampler.budget for c in found] == [3, 3, 5, 5] * 2  # type: ignore[attr-defined]
    assert [c.recipe.sampler.spread for c in found] == ["auto", "sigma"] * 4  # type: ignore[attr-defined]


def test_names_tell_like_components_apart(toy: Toy) -> None:
    found = cells(
        toy(),
        priors=[{"use": "gaussian"}, {"use": "gaussian", "std": 0.2}],
        operators=[{"use": "identity"}],
        samplers=[{"use": "daps"}, {"use": "daps", "restarts": 2}, {"use": "daps", "restarts": 3}],
    )
    assert [c.task for c in found[::3]] == ["identity (gaussian)", "identity (gaussian-2)"]
    assert [c.sampler for c in found[:3]] == ["daps", "daps-2", "daps-3"]
    assert len({c.recipe.output for c in found}) == 6


def test_recipes_stand_for_their_sections(toy: Toy, tmp_path: Path) -> None:
    other = toy("other", operator={"use": "identity", "noise": {"use": "gaussian", "sigma": 0.3}})
    found = cells(toy(), operators=[other.name, "embedded/down_sampling"], samplers=[{"use": "daps"}])
    assert [c.task for c in found] == ["identity", "down_sampling"]
    assert found[0].recipe.operator.noise.sigma == 0.3  # type: ignore[attr-defined]


def test_overrides_win_and_without_budgets_samplers_have_their_own(toy: Toy) -> None:
    path = written(toy())
    found = load_comparison(path, ["runs=1", "budgets=[9]"])
    assert {(c.budget, c.recipe.runs) for c in found.cells} == {(9, 1)}
    path.write_text(path.read_text().replace("budgets:\n- 3\n", ""))
    assert {c.budget for c in load_comparison(path).cells} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": [3]}, "budget: unknown key; allowed: format, name, images, priors"),
        ({"budgets": [0]}, "budgets: expected a list of whole numbers from 1 up, got "),
        ({"budgets": 20}, "budgets: expected a list of whole numbers from 1 up, got 20"),
        ({"seeds": "own"}, "seeds: expected paired"),
        ({"samplers": []}, "samplers: expected at least one"),
        ({"samplers": [3]}, "samplers.0: expected a section or the name of a recipe, got 3"),
        ({"samplers": ["nowhere"]}, "samplers.0: "),
        ({"samplers": [{"use": "dapps"}]}, "unknown sampler 'dapps'"),
        ({"operators": ["parts/embedded"]}, "operators.0: parts/embedded has no section 'operator'"),
        ({"runs": 0}, "runs: "),
    ],
)
def test_what_is_wrong_is_said(toy: Toy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        cells(toy(), **changes)
    assert message in str(error.value)
    assert "comparison.yaml:" in str(error.value)
    lines = str(error.value).splitlines()
    assert len(lines) == len(set(lines)) <= 2


def test_what_is_missing_is_said_at_once(toy: Toy) -> None:
    path = toy.__call__().with_name("empty.yaml")
    path.write_text("name: nothing\n")
    with pytest.raises(RecipeError) as error:
        load_comparison(path)
    assert [problem.path for problem in error.value.problems] == [
        "format", "images", "priors", "operators", "samplers",
    ]  # fmt: skip
