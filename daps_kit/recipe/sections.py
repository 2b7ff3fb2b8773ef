"""From the sections of a recipe to settings objects, with everything that is wrong found at once.

A section is read from the inside out: the sections in it first, each by its own class, then the section itself with
the finished objects in their place. So each class validates flat data, a component at any depth is looked up in the
registry, and an error in one place hides none in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from daps_kit.declare import Declared
from daps_kit.errors import SHOWN, ComponentError, Problem, RecipeError, UserError, did_you_mean
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import KINDS, ComponentSettings, Kind, members
from daps_kit.unknown import DISTRIBUTIONS, Unknown

from .document import Node, from_python
from .wording import as_written, either, reword

__all__ = ["SectionReader", "read_section"]

_FAILED = object()
"""Stands for a value whose problems are already noted."""


def read_section(
    kind: Kind,
    section: Mapping[str, Any] | ComponentSettings | Declared[..., Any],
    registry: Registry | None = None,
) -> ComponentSettings:
    """Return the settings of a component written in Python as a recipe would, such as `{"use": "langevin"}`.

    A function that was made a component stands for its settings, all of them at their defaults.

    Raises:
        RecipeError: everything that is wrong with the section.
    """
    if isinstance(section, Declared):
        section = section.of()
    reader = SectionReader(registry or default_registry())
    settings = reader.value(from_python(section), KINDS[kind], kind)
    if reader.problems:
        raise RecipeError(reader.problems)
    if not isinstance(settings, KINDS[kind]):
        raise RecipeError([Problem(f"expected settings of a {kind}, got {type(settings).__name__}", kind)])
    return settings


def _choice(model: type[BaseModel]) -> list[str]:
    """Return the values of a model's `use`, where it has that field."""
    use = model.model_fields.get("use")
    return (
        [str(word) for word in get_args(use.annotation)]
        if use and get_origin(use.annotation) is Literal
        else []
    )


def _left_open(node: Node, annotation: Any) -> bool:
    """Whether a value says that a number is not known."""
    options = members(annotation)
    if not any(option in (int, float) for option in options):
        return False
    section = isinstance(node.value, dict) and "unknown" in node.value
    return section or (node.value == "unknown" and str not in options)


def _entry(annotation: Any) -> Any:
    """Return the type of the entries of a list that a field takes; None where it takes none."""
    lists = [option for option in members(annotation) if get_origin(option) in (tuple, list)]
    return get_args(lists[0])[0] if lists else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


