"""Files that lie elsewhere: `s3://`, `gs://`, `hf://datasets/...` and what else fsspec opens, by the extra `remote`.

    s3://bucket/faces/a.png  <->  CACHE/remote/s3/bucket/faces/a.png

Each URL has its mirror, a path in the cache folder, with which everything works as with any other path. What is read is
brought there first, unless it is there already and has not changed; what is written is put back file by file, when it
is whole. An object is there or not there, so a run that is killed at any moment goes on, here or on another machine.
"""

from __future__ import annotations

import contextlib
import glob
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import UserError
from .files import write_atomic
from .fingerprint import cache_root

__all__ = ["fetch", "mirror", "put", "remove", "url_of"]

_URL = re.compile(r"([a-z][a-z0-9+]{1,20})://(?!/*$)(.+)", re.DOTALL)
_INDEX = "index.json"


def _root() -> Path:
    return cache_root() / "remote"


def mirror(url: str) -> Path | None:
    """Return where the mirror of a URL is; None for what is no URL.

    Raises:
        ValueError: the URL leads out of its folder.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return None
    parts = [part for part in found[2].split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise ValueError(f"{url}: . and .. have no meaning in a URL")
    return _root().joinpath(found[1], *parts)


def url_of(path: Path) -> str | None:
    """Return the URL of which a path is the mirror; None for any other path."""
    try:
        scheme, *parts = path.relative_to(_root()).parts
    except (ValueError, UserError):
        return None
    slash = "/" if scheme in ("file", "local") else ""
    return f"{scheme}://{slash}{'/'.join(parts)}" if parts else None


def fetch(path: Path) -> None:
    """Bring a file, what is in a folder and below, or what a glob pattern matches, to its mirror; else do nothing.

    Raises:
        UserError: it cannot be read; that there is nothing is no error.
    """
    url = url_of(path)
    if url is None:
        return
    scheme = url.partition(":")[0]
    with _open(url) as (system, there):
        find = system.glob if glob.has_magic(there) else system.find
        known, new = _known(), dict[str, str]()
        for name, facts in sorted(find(there, detail=True).items()):
            target = mirror(f"{scheme}://{name}") if facts["type"] == "file" else None
            if target is None:
                continue
            mark = str(system.ukey(name))
            if known.get(str(target)) != mark or not target.exists():
                write_atomic(target, system.cat_file(name))
                new[str(target)] = mark
        if new:
            kept = {path: mark for path, mark in _known().items() if Path(path).exists()}
            write_atomic(_root() / _INDEX, json.dumps({**kept, **new}).encode())


def put(path: Path) -> None:
    """Write a file of a mirror to where it belongs, whole or not at all; of any other path do nothing.

    Raises:
        UserError: it cannot be written.
    """
    url = url_of(path)
    if url is None:
        return
    with _open(url) as (system, there):
        data = path.read_bytes()
        if "file" in system.protocol:  # objects appear whole; a file on a disk does not
            new = f"{there}.{uuid.uuid4().hex}.tmp"
            system.makedirs(PurePosixPath(there).parent.as_posix(), exist_ok=True)
            system.pipe_file(new, data)
            system.mv(new, there)
        else:
            system.pipe_file(there, data)


def remove(path: Path) -> None:
    """Remove a file, of a mirror also where it belongs; one that is not there is no error.

    Raises:
        UserError: it cannot be removed.
    """
    path.unlink(missing_ok=True)
    if url := url_of(path):
        with _open(url) as (system, there), contextlib.suppress(FileNotFoundError):
            system.rm_file(there)


def _known() -> dict[str, str]:
    try:
        found = json.loads((_root() / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _open(url: str) -> Iterator[tuple[Any, str]]:
    """Open the file system of a URL; yield it and what it calls the place."""
    try:
        import fsspec  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise UserError(f"{url}: a URL needs fsspec: pip install 'daps-kit[remote]'") from None
    try:
        system, there = fsspec.core.url_to_fs(url)
        system.invalidate_cache()
        yield system, there
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{url}: {error}") from error
    except Exception as error:  # every file system has errors of its own
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{url}: {said}") from error
