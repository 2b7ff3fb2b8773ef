"""The JSON Schema: the committed file is current, and it agrees with the recipes and with what is wrong in them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import daps_recipes
import jsonschema
import pytest

from daps_kit.recipe import Recipe
from daps_kit.recipe.installed import installed_recipes
from daps_kit.recipe.layers import compose
from daps_kit.recipe.schema import component_schema, recipe_schema
from daps_kit.registry import Registry
from daps_kit.settings import KINDS

COMMITTED = Path(daps_recipes.__file__).with_name("recipe.schema.json")
BUILT_IN = Registry.discover(third_parties=False)


def test_the_committed_schema_is_current() -> None:
    now = recipe_schema(BUILT_IN)
    command = "daps-kit --no-plugins schema --output recipes/recipe.schema.json"
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == now, f"write it anew: {command}"


def test_every_setting_of_a_recipe_is_in_the_schema_and_described() -> None:
    schema = recipe_schema(BUILT_IN)
    assert list(schema["properties"]) == [
        "extends", *Recipe.model_fields, "tasks", "sweep", "search", "trainer",
    ]  # fmt: skip
    assert all(value["description"] for value in schema["properties"].values())
    for kind in KINDS:
        section = schema["$defs"][KINDS[kind].__name__]
        components = BUILT_IN.components(kind)
        assert [c.name for c in components] + [c.qualified for c in components] == sorted(
            section["properties"]["use"]["enum"], key=lambda name: ("/" in name, name.rpartition("/")[2])
        )
        for case in section["allOf"]:
            definition = schema["$defs"][case["then"]["$ref"].rpartition("/")[2]]
            assert definition["additionalProperties"] is False
            assert all("description" in value for value in definition["properties"].values())


def test_all_references_lead_somewhere() -> None:
    schema = recipe_schema(BUILT_IN)

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [r for item in value.values() for r in references(item)]
        return [r for item in value for r in references(item)] if isinstance(value, list) else []

    found = references(schema)
    assert len(found) > 20
    assert {r.removeprefix("#/$defs/") for r in found} <= set(schema["$defs"])


@cache
def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(recipe_schema(BUILT_IN))
    return jsonschema.Draft202012Validator(recipe_schema(BUILT_IN))


INSTALLED = installed_recipes()


@pytest.mark.parametrize("name", INSTALLED)
def test_installed_recipes_keep_to_the_schema(name: str) -> None:
    root = compose(INSTALLED[name], [])
    assert root is not None
    validator().validate(json.loads(json.dumps(root.plain())))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"rusn": 1}, []), ({"runs": 0}, ["runs"]), ({"runs": "1"}, ["runs"]), ({"format": 2}, ["format"]),
        ({"operator": {"use": "nothing"}}, ["operator", "use"]),
        ({"operator": {"use": "gaussian_blur", "kernel_sise": 3}}, ["operator"]),
        ({"operator": {"use": "gaussian_blur", "intensity": -1}}, ["operator", "intensity"]),
        ({"sampler": {"use": "daps", "kernel": {"use": "langevin", "steps": 0}}}, ["sampler", "kernel", "steps"]),
        ({"tasks": {"a": {"runs": 0}}}, ["tasks", "a"]), ({"data": {"use": "prior", "count": 0}}, ["data"]),
    ],
)  # fmt: skip
def test_the_schema_finds_what_is_wrong(change: dict[str, Any], path: list[str]) -> None:
    good = {
        "format": 1, "data": {"use": "prior", "count": 2}, "prior": {"use": "gaussian"}, "operator": {"use": "identity"},
    }  # fmt: skip
    check = validator()
    assert check.is_valid(good)
    assert check.is_valid({**good, "sampler": {"kernel": {"steps": 3}}})
    assert path in [list(error.absolute_path) for error in check.iter_errors({**good, **change})]
    assert not check.is_valid({key: value for key, value in good.items() if key != "prior"})


def test_the_schema_tells_trainings_from_runs() -> None:
    good = {"format": 1, "trainer": {"use": "denoiser", "images": "photos"}}
    check = validator()
    assert check.is_valid(good)
    assert not check.is_valid({**good, "prior": {"use": "gaussian"}})
    assert not check.is_valid({**good, "tasks": {"a": {"runs": 2}}})
    assert not check.is_valid({**good, "trainer": {"use": "denoiser", "images": "photos", "batch_size": 0}})
    assert not check.is_valid({**good, "trainer": {"use": "denoisr"}})


def test_a_component_alone() -> None:
    schema = component_schema(BUILT_IN.find("operator", "gaussian_blur"))
    assert schema["properties"]["kernel_size"]["minimum"] == 1
    number, word, section = schema["properties"]["intensity"]["anyOf"]  # it may be unknown
    assert number["exclusiveMinimum"] == 0
    assert word == {"const": "unknown"}
    assert set(section["properties"]) == {"unknown", "truth"}
    assert "NoiseSettings" in schema["$defs"]
