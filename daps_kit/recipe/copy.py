"""Installed recipes, to be listed, and to be copied into one file that the user can edit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from daps_kit.errors import Problem, RecipeError, UserError
from daps_kit.paths import unwritable, working_folder

from .document import Node
from .installed import find_recipe, read_text
from .layers import compose
from .resolved import to_yaml

__all__ = ["copy_recipe", "headline"]


def headline(file: Path) -> str:
    """Return the first comment line of a recipe, without the mark."""
    return next((line.lstrip("# ") for line in _header(_lines(file))), "")


def _lines(file: Path) -> list[str]:
    return read_text(file).splitlines()


def _header(lines: list[str]) -> list[str]:
    """Return the comment that a file begins with."""
    found = []
    for line in lines:
        if not line.startswith("#"):
            break
        found.append(line)
    return found


def copy_recipe(name: str, target: Path, *, own_output: bool = False) -> Path:
    """Write a recipe and what it extends into one file, with comments and with paths that work; return the file.

    Args:
        name: of an installed recipe, or a file.
        target: the file, or a folder for it.
        own_output: whether the copy writes to results/<its name>, so that its results do not meet those of the recipe.

    Raises:
        UserError: there is no such recipe, it cannot be read, or the target exists.
    """
    found = find_recipe(name, working_folder())
    if isinstance(found, str):
        raise UserError(found)
    if target.is_dir():
        target = target / found.name
    if problem := unwritable(Path(target.name)):
        raise UserError(problem)
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists; choose another name or move it away")
    if not target.absolute().parent.is_dir():
        raise UserError(f"no such folder: {target.absolute().parent}")
    problems: list[Problem] = []
    root = compose(found, problems)
    if root is None or problems:
        raise RecipeError(problems)
    if own_output and "trainer" not in root.value:
        there = root.value.pop("output", Node(None))
        root.value["output"] = replace(there, value=f"results/{target.stem}")
    header = _header(_lines(found))
    target.write_text("\n".join([*header, *_render(root, "")]) + "\n", encoding="utf-8")
    return target


def _render(section: Node, indent: str) -> list[str]:
    """Return the lines of a section: short ones in braces, the comments of each key with it."""
    lines: list[str] = []
    for key, node in section.value.items():
        above, beside = _comments(node)
        lines += [indent + comment for comment in above]
        flat = _flat(node)
        label = f"{indent}{to_yaml(key, flow=True)}:"
        if isinstance(node.value, dict) and node.value and (len(indent + flat) > 100 or _deep(node)):
            lines.append(label + beside)
            lines += _render(node, indent + "  ")
        else:
            lines.append(f"{label} {flat}{beside}")
    return lines


def _deep(node: Node) -> bool:
    """Whether a section holds sections, or lies over several lines with comments."""
    inner = node.value.values()
    return any(isinstance(item.value, dict) and item.value for item in inner) or any(
        any(_comments(item)) for item in inner if item.key and node.key and item.key.line != node.key.line
    )


def _flat(node: Node) -> str:
    return to_yaml(_portable(node), flow=True)


def _portable(node: Node) -> object:
    """Return plain data in which the paths of files beside the recipe are absolute."""
    if isinstance(node.value, dict):
        return {key: _portable(item) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [_portable(item) for item in node.value]
    text, folder = node.value, getattr(node.value, "folder", None)
    if folder is None or not re.search(r"[./*]", text):  # a bare word is a name, not a path
        return str(text) if folder else text
    beside = folder / text
    there = beside.exists() or ("*" in text and any(folder.glob(text)))
    return (
        str(beside.resolve() if beside.exists() else beside)
        if there and not Path(text).is_absolute()
        else str(text)
    )


def _comments(node: Node) -> tuple[list[str], str]:
    """Return the comment lines above a key that stands alone on its line, and the comment behind its value."""
    if node.key is None or node.key.line is None:
        return [], ""
    lines = _lines(Path(node.key.file))
    row = node.key.line - 1
    if lines[row][: (node.key.column or 1) - 1].strip():
        return [], ""
    above: list[str] = []
    before = row - 1
    while before >= 0 and lines[before].lstrip().startswith("#"):
        above.insert(0, lines[before].strip())
        before -= 1
    if before < 0:  # the comment that begins the file belongs to the file
        above = []
    last = re.search(r"\s(#[^'\"]*)$", lines[row])
    return above, f"  {last[1].rstrip()}" if last else ""
