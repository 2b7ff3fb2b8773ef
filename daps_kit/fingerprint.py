"""What a file holds, in 64 letters: by which a run knows that it is continued with the files that it was begun with.

SHA-256. Of files of 16 MiB or more it is remembered in `hashes.json` in the cache folder, with size, time of change and
inode, so that they are read for it once.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from .errors import UserError
from .files import write_atomic
from .reading import reading

__all__ = ["cache_root", "fingerprint"]

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
    with reading(path):
        facts = path.stat()
        if facts.st_size < LARGE:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        key, mark = str(path.resolve()), [facts.st_size, facts.st_mtime_ns, facts.st_ino]
        known = _remembered().get(key)
        if isinstance(known, list) and known[:3] == mark and isinstance(known[-1], str):
            return known[-1]
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _remember(key, [*mark, digest.hexdigest()])
        return digest.hexdigest()


def _remembered() -> dict[str, object]:
    try:
        content = json.loads((cache_root() / "hashes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(key: str, facts: list[object]) -> None:
    """Keep a hash; a cache that cannot be written is none."""
    there = {path: kept for path, kept in _remembered().items() if Path(path).exists()}
    try:
        write_atomic(cache_root() / "hashes.json", json.dumps(there | {key: facts}, indent=1).encode())
    except UserError:
        return
