"""The text of a recipe: strict YAML that remembers where everything is written, `extends`, and overrides.

The rules are those of YAML 1.2's core schema, in which `5e-5` is a number and `on`, `yes` and `no` are text; PyYAML
alone follows YAML 1.1. Beyond that: no key twice, no tags, no merge keys (`extends` does that work), keys are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from daps_kit.errors import Location, Problem, UserError, did_you_mean
from daps_kit.settings import RecipeText

__all__ = ["Node", "compose", "from_python", "installed_recipes", "merge", "override", "shown"]

SUFFIXES = (".yaml", ".yml")


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


# --- reading -----------------------------------------------------------------------------------------------------


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


# --- joining -----------------------------------------------------------------------------------------------------


def merge(base: Node, over: Node) -> Node:
    """Return `over` laid over `base`: mappings are joined key by key, other values of `over` win.

    A section that says `use:` something else than the inherited one replaces it.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    used, now = base.value.get("use"), over.value.get("use")
    if now is not None and used is not None and now.value != used.value:
        return over
    joined = dict(base.value)
    for key, node in over.value.items():
        joined[key] = merge(joined[key], node) if key in joined else node
    return replace(over, value=joined)


def shown(path: Path) -> Path:
    """Return a path as messages show it: relative to the working folder where it lies inside."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path


PARTS = "parts"
"""Folder of recipes that are not whole and are there to be extended."""


def installed_recipes(*, parts: bool = False) -> dict[str, Path]:
    """Return the recipes installed with the package by name, such as `quickstart`, sorted; the parts if asked."""
    from importlib.util import find_spec

    spec = find_spec("daps_recipes")
    found: dict[str, Path] = {}
    for folder in map(Path, (spec.submodule_search_locations or []) if spec else []):
        for file in sorted(folder.rglob("*.yaml")):
            name = file.relative_to(folder).with_suffix("")
            if parts or PARTS not in name.parts:
                found.setdefault(name.as_posix(), file)
    return dict(sorted(found.items()))


def find(name: str | Path, folder: Path) -> Path | str:
    """Return the file of a recipe given by path (relative to `folder`) or installed name, or what is wrong."""
    path = Path(name).expanduser()
    file = path if path.is_absolute() else folder / path
    if file.is_file():
        return file
    if file.is_dir():
        return f"{name} is a folder, not a recipe"
    installed = installed_recipes(parts=True)
    if str(name) in installed:
        return installed[str(name)]
    if path.suffix in SUFFIXES:
        near = [p.name for p in file.parent.glob("*") if p.suffix in SUFFIXES] if file.parent.is_dir() else []
        return f"no such file: {shown(file)}{did_you_mean(file.name, near)}"
    installed = installed_recipes()
    hint = did_you_mean(str(name), installed)
    return (
        f"no recipe '{name}': no file, and not one of the installed: {', '.join(installed) or 'none'}{hint}"
    )


def read_text(file: Path) -> str:
    """Return the text of a recipe.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None


def compose(file: Path, problems: list[Problem], chain: tuple[Path, ...] = ()) -> Node | None:
    """Return the recipe in `file` laid over those it extends; None where nothing could be read."""
    label = shown(file)
    try:
        text = read_text(file)
    except UserError as error:
        problems.append(Problem(str(error), location=Location(label)))
        return None
    before = len(problems)
    node = _Reader(label, file.absolute().parent, problems).read(text)
    if node is None or not isinstance(node.value, dict):
        if len(problems) == before:
            what = "the file is empty" if node is None or node.value is None else "the file is not a mapping"
            problems.append(
                Problem(
                    f"{what}; a recipe has keys such as format, data, prior", location=Location(label, 1, 1)
                )
            )
        return None
    chain = (*chain, file.resolve())
    tasks = node.value.get("tasks")
    if tasks is not None and isinstance(tasks.value, dict):
        for task, overlay in tasks.value.items():
            if isinstance(overlay.value, dict) and "extends" in overlay.value:
                layers = overlay.value.pop("extends")
                tasks.value[task] = replace(_extend(overlay, layers, problems, chain), key=overlay.key)
    extends = node.value.pop("extends", None)
    return node if extends is None else _extend(node, extends, problems, chain)


def _extend(node: Node, extends: Node, problems: list[Problem], chain: tuple[Path, ...]) -> Node:
    base: Node | None = None
    for entry in extends.value if isinstance(extends.value, list) else [extends]:
        if not isinstance(entry.value, RecipeText):
            problems.append(Problem("expected a file or a list of files", "extends", entry.location))
            continue
        found = find(entry.value, entry.value.folder)
        if isinstance(found, str):
            problems.append(Problem(found, "extends", entry.location))
        elif found.resolve() in chain:
            problems.append(Problem(f"{entry.value} extends itself, in a circle", "extends", entry.location))
        else:
            layer = compose(found, problems, chain)
            if layer is not None:
                base = layer if base is None else merge(base, layer)
    return node if base is None else merge(base, node)


# --- overrides ---------------------------------------------------------------------------------------------------


def override(root: Node, keys: Sequence[str], value: Node) -> Node | str:
    """Return `root` with the value at the path `keys` replaced, or what is wrong.

    Setting `use` to something else empties the section, as `merge` does.
    """
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(root.value, list):
        if not (key.isdecimal() and int(key) < len(root.value)):
            return f"'{key}' is not an index of a list of {len(root.value)}, counted from 0"
        items = list(root.value)
        inner = override(items[int(key)], rest, value)
        if isinstance(inner, str):
            return inner
        items[int(key)] = inner
        return replace(root, value=items)
    if not isinstance(root.value, dict | None):
        return f"there is no '{key}' inside {root.value!r}, which is not a section"
    section = dict(root.value or {})
    if key == "use" and not rest and "use" in section and section["use"].value != value.value:
        section = {}
    inner = override(section.get(key, Node(None, value.location, value.key)), rest, value)
    if isinstance(inner, str):
        return inner
    section[key] = inner
    return replace(root, value=section)


def parse_overrides(texts: Iterable[str], problems: list[Problem]) -> list[tuple[list[str], Node]]:
    """Return the path and the value of each `a.b.c=value`; the value follows the rules of recipes."""
    parsed: list[tuple[list[str], Node]] = []
    for text in texts:
        place = Location(f"override '{text}'")
        path, equals, value = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            problems.append(
                Problem("expected KEY=VALUE with a key such as sampler.kernel.steps", location=place)
            )
        elif keys[0] == "extends":
            problems.append(Problem("extends belongs in a file", "extends", place))
        else:
            before = len(problems)
            node = _Reader(place.file, Path.cwd(), problems, lines=False).read(value) or Node(None)
            if len(problems) == before:
                parsed.append((keys, replace(node, location=node.location or place, key=place)))
    return parsed
