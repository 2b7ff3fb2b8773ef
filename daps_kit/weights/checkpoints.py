"""The published checkpoints that have been fetched: where they are kept, and whether they are whole.

They are kept in `$DAPS_KIT_CACHE/checkpoints`, else `$XDG_CACHE_HOME/daps-kit/checkpoints`, else
`~/.cache/daps-kit/checkpoints`; those that a plugin offers in a folder named like its distribution. Beside each lies
`NAME.json` with the SHA-256 and size of its files, written when it was first fetched (their authors publish none) and
checked ever after: the size at every use, the hash where the date of the file has changed, and all of it by `verify`.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from daps_kit.discovery import BUILTIN, normal
from daps_kit.errors import UserError
from daps_kit.fingerprint import cache_root
from daps_kit.registry import default_registry
from daps_kit.sources import Source

__all__ = ["cache_folder", "record_of", "sha256", "state", "target_of", "verify", "where", "write_record"]


def cache_folder() -> Path:
    """Return the folder that checkpoints are kept in, whether or not it exists."""
    return cache_root() / "checkpoints"


def target_of(source: Source) -> Path:
    """Return where a checkpoint lies once it is fetched."""
    own = normal(source.distribution or BUILTIN)
    return cache_folder() / ("" if own == BUILTIN else own) / source.file


def record_of(source: Source) -> Path:
    """Return where the hashes of a checkpoint lie."""
    return target_of(source).with_name(f"{source.name}.json")


def where(name: str) -> Path:
    """Return the path of a checkpoint that has been fetched and is as it was then.

    A file that somebody put there by hand is taken as it is, and recorded.

    Args:
        name: of a checkpoint; components say `distribution/name`, which no other plugin can make ambiguous.

    Raises:
        UserError: no such checkpoint, not fetched yet, or changed since.
    """
    source = default_registry().source(name)
    path = target_of(source)
    if not path.exists():
        raise UserError(
            f"checkpoint {source.name} is not there: run `daps-kit checkpoints fetch {source.name}`, or put the "
            f"file of {source.address} at {path}"
        )
    if not record_of(source).exists():
        write_record(source)
    problem = _compare(source, everything=False)
    if problem:
        raise UserError(problem)
    return path


def state(name: str) -> str:
    """Return "fetched", "begun" or "absent"."""
    path = target_of(default_registry().source(name))
    if path.exists():
        return "fetched"
    return "begun" if list(path.parent.glob(f"{path.name}*.part*")) else "absent"


def verify(name: str) -> str | None:
    """Hash a checkpoint that has been fetched; return what is wrong with it, or nothing.

    Raises:
        UserError: no such checkpoint, or not fetched yet.
    """
    source = default_registry().source(name)
    if not target_of(source).exists():
        raise UserError(
            f"checkpoint {source.name} is not there: run `daps-kit checkpoints fetch {source.name}`"
        )
    if not record_of(source).exists():
        write_record(source)
        return None
    return _compare(source, everything=True)


def _files(source: Source) -> list[Path]:
    path = target_of(source)
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_record(source: Source) -> None:
    """Write down the hashes of a checkpoint as it is now."""
    files: dict[str, Any] = {}
    for path in _files(source):
        facts = path.stat()
        files[path.relative_to(cache_folder()).as_posix()] = {
            "sha256": sha256(path),
            "size": facts.st_size,
            "mtime_ns": facts.st_mtime_ns,
        }
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({"source": source.address, "recorded": now, "files": files}, indent=1)
    temporary = record_of(source).with_suffix(".json.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(record_of(source))


def _compare(source: Source, *, everything: bool) -> str | None:
    """Return how files differ from their record, or nothing; hash all, or those whose size or date has changed."""
    again = f"delete it and run `daps-kit checkpoints fetch {source.name}`"
    try:
        recorded = json.loads(record_of(source).read_text(encoding="utf-8"))["files"].items()
        files = [(name, facts["size"], facts["mtime_ns"], facts["sha256"]) for name, facts in recorded]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return f"the record {record_of(source)} is damaged; delete it to trust the checkpoint as it is now"
    for name, size, changed, digest in files:
        path = cache_folder() / name
        if not path.is_file():
            return f"{path} is missing; {again}"
        found = path.stat()
        if found.st_size != size:
            return f"{path} has changed: {found.st_size} bytes in place of {size}; {again}"
        if (everything or found.st_mtime_ns != changed) and sha256(path) != digest:
            return f"{path} has changed: its SHA-256 is not {digest}; {again}"
    return None
