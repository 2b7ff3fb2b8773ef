"""The text of a recipe: strict YAML that remembers where everything is written.

The rules are those of YAML 1.2's core schema, in which `5e-5` is a number and `on`, `yes` and `no` are text; PyYAML
alone follows YAML 1.1, and ruamel.yaml goes beyond 1.2 (`1_000` is a number there, `2001-01-01` a date). Beyond the
schema: no key twice, no tags, no merge keys (`extends` does that work), keys are text. Text has no control characters,
since it becomes names of files and lines on a terminal.

A recipe is small, so there are limits to its size, to how deep it is nested, to how many values it has once its
aliases are written out, and to the digits of a number: a few hundred letters can stand for billions of values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from daps_kit.errors import Location, Problem, RecipeError, control_character
from daps_kit.paths import RecipeText

__all__ = ["VALUES", "Node", "add_resolvers", "from_python", "plain_yaml", "read_yaml"]

LETTERS, DEPTH, VALUES, DIGITS = 500_000, 32, 20_000, 40
"""Limits: letters but those of comments, sections and lists inside each other, values, aliases written out, digits."""
HASHES = 100
"""Hashes at the end of a recipe from which on they are not given to the parser."""


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


class _Refused(yaml.MarkedYAMLError):
    """YAML that is valid but not allowed here."""


class _Loader(yaml.SafeLoader):
    """Composes nodes whose plain scalars are resolved as in YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own way)
    depth = 0
    values = 0

    def fetch_tag(self) -> None:
        """Refuse a tag."""
        message = "tags (!) are not allowed; write the plain value"
        raise _Refused(None, None, message, self.get_mark())

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, if it is not nested too deep or one too many."""
        self.depth, self.values = self.depth + 1, self.values + 1
        deep = self.depth > DEPTH and self.check_event(yaml.CollectionStartEvent)
        if deep or self.values > 2 * VALUES:  # keys are nodes, too
            message = TOO_DEEP if deep else TOO_MANY
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _Refused(None, None, message, mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


TOO_DEEP = f"sections and lists are nested more than {DEPTH} deep"
TOO_MANY = f"more than {VALUES} values, with aliases (*) written out"


_COMMENTS = re.compile(r"^#.*$", re.MULTILINE)
_HASH = re.compile(r'# file ".*": sha256 [0-9a-f]{64}\s*')
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
            if len(text) > DIGITS:
                raise ValueError(f"a whole number of {len(text)} letters; at most {DIGITS} are read")
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


def plain_yaml(text: str, file: Path | str) -> Any:
    """Return the plain values of a YAML text, such as a resolved recipe, within the limits of recipes.

    Raises:
        RecipeError: it cannot be read.
    """
    problems: list[Problem] = []
    node = read_yaml(text, file, Path(), problems)
    if problems:
        raise RecipeError(problems)
    return None if node is None else _without_folders(node.plain())


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return str(value) if isinstance(value, str) else value


class _Reader:
    """Turns YAML text into nodes; what is wrong goes to `problems`."""

    def __init__(
        self, file: Path | str, folder: Path, problems: list[Problem], *, lines: bool = True
    ) -> None:
        self.file, self.folder, self.problems, self.lines = file, folder, problems, lines
        self.open: set[int] = set()
        self.values = 0
        self.entry: Any = (
            None  # where the key of the whole section begins that is read: aliases lead elsewhere
        )

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
        letters = len(text) - sum(map(len, _COMMENTS.findall(text))) if len(text) > LETTERS else 0
        if letters > LETTERS:
            self.fail(f"the file has {letters} letters; a recipe has at most {LETTERS}", _mark(text, 0))
            return None
        try:
            root = yaml.compose(_without_hashes(text), Loader=_Loader)
        except _Refused as error:
            self.fail(str(error.problem), error.problem_mark)
            return None
        except yaml.MarkedYAMLError as error:
            context = f" ({error.context})" if error.context and error.problem else ""
            message = " ".join(f"{error.problem or error.context}{context}".split())
            self.fail(f"not valid YAML: {message}", error.problem_mark or error.context_mark)
            return None
        except yaml.reader.ReaderError as error:
            self.fail(f"not valid YAML: the character {chr(error.character)}", _mark(text, error.position))
            return None
        return None if root is None else self.node(root)

    def node(self, raw: yaml.Node) -> Node:
        location = self.at(raw.start_mark)
        self.values += 1
        if self.values > VALUES:
            if self.values == VALUES + 1:
                self.fail(TOO_MANY, self.entry or raw.start_mark)
            return Node(None, location)
        if isinstance(raw, yaml.ScalarNode):
            value = self.scalar(raw)
            return Node(RecipeText(value, self.folder) if isinstance(value, str) else value, location)
        if id(raw) in self.open:
            self.fail("this alias contains itself", raw.start_mark)
            return Node(None, location)
        if len(self.open) >= DEPTH:
            self.fail(TOO_DEEP, self.entry or raw.start_mark)
            return Node(None, location)
        self.open.add(id(raw))
        if isinstance(raw, yaml.SequenceNode):
            node = Node([self.node(item) for item in raw.value], location)
        else:
            node = Node(self.mapping(raw), location)
        self.open.remove(id(raw))
        return node

    def scalar(self, raw: yaml.ScalarNode) -> Any:
        try:
            value = _scalar(raw.tag, raw.value)
        except ValueError as error:
            self.fail(str(error), raw.start_mark)
            return None
        if isinstance(value, str) and (odd := control_character(value)):
            self.fail(f"the control character {odd} is not allowed in text", raw.start_mark)
            return None
        return value

    def mapping(self, raw: yaml.Node) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in raw.value:
            if len(self.open) == 1:
                self.entry = key.start_mark
            before = len(self.problems)
            name = self.scalar(key) if isinstance(key, yaml.ScalarNode) else None
            if len(self.problems) > before:
                continue
            if not isinstance(name, str):
                hint = f"; quote it if it is meant: '{key.value}'" if isinstance(key, yaml.ScalarNode) else ""
                self.fail(f"a key must be text{hint}", key.start_mark)
            elif name == "<<":
                self.fail("merge keys (<<) are not supported; `extends` joins recipes", key.start_mark)
            elif name in found:
                first = found[name].key
                where = f" (first in line {first.line})" if first and first.line else ""
                self.fail(f"the key '{name}' is written twice{where}", key.start_mark)
            else:
                found[name] = replace(self.node(value), key=self.at(key.start_mark))
        return found


def _without_hashes(text: str) -> str:
    """Return a text without the hashes at its end: a resolved recipe has thousands, and PyYAML is slow at comments."""
    lines = text.splitlines(keepends=True) if text.count("\n# file ") > HASHES else []
    end = len(lines)
    while end and _HASH.fullmatch(lines[end - 1]):
        end -= 1
    return "".join(lines[:end]) if lines else text


def _mark(text: str, position: int) -> yaml.Mark:
    """Return the place of a letter in a text."""
    before = text[:position]
    line = before.count("\n")
    return yaml.Mark("", position, line, len(before) - before.rfind("\n") - 1, None, 0)


def from_python(value: Any) -> Node:
    """Return a node without positions for a value from Python."""
    if isinstance(value, Mapping):
        return Node({str(key): from_python(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return Node([from_python(item) for item in value])
    return Node(value)
