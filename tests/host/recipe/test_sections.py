"""Sections become settings, at any depth, from text and from Python."""

from __future__ import annotations

import os

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe, resolved_yaml
from daps_kit.recipe.sections import read_section
from daps_kit.registry import Registry
from daps_kit.settings import Settings
from tests.host.recipe.components import Anything, Holder
from tests.recipe_text import MINIMAL, load, problems, write


def test_a_section_without_use_changes_the_default() -> None:
    recipe = load(MINIMAL, "sampler.kernel.tau=0.09", "operator.noise.sigma=0.1")
    assert recipe.sampler.kernel.tau == 0.09  # type: ignore[attr-defined]
    assert recipe.operator.noise.sigma == 0.1  # type: ignore[union-attr]


def test_components_at_any_depth(registry: Registry) -> None:
    recipe = load(
        MINIMAL + "sampler:\n  use: holder\n  others: [{use: anything, x: 1}, {use: langevin}]\n"
        "  table: {a: {use: anything, x: [q]}}\n  kernel: {}\n", registry=registry,
    )  # fmt: skip
    langevin = registry.find("kernel", "langevin").settings()
    expected = Holder(others=(Anything(x=1), langevin), table={"a": Anything(x=["q"])})
    assert recipe.sampler == expected
    assert recipe.sampler.kernel.x == 3  # type: ignore[attr-defined]
    again = load_recipe(write("again.yaml", resolved_yaml(recipe, registry=registry)), registry=registry)
    assert again == (recipe,)


def test_a_section_from_python() -> None:
    kernel = read_section("kernel", {"use": "langevin", "steps": 3})
    assert kernel.steps == 3  # type: ignore[attr-defined]
    assert read_section("kernel", kernel) is kernel
    sampler = read_section("sampler", {"use": "daps", "kernel": kernel})
    assert sampler.kernel is kernel  # type: ignore[attr-defined]
    with pytest.raises(RecipeError) as caught:
        read_section("sampler", {"use": "daps", "kernel": {"use": "langevin", "steps": 0}, "levels": 3})
    first, second = str(caught.value).splitlines()
    assert first == "sampler.kernel.steps: expected at least 1, got 0"
    assert second.startswith("sampler.levels: unknown key; allowed: use, budget, ")
    with pytest.raises(RecipeError, match="expected settings of a prior, got Langevin"):
        read_section("prior", kernel)
    with pytest.raises(RecipeError, match="kernel: 'use' is missing"):
        read_section("kernel", {})


def test_settings_refuse_nested_models_that_are_not_known() -> None:
    class Inner(Settings):
        x: int = 3

    with pytest.raises(RecipeError, match="expected settings of a kernel, got Inner"):
        read_section("kernel", Inner())  # type: ignore[arg-type]


def test_rules_between_settings(registry: Registry) -> None:
    body = MINIMAL + "sampler:\n  use: holder\n  low: 9\n"
    assert problems(body, registry=registry) == ["r.yaml:5:1: sampler: low must not be above 5"]
    body = MINIMAL + "sampler:\n  use: holder\n  low: -9\n"
    assert problems(body, registry=registry) == ["r.yaml:5:1: sampler: low must not be below -5"]
    body = (
        MINIMAL
        + "sampler:\n  use: holder\n  others: [{use: langevin, steps: 0}, {use: langevim}]\n  kernel: null\n  file: x.npy\n"
    )
    found = problems(body, registry=registry)
    assert found[0] == "r.yaml:7:35: sampler.others.0.steps: expected at least 1, got 0"
    assert found[1].startswith("r.yaml:7:45: sampler.others.1.use: unknown kernel 'langevim'; ")
    assert (
        found[2]
        == "r.yaml:8:11: sampler.kernel: expected a section of settings such as {use: ...}, got nothing"
    )
    assert found[3] == f"r.yaml:9:9: sampler.file: no such file: {os.getcwd()}/x.npy"


def test_a_section_may_be_null_where_there_may_be_none(registry: Registry) -> None:
    recipe = load(MINIMAL + "sampler: {use: holder, spare: null}\n", registry=registry)
    assert recipe.sampler == Holder()
    recipe = load(MINIMAL + "sampler: {use: holder, spare: {use: anything}}\n", registry=registry)
    assert recipe.sampler.spare == Anything()  # type: ignore[attr-defined]
