"""The files of recipes: those that a user names by a path, and those that are installed, by a name."""

from __future__ import annotations

import stat
from importlib.util import find_spec
from pathlib import Path

from daps_kit.errors import Location, Problem, RecipeError, did_you_mean
from daps_kit.paths import unwritable

__all__ = ["SUFFIXES", "find_recipe", "installed_recipes", "read_text", "recipe_folders", "shown"]

SUFFIXES = (".yaml", ".yml")
BYTES = 64 << 20
"""The largest file that is read: the hashes of pictures in a resolved recipe are comments, and may be many."""
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
    path = file = Path(name)
    try:
        path = path.expanduser()
        file = path if path.is_absolute() else folder / path
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = 0
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # no such home folder, a name too long, no permission
        return f"cannot read {str(name)[:200]}: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISREG(mode):
        return unwritable(Path(file.name)) or file
    if mode:
        return f"{name} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}, not a recipe"
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
        RecipeError: the file cannot be read, or is no text in UTF-8.
    """
    label = shown(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(BYTES + 1)
        if len(data) > BYTES:
            message = f"the file has more than {BYTES >> 20} MiB, which is no recipe"
            raise RecipeError([Problem(message, location=Location(label, 1, 1))])
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()  # without the mark of UTF-8
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"not a text file in UTF-8: the byte {error.object[error.start]:#04x}"
        raise RecipeError([Problem(message, location=Location(label, line, column))]) from None
    except OSError as error:
        raise RecipeError([Problem(f"cannot be read: {error.strerror}", location=Location(label))]) from None
