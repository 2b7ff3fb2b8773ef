"""The files of recipes: those that a user names by a path, and those that are installed, by a name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from daps_kit.errors import UserError, did_you_mean

__all__ = ["SUFFIXES", "find_recipe", "installed_recipes", "read_text", "recipe_folders", "shown"]

SUFFIXES = (".yaml", ".yml")
PARTS = "parts"
"""Folder of recipes that are not whole and are there to be extended."""


def shown(path: Path) -> Path:
    """Return a path as messages show it: relative to the working folder where it lies inside."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path


def recipe_folders() -> list[Path]:
    """Return where the package of recipes lies; nothing where it is not installed."""
    spec = find_spec("daps_recipes")
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def installed_recipes(*, parts: bool = False) -> dict[str, Path]:
    """Return the recipes installed with the package by name, such as `quickstart`, sorted; the parts if asked."""
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for file in sorted(folder.rglob("*.yaml")):
            name = file.relative_to(folder).with_suffix("")
            if parts or PARTS not in name.parts:
                found.setdefault(name.as_posix(), file)
    return dict(sorted(found.items()))


def find_recipe(name: str | Path, folder: Path) -> Path | str:
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
    hint = did_you_mean(str(name), installed_recipes())
    return f"no recipe '{name}': no file, and not one of those that `daps-kit recipes` lists{hint}"


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
