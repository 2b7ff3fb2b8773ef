"""The text of a recipe: strict YAML that remembers where everything is written.

The rules are those of YAML 1.2's core schema, in which `5e-5` is a number and `on`, `yes` and `no` are text; PyYAML
alone follows YAML 1.1, and ruamel.yaml goes beyond 1.2 (`1_000` is a number there, `2001-01-01` a date). Beyond the
schema: no key twice, no tags, no merge keys (`extends` does that work), keys are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from daps_kit.errors import Location, Problem
from daps_kit.paths import RecipeText

__all__ = ["Node", "add_resolvers", "from_python", "read_yaml"]


@dataclass(frozen=True)
class Node:
    """A value of a recipe, and where it is written.

    Attributes:
        value: a dict of nodes, a list of nodes, or a scalar (text is `RecipeText`).
        location: where the value begins; None for a value from Python.
        key: where its key is written, for a value of a mapping.
    """

    value: Any
    location: Location | None = None
    key: Location | None = None

    @property
    def place(self) -> Location | None:
        """Where to point when the whole value is meant."""
        return self.key or self.location

    def plain(self) -> Any:
        """Return the value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """Composes nodes whose plain scalars are resolved as in YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own way)


_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}


def add_resolvers(target: Any) -> None:
    """Teach a loader, or a dumper that is to quote rightly, which plain scalars are not text."""
    for tag, (pattern, first) in _SCALARS.items():
        target.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})\\Z"), first)


add_resolvers(_Loader)


def _number(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    return sign * int(digits[2:] if base != 10 else digits, base)


def _scalar(tag: str, text: str) -> Any:
    match tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _number(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def read_yaml(
    text: str, file: Path | str, folder: Path, problems: list[Problem], *, lines: bool = True
) -> Node | None:
    """Return YAML text as nodes, or None where it cannot be read at all.

    Args:
        text: one document.
        file: what to call it in messages.
        folder: where relative paths in it start.
        problems: what is wrong is added to them.
        lines: whether to say lines and columns.
    """
    return _Reader(file, folder, problems, lines=lines).read(text)


class _Reader:
    """Turns YAML text into nodes; what is wrong goes to `problems`."""

    def __init__(
        self, file: Path | str, folder: Path, problems: list[Problem], *, lines: bool = True
    ) -> None:
        self.file, self.folder, self.problems, self.lines = file, folder, problems, lines
        self.open: set[int] = set()

    def at(self, mark: Any) -> Location:
        return (
            Location(self.file, mark.line + 1, mark.column + 1)
            if self.lines and mark
            else Location(self.file)
        )

    def fail(self, message: str, mark: Any) -> None:
        self.problems.append(Problem(message, location=self.at(mark)))

    def read(self, text: str) -> Node | None:
        """Return the document, or None where it cannot be read at all."""
        try:
            for token in yaml.scan(text, Loader=_Loader):
                if isinstance(token, yaml.TagToken):
                    self.fail("tags (!) are not allowed; write the plain value", token.start_mark)
                    return None
            root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            context = f" ({error.context})" if error.context and error.problem else ""
            message = " ".join(f"{error.problem or error.context}{context}".split())
            self.fail(f"not valid YAML: {message}", error.problem_mark or error.context_mark)
            return None
        except yaml.YAMLError as error:
            self.fail(f"not valid YAML: {' '.join(str(error).split())}", None)
            return None
        return None if root is None else self.node(root)

    def node(self, raw: yaml.Node) -> Node:
        location = self.at(raw.start_mark)
        if isinstance(raw, yaml.ScalarNode):
            value = _scalar(raw.tag, raw.value)
            return Node(RecipeText(value, self.folder) if isinstance(value, str) else value, location)
        if id(raw) in self.open:
            self.fail("this alias contains itself", raw.start_mark)
            return Node(None, location)
        self.open.add(id(raw))
        if isinstance(raw, yaml.SequenceNode):
            node = Node([self.node(item) for item in raw.value], location)
        else:
            node = Node(self.mapping(raw), location)
        self.open.remove(id(raw))
        return node

    def mapping(self, raw: yaml.Node) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in raw.value:
            name = _scalar(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key.value
            if not isinstance(name, str):
                self.fail(f"a key must be text; quote it if it is meant: '{key.value}'", key.start_mark)
            elif name == "<<":
                self.fail("merge keys (<<) are not supported; `extends` joins recipes", key.start_mark)
            elif name in found:
                first = found[name].key
                where = f" (first in line {first.line})" if first and first.line else ""
                self.fail(f"the key '{name}' is written twice{where}", key.start_mark)
            else:
                found[name] = replace(self.node(value), key=self.at(key.start_mark))
        return found


def from_python(value: Any) -> Node:
    """Return a node without positions for a value from Python."""
    if isinstance(value, Mapping):
        return Node({str(key): from_python(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return Node([from_python(item) for item in value])
    return Node(value)
