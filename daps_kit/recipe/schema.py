"""The JSON Schema of recipes, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from daps_kit.discovery import Component
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import KINDS, ComponentSettings, Kind, members

from .load import Recipe
from .sweep import MOST, Range, SearchSettings
from .training import TrainingRecipe

__all__ = ["component_schema", "recipe_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema(registry: Registry | None = None) -> dict[str, Any]:
    """Return the JSON Schema of recipes, of a run or of a training.

    Args:
        registry: the components they can name; those of the installed plugins by default.

    A recipe may inherit what it leaves out, so that a section need not be complete; `daps-kit check` knows more.
    """
    registry = registry or default_registry()
    in_recipes = _in_recipes(registry)
    offered = [c for kind in in_recipes for c in registry.components(kind)]
    schemas = _schemas(
        [
            Recipe,
            TrainingRecipe,
            SearchSettings,
            Range,
            *(KINDS[kind] for kind in in_recipes),
            *(c.settings for c in offered),
        ]
    )
    definitions: dict[str, Any] = schemas.pop("$defs")
    for component in offered:
        _add_use(definitions[schemas[component.settings]], component)
    for kind in in_recipes:
        cases = [(c, f"#/$defs/{schemas[c.settings]}") for c in offered if c.kind == kind]
        definitions[schemas[KINDS[kind]]] = _one_of(kind, cases)
    recipe = definitions.pop(schemas[Recipe])
    trainer = definitions.pop(schemas[TrainingRecipe])["properties"]["trainer"]
    of_runs = [key for key in Recipe.model_fields if key not in TrainingRecipe.model_fields]
    extends = {
        "description": "recipes to start from, by file or installed name; what stands here wins",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    overlay = {
        "type": "object",
        "description": "What a task sets differently.",
        "properties": {"extends": extends, **recipe["properties"]},
        "additionalProperties": False,
    }
    tasks = {
        "description": "named variations; the recipe stands for one run of each",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Task"}, {"type": "null"}]},
    }
    varied = {"anyOf": [{"type": "array", "minItems": 1}, {"type": "object"}]}
    several = {
        "sweep": {
            "description": "settings, by their paths, each with a list of values: the recipe stands for a run of every "
            "combination; with {use: random, count: N} for so many, and ranges are allowed",
            "type": "object",
            "properties": {
                "use": {"enum": ["grid", "random"], "default": "grid"},
                "count": {"type": "integer", "minimum": 1, "maximum": MOST},
            },
            "additionalProperties": varied,
        },
        "search": {
            "description": "settings, each with a list of values or a range, of which Optuna finds the best; needs the "
            "extra `tune`",
            "$ref": f"#/$defs/{schemas[SearchSettings]}",
        },
    }
    definitions[schemas[SearchSettings]]["properties"]["ranges"]["additionalProperties"] = {
        "anyOf": [{"type": "array", "minItems": 1}, {"$ref": f"#/$defs/{schemas[Range]}"}, {"type": "object"}]
    }
    complete = ["format", "data", "prior", "operator"]
    schema = {
        "$schema": DIALECT,
        "title": "A recipe of daps-kit",
        "type": "object",
        "properties": {
            "extends": extends,
            **recipe["properties"],
            "tasks": tasks,
            **several,
            "trainer": trainer,
        },
        "additionalProperties": False,
        "anyOf": [
            {"required": complete},
            {"required": ["extends"]},
            {"required": ["tasks"]},
            {"required": ["format", "trainer"]},
        ],
        "dependentSchemas": {"trainer": {"properties": dict.fromkeys([*of_runs, "tasks", *several], False)}},
        "$defs": dict(sorted({**definitions, "Task": overlay}.items())),
    }
    tidied: dict[str, Any] = _tidied(schema)
    return tidied


def component_schema(component: Component) -> dict[str, Any]:
    """Return the JSON Schema of one component's settings, with what it refers to under `$defs`."""
    schemas = _schemas([component.settings])
    definitions: dict[str, Any] = schemas.pop("$defs")
    return {**definitions.pop(schemas[component.settings]), "$defs": definitions}


def _in_recipes(registry: Registry) -> list[Kind]:
    """Return the kinds that a recipe can hold, at the top or inside another component."""
    found: set[Kind] = set()
    models: list[type[BaseModel]] = [Recipe, TrainingRecipe]
    for model in models:
        for info in model.model_fields.values():
            for option in members(info.annotation):
                if (
                    isinstance(option, type)
                    and issubclass(option, ComponentSettings)
                    and option.kind not in found
                ):
                    found.add(option.kind)
                    models += [component.settings for component in registry.components(option.kind)]
    return [kind for kind in KINDS if kind in found]


def _schemas(models: list[type[BaseModel]]) -> dict[Any, Any]:
    """Return the name of each model among the definitions, and the definitions under `$defs`."""
    names, found = models_json_schema([(model, "validation") for model in models])
    return {model: ref["$ref"].rpartition("/")[2] for (model, _), ref in names.items()} | {
        "$defs": found["$defs"]
    }


def _add_use(definition: dict[str, Any], component: Component) -> None:
    use = {"enum": [component.name, component.qualified], "description": component.settings.summary()}
    definition["properties"] = {"use": use, **definition.get("properties", {})}


def _one_of(kind: Kind, cases: list[tuple[Component, str]]) -> dict[str, Any]:
    """Return the schema of a section whose `use` decides what else it holds."""
    described = {"type": "object", "description": f"A component of the kind {kind}; `use` says which."}
    if not cases:
        return described
    names = [name for component, _ in cases for name in (component.name, component.qualified)]
    return {
        **described,
        "properties": {"use": {"enum": list(dict.fromkeys(names))}},
        "allOf": [
            {
                "if": {
                    "properties": {"use": {"enum": [component.name, component.qualified]}},
                    "required": ["use"],
                },
                "then": {"$ref": ref},
            }
            for component, ref in cases
        ],
    }


def _tidied(value: Any, *, names: bool = False) -> Any:
    """Return a schema without generated titles and defaults of sections, and with nothing required inside."""
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if not names and (
            (key == "title" and item != "A recipe of daps-kit")
            or (key == "required" and "properties" in value and "if" not in value and "use" not in item)
            or (key == "default" and isinstance(item, dict))
            or key == "discriminator"
        ):
            continue
        inside = _tidied(item, names=not names and key in ("properties", "$defs"))
        kept["anyOf" if key == "oneOf" and not names else key] = inside
    return kept
