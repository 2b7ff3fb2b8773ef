"""What a file holds, in 64 letters: by which a run knows that it is continued with the files that it was begun with.

SHA-256. Of files that have 16 MiB or more, each or together, it is remembered in `hashes.json` in the cache folder,
with size, time of change and inode, so that they are read for it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import UserError
from .files import write_atomic

__all__ = ["cache_root", "fingerprint", "fingerprints"]

LARGE = 16 << 20
"""Bytes from which a hash is remembered."""


def cache_root() -> Path:
    """Return the cache folder: `$DAPS_KIT_CACHE`, `$XDG_CACHE_HOME/daps-kit` or `~/.cache/daps-kit`.

    Raises:
        UserError: there is no such home folder.
    """
    chosen = os.environ.get("DAPS_KIT_CACHE")
    place = Path(chosen or os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        root = place.expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise UserError(f"the cache folder {place} cannot be used: {error}; set DAPS_KIT_CACHE") from None
    return root if chosen else root / "daps-kit"


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and hashes of the files in a folder.

    Raises:
        UserError: something cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {fingerprint(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    return fingerprints([path])[str(path)]


def fingerprints(paths: Iterable[Path]) -> dict[str, str]:
    """Return the fingerprints of files and folders by their paths.

    Raises:
        UserError: as `fingerprint`.
    """
    found: dict[str, str] = {}
    facts: dict[Path, os.stat_result] = {}
    for path in dict.fromkeys(paths):
        if path.is_dir():
            found[str(path)] = fingerprint(path)
        else:
            facts[path] = _facts(path)
    large = sum(fact.st_size for fact in facts.values()) >= LARGE
    known, new = _remembered() if large else {}, dict[str, list[object]]()
    for path, fact in facts.items():
        key, mark = str(path.resolve()), [fact.st_size, fact.st_mtime_ns, fact.st_ino]
        there = known.get(key)
        if isinstance(there, list) and there[:3] == mark and isinstance(there[-1], str):
            found[str(path)] = there[-1]
            continue
        found[str(path)] = _digest(path)
        new[key] = [*mark, found[str(path)]]
    if large and new:
        _remember(new)
    return found


def _facts(path: Path) -> os.stat_result:
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):  # a fifo would be waited for
        raise UserError(f"cannot read {path}: it is no regular file")
    return facts


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def _remembered() -> dict[str, object]:
    try:
        content = json.loads((cache_root() / "hashes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(new: Mapping[str, list[object]]) -> None:
    """Keep hashes; a cache that cannot be written is none."""
    there = {path: kept for path, kept in _remembered().items() if Path(path).exists()}
    try:
        write_atomic(cache_root() / "hashes.json", json.dumps({**there, **new}, indent=1).encode())
    except UserError:
        return
