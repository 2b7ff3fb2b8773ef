"""A recipe laid over those it extends, and overrides laid over the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from daps_kit.errors import Location, Problem, RecipeError
from daps_kit.paths import RecipeText

from .document import VALUES, Node, read_yaml
from .installed import find_recipe, read_text, shown

__all__ = ["apply_changes", "compose", "merge", "override", "parse_overrides"]

FILES = 100


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


def compose(file: Path, problems: list[Problem]) -> Node | None:
    """Return the recipe in `file` laid over those it extends; None where nothing could be read."""
    return _Layers(problems).compose(file, ())


class _Layers:
    """Reads a recipe and what it extends, up to a limit: a few files can extend each other very many times."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.files = self.values = 0
        self.full = False

    def compose(self, file: Path, chain: tuple[Path, ...]) -> Node | None:
        """Return the recipe in a file; those of the chain extend it, each the next."""
        label = shown(file)
        try:
            text = read_text(file)
        except RecipeError as error:
            self.problems += error.problems
            return None
        before = len(self.problems)
        node = read_yaml(text, label, file.absolute().parent, self.problems)
        if node is None or not isinstance(node.value, dict):
            if len(self.problems) == before:
                empty = node is None or node.value is None
                what = "the file is empty" if empty else "the file is not a mapping"
                message = f"{what}; a recipe has keys such as format, data, prior"
                self.problems.append(Problem(message, location=Location(label, 1, 1)))
            return None
        self.files += 1
        self.values += _size(node)
        chain = (*chain, file.resolve())
        tasks = node.value.get("tasks")
        if tasks is not None and isinstance(tasks.value, dict):
            for task, overlay in tasks.value.items():
                if isinstance(overlay.value, dict) and "extends" in overlay.value:
                    layers = overlay.value.pop("extends")
                    tasks.value[task] = replace(self._extend(overlay, layers, chain), key=overlay.key)
        extends = node.value.pop("extends", None)
        return node if extends is None else self._extend(node, extends, chain)

    def _extend(self, node: Node, extends: Node, chain: tuple[Path, ...]) -> Node:
        base: Node | None = None
        for entry in extends.value if isinstance(extends.value, list) else [extends]:
            if self.full:
                break
            found = self._find(entry, chain)
            layer = self.compose(found, chain) if isinstance(found, Path) else None
            if isinstance(found, str):
                self.problems.append(Problem(found, "extends", entry.location))
            if layer is not None:
                base = layer if base is None else _laid(base, layer)
        return node if base is None else _laid(base, node)

    def _find(self, entry: Node, chain: tuple[Path, ...]) -> Path | str:
        """Return the file that an entry of `extends` names, or what is wrong."""
        if not isinstance(entry.value, RecipeText):
            return "expected a file or a list of files"
        found = find_recipe(entry.value, entry.value.folder)
        if isinstance(found, Path) and found.resolve() in chain:
            return f"{entry.value} extends itself, in a circle"
        self.full = self.files >= FILES or self.values > VALUES
        if not self.full:
            return found
        return f"more than {FILES} files or {VALUES} values, each file counted as often as it is extended"


def _size(node: Node) -> int:
    """Return how many values there are in a value, itself included."""
    inner = node.value.values() if isinstance(node.value, dict) else node.value
    return 1 + (sum(map(_size, inner)) if isinstance(node.value, dict | list) else 0)


def _laid(base: Node, over: Node) -> Node:
    """Return a recipe laid over one that it extends, with the files of plugins of both."""
    both = merge(base, over)
    under, above = base.value.get("plugins"), over.value.get("plugins")
    if under is None or above is None:
        return both
    entries = [e for node in (under, above) for e in (node.value if isinstance(node.value, list) else [node])]
    return replace(both, value={**both.value, "plugins": replace(above, value=entries)})


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
        place = Location(f"override '{text if len(text) <= 100 else f'{text[:97]}...'}'")
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
            node = read_yaml(value, place.file, Path.cwd(), problems, lines=False) or Node(None)
            if len(problems) == before:
                parsed.append((keys, replace(node, location=node.location or place, key=place)))
    return parsed


def apply_changes(root: Node, changes: Sequence[tuple[list[str], Node]], problems: list[Problem]) -> Node:
    """Return a document with overrides (see `parse_overrides`) made to it."""
    for keys, value in changes:
        changed = override(root, keys, value)
        if isinstance(changed, str):
            problems.append(Problem(changed, ".".join(keys), value.location))
        else:
            root = changed
    return root
