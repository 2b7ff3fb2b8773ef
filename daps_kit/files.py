"""Files that appear whole or not at all, and the names of what is read from files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from daps_kit.errors import UserError

__all__ = ["natural_key", "remove_leftovers", "unique_names", "write_atomic"]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that, whenever the program is killed, it has its old content or all of the new.

    Raises:
        UserError: it cannot be written (disk full, no permission); what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}; every file already written is whole") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed program left in `folder` and below."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which `img2` comes before `img10`."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names with `-2`, `-3`, ... after those that occurred before, whatever their case."""
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique
