"""Fetching a published checkpoint: by gdown from Google Drive, by huggingface_hub from its hub, else over HTTP.

A download goes to a file of another name, can be taken up where it broke, and takes its place only when it is complete.
"""

from __future__ import annotations

import importlib
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from daps_kit.errors import UserError
from daps_kit.registry import default_registry
from daps_kit.sources import Source

from .checkpoints import record_of, sha256, target_of, where, write_record
from .download import disk_full, download, refuse_web_page

__all__ = ["fetch"]

Arrived = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that there will be, where that is known."""


def fetch(name: str, progress: Arrived | None = None) -> Path:
    """Download a checkpoint, unless it is there, and return its path.

    What an earlier call left unfinished is taken up. Nothing takes the checkpoint's place before it is complete.

    Raises:
        UserError: no such checkpoint, no network, a web page in place of the file, disk full, wrong hash, or a library
            that is needed is not installed; the message says what to do.
    """
    source = default_registry().source(name)
    path = target_of(source)
    if path.exists():
        return where(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the cache folder {path.parent}: {error.strerror}; set DAPS_KIT_CACHE"
        ) from error
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            return where(name) if path.exists() else _fetch(source, path, progress)
    except Timeout:
        raise UserError(f"another process is fetching {path.name}; wait for it, then fetch again") from None


def _fetch(source: Source, path: Path, progress: Arrived | None) -> Path:
    part = path.with_name(f"{path.name}.zip.part" if source.member else f"{path.name}.part")
    if source.kind == "hub":
        _from_hub(source, part)
    else:
        if source.kind == "drive":
            _from_drive(source, part, progress)
        else:
            download(source.location, part, progress)
        refuse_web_page(part, source.address)
    complete = _extract(source, part) if source.member else part
    if source.sha256 and (found := sha256(complete)) != source.sha256:
        complete.unlink()
        raise UserError(
            f"{source.address} has the wrong hash: {found} in place of {source.sha256}; it was discarded"
        )
    record_of(source).unlink(missing_ok=True)
    complete.replace(path)
    write_record(source)
    return path


def _from_drive(source: Source, part: Path, progress: Arrived | None) -> None:
    try:
        gdown: Any = importlib.import_module("gdown")
    except ImportError as error:
        raise UserError(
            f"fetching from Google Drive needs gdown: pip install 'daps-kit[checkpoints]'; "
            f"or download {source.address} yourself to {part.with_suffix('')}"
        ) from error
    try:
        gdown.download(
            id=source.location,
            output=str(part),
            quiet=True,
            resume=True,
            retries=5,
            timeout=60,
            use_cookies=False,
            progress=progress,
        )
    except Exception as error:
        # A broken connection comes as an error of requests (an OSError), or as gdown's own with that as its cause.
        reason = error if isinstance(error, OSError) else error.__cause__
        if isinstance(reason, OSError):
            raise _unreachable("Google Drive", part, reason) from error
        if type(error).__module__.partition(".")[0] != "gdown":
            raise
        raise UserError(
            f"Google Drive does not give the file out, as when too many have asked for it today ({error}); "
            f"try later, or download {source.address} in a browser to {part.with_suffix('')}"
        ) from error


def _unreachable(place: str, part: Path, error: OSError) -> UserError:
    if disk_full(error):
        return UserError(f"the disk of {part.parent} is full; free some space and fetch again")
    return UserError(f"cannot reach {place}: {str(error).partition(chr(10))[0]}")


def _from_hub(source: Source, part: Path) -> None:
    try:
        hub: Any = importlib.import_module("huggingface_hub")
        refused = importlib.import_module("huggingface_hub.errors").HfHubHTTPError
    except ImportError as error:
        raise UserError(
            "fetching from the Hugging Face hub needs huggingface_hub: pip install 'daps-kit[checkpoints]'"
        ) from error
    try:
        hub.snapshot_download(
            source.location,
            local_dir=part,
            allow_patterns=list(source.include) or None,
            ignore_patterns=list(source.exclude) or None,
        )
    except refused as error:
        raise UserError(f"the hub refuses {source.location}: {str(error).partition(chr(10))[0]}") from error
    except OSError as error:
        raise _unreachable("the Hugging Face hub", part, error) from error
    if not any(part.rglob("*.safetensors")):
        raise UserError(f"{source.address} holds no weights as .safetensors any more")
    shutil.rmtree(part / ".cache", ignore_errors=True)


def _extract(source: Source, archive: Path) -> Path:
    """Take the member out of a complete archive, then delete the archive."""
    target = archive.with_name(f"{source.file}.part")
    try:
        with zipfile.ZipFile(archive) as file:
            names = [
                name
                for name in file.namelist()
                if name == source.member or name.endswith(f"/{source.member}")
            ]
            if not names:
                raise UserError(
                    f"{source.address} has no {source.member}; it has {', '.join(file.namelist()[:5])}"
                )
            with file.open(names[0]) as stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        target.unlink(missing_ok=True)
        raise UserError(
            f"the archive of {source.address} is damaged ({error}); it was discarded, fetch again"
        ) from error
    except OSError as error:
        target.unlink(missing_ok=True)
        raise UserError(f"cannot unpack {archive}: {error.strerror}") from error
    archive.unlink()
    return target
