"""Files that appear whole or not at all, and the names of what is read from files."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from daps_kit.errors import UserError, control_character

from .reading import suffix_of

__all__ = ["files_of", "natural_key", "remove_leftovers", "stem_of", "unique_names", "write_atomic"]


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that, whenever the program is killed, it has its old content or all of the new.

    Args:
        path: of the file.
        data: its content, at once or in parts.

    Raises:
        UserError: it cannot be written (disk full, no permission); what was there before is untouched.
    """
    # Programs of several machines may write to one folder.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
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
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                Path(place, name).unlink(missing_ok=True)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which `img2` comes before `img10`."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def stem_of(path: Path) -> str:
    """Return the name of a file without the suffix that tells its format.

    Letters with accents are composed (NFC), however the system that wrote the name has them.
    """
    name = path.name[: -len(suffix_of(path))] if suffix_of(path) else path.name
    return unicodedata.normalize("NFC", name)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return names that files can have: with `-2`, `-3`, ... after those that occurred before, whatever their case.

    Control characters and slashes become `_`; dots at the beginning and bytes beyond 150 are left out.
    """
    taken: set[str] = set()
    unique = []
    for name in map(_plain, names):
        candidate, number = name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique


def _plain(name: str) -> str:
    letters = "".join("_" if letter in "/\\" or control_character(letter) else letter for letter in name)
    return letters.lstrip(". ").encode()[:150].decode(errors="ignore") or "image"


def files_of(pattern: Path, suffixes: Collection[str]) -> tuple[list[Path], str]:
    """Return the files that a file, a folder or a glob pattern stands for, in natural order, and a note.

    Args:
        pattern: a file stands for itself, whatever its name. Of a folder, or of what a pattern matches, hidden files
            and those with other suffixes are passed over. Glob characters in the name of a folder that exists are text.
        suffixes: of the files that are wanted.

    Returns:
        the files, and how many were passed over, in a sentence that is empty where none was.

    Raises:
        OSError: a folder cannot be read.
    """
    if pattern.exists() and not pattern.is_dir():
        return [pattern], ""
    there = pattern.iterdir() if pattern.is_dir() else map(Path, glob.glob(_literal(pattern), recursive=True))
    entries = [path for path in there if not path.is_dir()]
    found = [path for path in entries if path.is_file()]
    hidden = [path for path in found if path.name.startswith(".")]
    seen = [path for path in found if not path.name.startswith(".")]
    kinds = [suffix_of(path) for path in seen]
    others = Counter(kind or "without a suffix" for kind in kinds if kind not in suffixes)
    counts = [f"{count} {kind}" for kind, count in sorted(others.items())]
    counts += [f"{len(hidden)} hidden"] if hidden else []
    lost = len(entries) - len(found)
    counts += [f"{lost} that lead to no file"] if lost else []
    total = len(hidden) + others.total() + lost
    note = f"{pattern}: passed over {total} file{'s' * (total > 1)} ({', '.join(counts)})" if total else ""
    wanted = (path for path, kind in zip(seen, kinds, strict=True) if kind in suffixes)
    return sorted(wanted, key=lambda path: natural_key(str(path))), note


def _literal(pattern: Path) -> str:
    """Return a glob pattern with the glob characters of the folders that exist escaped."""
    literal = Path(pattern.anchor)
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    for index, part in enumerate(parts):
        if not (literal / part).is_dir():
            return os.path.join(glob.escape(str(literal)), *parts[index:])
        literal /= part
    return glob.escape(str(literal))