class SectionReader:
    """Reads sections and collects `problems`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []

    def fail(self, message: str, path: str, node: Node, *, key: bool = False) -> Any:
        """Note a problem with a value (or with its key) and return what stands for it."""
        self.problems.append(Problem(message, path, (node.place if key else node.location) or node.place))
        return _FAILED

    def value(self, node: Node, annotation: Any, path: str, default: Any = None) -> Any:
        """Return the value for a field of that type: sections are settings objects, the rest is plain."""
        options = members(annotation)
        models = [option for option in options if _is_model(option)]
        if models and not isinstance(node.value, BaseModel):
            if isinstance(node.value, dict):
                return self.section(node, models, path, default)
            if node.value is None and NoneType in options:
                return None
            if all(option in models or option is NoneType for option in options):
                example = " such as {use: ...}" if self._names(models) else ""
                given = "nothing" if node.value is None else as_written(node.plain())
                return self.fail(f"expected a section of settings{example}, got {given}", path, node)
        for option in options:
            if isinstance(node.value, list) and get_origin(option) in (tuple, list) and get_args(option):
                return self.items(node, option, path)
            if isinstance(node.value, dict) and get_origin(option) is dict:
                inner = get_args(option)[1]
                table = {key: self.value(item, inner, f"{path}.{key}") for key, item in node.value.items()}
                return _FAILED if any(item is _FAILED for item in table.values()) else table
        return node.plain()

    def items(self, node: Node, annotation: Any, path: str) -> Any:
        """Return a list, as the tuple or list that the field wants."""
        kind, inner = get_origin(annotation), get_args(annotation)
        each = inner if kind is tuple and inner[-1] is not Ellipsis else inner[:1] * len(node.value)
        types = [*each, *[Any] * len(node.value)]
        found = [self.value(item, types[i], f"{path}.{i}") for i, item in enumerate(node.value)]
        return _FAILED if any(item is _FAILED for item in found) else kind(found)

    def _names(self, models: list[type[BaseModel]]) -> list[str]:
        """Return what `use` may be for a field that takes these models; nothing where it has no `use`."""
        if issubclass(models[0], ComponentSettings):
            return [component.name for component in self.registry.components(models[0].kind)]
        return [word for model in models for word in _choice(model)]

    def _named(self, models: list[type[BaseModel]], name: str) -> type[BaseModel]:
        """Return the class that `use: name` means for a field that takes these models."""
        if issubclass(models[0], ComponentSettings):
            return self.registry.find(models[0].kind, name).settings
        for model in models:
            if name in _choice(model):
                return model
        names = self._names(models)
        expected = either([repr(word) for word in names])
        raise ComponentError(f"expected {expected}, got '{name}'{did_you_mean(name, names)}")

    def section(self, node: Node, models: list[type[BaseModel]], path: str, default: Any = None) -> Any:
        """Return the settings object of a section; one without `use` changes the field's default."""
        fields: dict[str, Node] = dict(node.value)
        names, use = self._names(models), fields.get("use")
        inherited: dict[str, Any] = {}
        model = models[0]
        if use is None and isinstance(default, BaseModel):
            model = type(default)
            inherited = {key: getattr(default, key) for key in default.model_fields_set}
        elif issubclass(model, ComponentSettings) or names:
            if use is None:
                one_of = either([repr(name) for name in names])
                return self.fail(f"'use' is missing; it is {one_of}", path, node, key=True)
            if not isinstance(use.value, str):
                return self.fail(f"expected a name, got {as_written(use.plain())}", f"{path}.use", use)
            try:
                model = self._named(models, use.value)
            except ComponentError as error:
                return self.fail(str(error), f"{path}.use", use)
            if issubclass(model, ComponentSettings):
                del fields["use"]
        return self.model(node, model, fields, path, inherited)

    def model(
        self,
        node: Node,
        model: type[BaseModel],
        fields: dict[str, Node],
        path: str,
        inherited: dict[str, Any],
    ) -> Any:
        """Validate the fields of a section as `model`."""
        section = _Section(node, fields, model, path)
        before = len(self.problems)
        data, failed = dict(inherited), set()
        for key, item in fields.items():
            info = model.model_fields.get(key)
            if info is None:
                retired = getattr(model, "retired", {})
                if key in retired and item.plain() == retired[key]:
                    continue
                words = [*(["use"] if issubclass(model, ComponentSettings) else []), *model.model_fields]
                hint = did_you_mean(key, words) if len(self.problems) < SHOWN else ""
                self.fail(
                    f"unknown key; allowed: {', '.join(words)}{hint}", section.path(key), item, key=True
                )
                continue
            data[key] = self.field(item, model, key, section.path(key))
            if data[key] is _FAILED:
                failed.add(key)
        try:
            settings = model.model_validate(data)
        except ValidationError as error:
            self._note(error, section, failed)
            return _FAILED
        except UserError as error:
            return self.fail(str(error), path, node, key=True)
        return _FAILED if len(self.problems) > before else settings

    def field(self, node: Node, model: type[BaseModel], key: str, path: str) -> Any:
        """Return what a field holds, in which a number, or those of a list, may be left open."""
        info = model.model_fields[key]
        if _left_open(node, info.annotation):
            return self.unknown(node, model, key, path)
        inner = _entry(info.annotation)
        if not (isinstance(node.value, list) and any(_left_open(each, inner) for each in node.value)):
            return self.value(node, info.annotation, path, _default(info))
        found = [
            (
                self.unknown(each, model, key, place)
                if _left_open(each, inner)
                else self.value(each, inner, place)
            )
            for place, each in ((f"{path}.{i}", each) for i, each in enumerate(node.value))
        ]
        return _FAILED if any(each is _FAILED for each in found) else tuple(found)

    def unknown(self, node: Node, model: type[BaseModel], key: str, path: str) -> Any:
        """Return the `Unknown` that is left open, a field or an entry of it: the word, or a section with its prior."""
        fields: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        open_fields = getattr(model, "unknowable", {})
        if key not in open_fields:
            can = f"; of this section {either(list(open_fields))} can" if open_fields else ""
            return self.fail(f"cannot be unknown{can}", path, node)
        if extra := [word for word in fields if word not in ("unknown", "truth")]:
            return self.fail("unknown key; allowed: unknown, truth", f"{path}.{extra[0]}", fields[extra[0]])
        said, truth = fields.get("unknown", Node(None)), fields.get("truth", Node(None))
        prior = open_fields[key]
        if isinstance(said.value, list):
            ends = said.plain()
            if len(ends) != 2 or any(
                isinstance(end, bool) or not isinstance(end, int | float) for end in ends
            ):
                return self.fail(f"expected [low, high], got {as_written(ends)}", f"{path}.unknown", said)
            named = {"use": Node("uniform"), "low": said.value[0], "high": said.value[1]}
            prior = self.section(Node(named, said.location, said.key), DISTRIBUTIONS, f"{path}.unknown")
        elif isinstance(said.value, dict):
            prior = self.section(said, DISTRIBUTIONS, f"{path}.unknown")
        elif fields and said.value is not None:
            return self.fail(
                f"expected [low, high] or a prior such as {{use: lognormal, median: 2, factor: 1.5}}, got "
                f"{as_written(said.plain())}",
                f"{path}.unknown",
                said,
            )
        if prior is None:
            return self.fail(
                f"needs a prior, such as {{unknown: [low, high]}}; {key} has none of its own", path, node
            )
        if prior is _FAILED:
            return _FAILED
        if truth.value is not None and (
            isinstance(truth.value, bool) or not isinstance(truth.value, int | float)
        ):
            return self.fail(f"expected a number, got {as_written(truth.plain())}", f"{path}.truth", truth)
        found = Unknown(prior, None if truth.value is None else float(truth.value))
        return self._allowed(found, model.model_fields[key], path, node)

    def _allowed(self, found: Unknown, info: FieldInfo, path: str, node: Node) -> Any:
        """Return an `Unknown` if the field allows all of its values."""
        adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation(), config=ConfigDict(strict=True))
        for value in (*found.ends, *([] if found.truth is None else [found.truth])):
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                every: list[Any] = error.errors(include_url=False)
                wrong = [e for e in every if not e["type"].endswith("_type")] or every
                message = reword(wrong[:1], float(f"{value:.3g}"))
                return self.fail(f"{message}, which its prior allows", path, node)
        return found

    def _note(self, error: ValidationError, section: _Section, failed: set[str]) -> None:
        """Note what pydantic found, one problem for each value: the alternatives of a union count as one."""
        every = error.errors(include_url=False)
        found = [e for e in every if not (e["loc"] and e["loc"][0] in failed)][:SHOWN]
        better = {e["loc"][0] for e in found if e["loc"] and e["type"] != "none_required"}
        groups: dict[tuple[str, ...], tuple[Node, list[Any]]] = {}
        for e in found:
            key = str(e["loc"][0]) if e["loc"] else ""
            if e["type"] == "missing" and len(e["loc"]) == 1:
                about = section.model.model_fields[key].description
                message = f"is missing{f': {about}' if about else ''}"
                self.fail(message, section.path(key), section.node, key=True)
            elif not (e["type"] == "none_required" and key in better):
                place, trail = _locate(section, e["loc"])
                groups.setdefault(trail, (place, []))[1].append(e)
        for trail, (place, errors) in groups.items():
            deeper = any(other[: len(trail)] == trail != other for other in groups)
            if deeper and all(e["type"].endswith(("_type", "is_instance_of")) for e in errors):
                continue  # a union's other alternative; the value has the shape of the one with an error inside
            self.fail(reword(errors, place.plain()), section.path(*trail), place, key=not trail)


@dataclass(frozen=True)
class _Section:
    """A section while it is validated: its node and fields, its class, and the dotted path before its keys."""

    node: Node
    fields: dict[str, Node]
    model: type[BaseModel]
    prefix: str

    def path(self, *keys: str) -> str:
        return ".".join(key for key in (self.prefix, *keys) if key)


def _locate(section: _Section, location: tuple[int | str, ...]) -> tuple[Node, tuple[str, ...]]:
    """Return the node that a location of pydantic means, and the keys that lead there (its tags are no keys)."""
    place = section.node
    trail: list[str] = []
    for part in location:
        inside: Any = section.fields if place is section.node else place.value
        if isinstance(inside, list):
            inside = dict(enumerate(inside))
        if isinstance(inside, dict) and part in inside:
            place = inside[part]
            trail.append(str(part))
        elif place is section.node:
            trail.append(str(part))  # a value inherited from a default: the section itself is to blame
            break
    return place, tuple(trail)


def _default(info: FieldInfo) -> Any:
    """Return the default of a field; None where there is none."""
    default = info.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else default
