"""Components in words: what `daps-kit list` and `show` print, and the tables of the documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from daps_kit.discovery import Component
from daps_kit.errors import ComponentError, UserError, did_you_mean
from daps_kit.registry import Registry
from daps_kit.settings import KINDS, ComponentSettings, Kind, members

from .resolved import plain, to_yaml
from .schema import component_schema

__all__ = ["Parameter", "look_up", "parameters", "snippet", "text"]


@dataclass(frozen=True)
class Parameter:
    """One setting of a component.

    Attributes:
        name: dotted where it lies in a section of the component.
        type: what may be written.
        default: as a recipe writes it; None where it must be given.
        range: bounds of numbers, such as `>= 1`; empty where there are none.
        description: what it is.
    """

    name: str
    type: str
    default: str | None
    range: str
    description: str


def look_up(word: str, registry: Registry) -> Component:
    """Return the component called `kind/name`, `kind/distribution/name`, or `name` where one kind alone has it.

    Raises:
        UserError: there is none, or several.
    """
    first, _, rest = word.partition("/")
    kind = first.removesuffix("s")
    if rest and kind in KINDS:
        return registry.find(kind, rest)
    found = []
    for each in KINDS:
        try:
            found.append(registry.find(each, word))
        except ComponentError:
            continue
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"'{word}' may be {' or '.join(f'{c.kind}/{c.name}' for c in found)}")
    names = [name for c in registry.components() for name in (f"{c.kind}/{c.name}", c.name)]
    raise UserError(f"no component '{word}'; `daps-kit list` shows them all{did_you_mean(word, names)}")


def parameters(component: Component, registry: Registry) -> list[Parameter]:
    """Return the settings of a component; those of the sections in it have dotted names."""
    schema = component_schema(component)
    return list(_fields(component.settings, schema, schema["$defs"], registry, ""))


def _fields(
    model: type[BaseModel],
    schema: dict[str, Any],
    definitions: dict[str, Any],
    registry: Registry,
    prefix: str,
) -> Iterator[Parameter]:
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        missing = default is PydanticUndefined
        options = members(info.annotation)
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        label, about = prefix + name, info.description or ""
        if isinstance(default, str):  # a word, a file or the like, a section only now and then
            models = []
        if models and not issubclass(models[0], ComponentSettings) and len(models) == 1 and not missing:
            nested = _definition(models[0], definitions)
            own = type(default) if isinstance(default, BaseModel) else models[0]
            yield from _fields(own, nested, definitions, registry, f"{label}.")
            continue
        if len(models) > 1 and isinstance(default, BaseModel) and "use" in type(default).model_fields:
            yield from _cases(models, default, definitions, registry, f"{label}.")
            continue
        shown = None if missing else _flow(plain(default, registry))
        if models and issubclass(models[0], ComponentSettings):
            names = [c.name for c in registry.components(models[0].kind)]
            if isinstance(default, ComponentSettings):  # the section to copy shows the rest of it
                shown = _flow({"use": registry.name_in_recipe(default)})
            yield Parameter(label, f"{models[0].kind}: {' | '.join(names)}", shown, "", about)
        elif models:
            cases = [_section(option, _definition(option, definitions)) for option in models]
            yield Parameter(label, " or ".join(cases), shown, "", about)
        else:
            value = schema["properties"][name]
            ranges = dict.fromkeys(_ranges(value, definitions))
            yield Parameter(label, _type(value, definitions), shown, ", ".join(ranges), about)


def _cases(
    models: list[type[BaseModel]],
    default: BaseModel,
    definitions: dict[str, Any],
    registry: Registry,
    prefix: str,
) -> Iterator[Parameter]:
    """Yield the settings of a section whose `use` decides what else it holds: those of all first, each once."""
    found: dict[str, list[tuple[str, Parameter]]] = {}
    for model in sorted(models, key=lambda model: model is not type(default)):
        for parameter in _fields(model, _definition(model, definitions), definitions, registry, prefix):
            found.setdefault(parameter.name, []).append((_use(model), parameter))
    uses = found.pop(f"{prefix}use")
    words = {use: parameter for use, parameter in uses}
    about = "; ".join(f"{use}: {parameter.description}" for use, parameter in words.items())
    yield Parameter(
        f"{prefix}use", " | ".join(_use(model) for model in models), uses[0][1].default, "", about
    )
    for cases in sorted(found.values(), key=lambda cases: len(cases) < len(models)):
        use, parameter = cases[0]
        own = len(cases) < len(models)
        yield replace(parameter, description=f"{use}: {parameter.description}") if own else parameter


def _use(model: type[BaseModel]) -> str:
    return str(model.model_fields["use"].default)


def _definition(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[model.__name__]
    return found


def _section(model: type[BaseModel], schema: dict[str, Any]) -> str:
    """Return a section as one writes it, `{use: gaussian, sigma: 0.05}`."""
    values = {}
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        values[name] = "..." if default is PydanticUndefined else default
    return _flow(values)


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    return to_yaml(value, flow=True).replace("'...'", "...")


_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return what a schema allows, in words."""
    for union in ("anyOf", "oneOf"):
        if union in schema:
            words = dict.fromkeys(_type(option, definitions) for option in schema[union])
            if "number" in words:
                words.pop("whole number", None)
            return " or ".join(words)
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return _flow(schema["const"])
    if "enum" in schema:
        return " | ".join(_flow(word) for word in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("prefixItems")
        if items:
            return f"[{', '.join(_type(item, definitions) for item in items)}]"
        each = _type(schema.get("items", {}), definitions)
        return f"list of ({each})" if " or " in each else f"list of {each}"
    if "path" in schema.get("format", ""):
        return "path"
    if "unknown" in schema.get("properties", {}):  # {unknown: [low, high]}
        return "unknown"
    return _WORDS.get(schema.get("type", ""), "section" if schema.get("type") == "object" else "anything")


_SIGNS = {
    "minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<", "gt": ">", "ge": ">=",
    "lt": "<", "le": "<=", "multipleOf": "multiple of", "minLength": "length >=", "minItems": "items >=",
}  # fmt: skip


def _ranges(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Yield the bounds in a schema, at any depth."""
    for key, sign in _SIGNS.items():
        if key in schema and not (key == "minItems" and "prefixItems" in schema):
            yield f"{sign} {schema[key]}"
    for key in ("anyOf", "oneOf", "prefixItems"):
        for option in schema.get(key, ()):
            yield from _ranges(option, definitions)
    if isinstance(schema.get("items"), dict):
        yield from _ranges(schema["items"], definitions)


def snippet(component: Component, registry: Registry) -> str:
    """Return the section of a component for a recipe, its defaults written out; what must be given is `...`."""
    section: dict[str, Any] = {"use": registry.name_in_recipe(component.settings)}
    for name, info in component.settings.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        section[name] = (
            _missing(info.annotation) if default is PydanticUndefined else plain(default, registry)
        )
    return to_yaml(_placed(component.kind, section)).replace("'...'", "...")


def _missing(annotation: Any) -> Any:
    """Return what stands for a value that must be given."""
    options = [option for option in members(annotation) if isinstance(option, type)]
    return {"use": "..."} if any(issubclass(option, ComponentSettings) for option in options) else "..."


def _placed(kind: Kind, section: dict[str, Any]) -> dict[str, Any]:
    """Return a section under the keys where a recipe has it: a kernel lies in the sampler, noise in the operator."""
    if kind == "noise":
        return {"operator": {"use": "...", kind: section}}
    if kind == "executor":
        return {"execution": section}
    return {"sampler": {kind: section}} if kind == "kernel" else {kind: section}


def text(component: Component) -> str:
    """Return the whole docstring."""
    return inspect.cleandoc(component.settings.__doc__ or "")
