"""Paths among settings: they start from the recipe that they are written in, and stand for files that are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from daps_kit.errors import UserError, control_character, printable
from daps_kit.reading import unknown_format
from daps_kit.remote import fetch, mirror, url_of

__all__ = [
    "AnyPath",
    "FilePath",
    "FolderName",
    "RecipeText",
    "existing_file",
    "folder_name",
    "readable_file",
    "resolve_path",
    "unwritable",
    "working_folder",
]

LONGEST = 200
"""Bytes of the name of a folder that is made here; file systems allow 255, of which temporary files need some."""


class RecipeText(str):
    """A string out of a recipe, which remembers the folder that its relative paths start from."""

    __slots__ = ("folder",)

    folder: Path

    def __new__(cls, text: str, folder: Path) -> RecipeText:
        """Make a string that remembers `folder`."""
        made = super().__new__(cls, text)
        made.folder = folder
        return made


def unwritable(path: Path) -> str:
    """Return what is wrong with a path that no recipe can hold, such as one that is not in UTF-8, or nothing."""
    if not (odd := control_character(str(path))):
        return ""
    what = "a byte that is not UTF-8" if "\ud800" <= odd <= "\udfff" else "a control character"
    return f"{printable(str(path))} has {what} in it, which a recipe cannot hold; rename it"


def working_folder() -> Path:
    """Return the folder in which the program is.

    Raises:
        UserError: it was removed, or its name is not in UTF-8.
    """
    try:
        folder = Path.cwd()
        str(folder).encode()
    except OSError as error:
        raise UserError(f"the working folder cannot be used: {error.strerror}") from None
    except UnicodeEncodeError:
        raise UserError("the working folder cannot be used: its name is not in UTF-8") from None
    return folder


def resolve_path(value: Any) -> Any:
    """Return a path as an absolute one: relative to the recipe's folder, or to the working folder outside recipes.

    A URL becomes its mirror (see `daps_kit.remote`).

    Raises:
        ValueError: it starts from a home or a working folder that is not there, or no recipe can hold it.
    """
    if not isinstance(value, str | Path):
        return value
    if isinstance(value, str) and (found := mirror(value)):
        return found
    try:
        path = (getattr(value, "folder", None) or working_folder()) / Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{str(value)[:80]!r}: there is no such home folder") from None
    except UserError as error:
        raise ValueError(str(error)) from None
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ValueError(f"{str(path)[:150]}...: File name too long, at most 255 bytes are allowed")
    if isinstance(value, str) and (
        problem := unwritable(path)
    ):  # a file that was found may be called anything
        raise ValueError(problem)
    normal = Path(os.path.normpath(path))
    if ".." not in path.parts or os.path.realpath(normal) == os.path.realpath(path):
        return normal
    return Path(os.path.realpath(path))  # `link/..` is above where the link leads


def existing_file(value: Any, what: str = "file") -> Any:
    """Return the path of an existing file or folder as an absolute one.

    Raises:
        ValueError: there is none.
    """
    path = resolve_path(value)
    if isinstance(path, Path):
        try:
            fetch(path)
        except UserError as error:
            raise ValueError(str(error)) from error
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"no such {what}: {printable(url_of(path) or str(path))}") from None
        except OSError as error:
            name = str(path) if len(str(path)) <= 300 else f"{str(path)[:150]}..."
            raise ValueError(f"{printable(name)}: {error.strerror}") from None
    return path


def readable_file(value: Any) -> Any:
    """Return the path of an existing file whose name tells a format that is read, or of a folder.

    Raises:
        ValueError: there is none, or its name tells no format; the text lists the formats.
    """
    path = existing_file(value)
    if isinstance(path, Path) and path.is_file() and (problem := unknown_format(path)):
        raise ValueError(problem)
    return path


def folder_name(value: str) -> str:
    """Return the name of a folder, or of one in another (`a/b`), that lies below the folder that it is made in.

    Raises:
        ValueError: a file system would not have it, or would take it for another place.
    """
    for part in value.split("/"):
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            size = 0
        if part.strip() in ("", ".", "..") or "\\" in part or not 0 < size <= LONGEST:
            shown = value if len(value) <= 60 else f"{value[:57]}..."
            raise ValueError(
                f"'{shown}' cannot be the name of a folder; allowed: at most {LONGEST} bytes of UTF-8, no backslash, "
                "not . or .."
            )
    return value


FolderName = Annotated[str, AfterValidator(folder_name)]
"""A name that a folder of results has where nothing else is said."""

FilePath = Annotated[Path, BeforeValidator(existing_file)]
"""An existing file or folder; relative to the recipe it is written in."""

AnyPath = Annotated[Path, BeforeValidator(resolve_path)]
"""A path of which nothing has to exist, such as a glob; relative to the recipe it is written in."""
