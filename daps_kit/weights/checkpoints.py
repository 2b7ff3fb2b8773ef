"""The published checkpoints: where they come from, where they are kept, and whether they are whole.

They are kept in `$DAPS_KIT_CACHE/checkpoints`, else `$XDG_CACHE_HOME/daps-kit/checkpoints`, else
`~/.cache/daps-kit/checkpoints`. Beside each lies `NAME.json` with the SHA-256 and size of its files, written when it
was first fetched (their authors publish none) and checked ever after: the size at every use, the hash where the date
of the file has changed, and all of it by `verify`. A download goes to a file of another name, can be taken up where it
broke, and takes its place only when it is complete.

Importing this module does not import torch, and nothing is downloaded unless `fetch` is called.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from daps_kit.errors import UserError, did_you_mean

from .download import disk_full, download, refuse_web_page

__all__ = ["SOURCES", "Source", "cache_folder", "fetch", "state", "verify", "where"]

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that there will be, where that is known."""

HUB_FILES = ("*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors")
HUB_NOT = ("*fp16*", "*non_ema*", "safety_checker/*")


@dataclass(frozen=True)
class Source:
    """A checkpoint that can be fetched.

    Attributes:
        name: what to call it.
        file: its name in the cache; a folder for a repository.
        kind: how to get it: from Google Drive, over HTTP, or from the Hugging Face hub.
        location: identifier of the Drive file, address, or name of the repository.
        about: one line on what it is.
        member: the file in the zip archive at `location`, where it is one.
        sha256: its hash, where it is known beforehand.
    """

    name: str
    file: str
    kind: Literal["drive", "http", "hub"]
    location: str
    about: str
    member: str | None = None
    sha256: str | None = None

    @property
    def address(self) -> str:
        """Where a person can see it."""
        return {
            "drive": f"https://drive.google.com/file/d/{self.location}",
            "http": self.location,
            "hub": f"https://huggingface.co/{self.location}",
        }[self.kind]


SOURCES = {
    source.name: source
    for source in (
        Source(
            "ffhq256ddpm",
            "ffhq256.pt",
            "drive",
            "1BGwhRWUoguF-D8wlZ65tf227gp3cDUDh",
            "faces, 256 x 256: guided-diffusion U-Net over pixels",
        ),
        Source(
            "imagenet256ddpm",
            "imagenet256.pt",
            "drive",
            "1HAy7P19PckQLczVNXmVF-e_CRxq098uW",
            "ImageNet, 256 x 256: guided-diffusion U-Net over pixels, unconditional",
        ),
        Source(
            "ffhq256ldm",
            "ffhq256ldm.ckpt",
            "http",
            "https://ommer-lab.com/files/latent-diffusion/ffhq.zip",
            "faces, 256 x 256: latent diffusion, VQ-f4",
            member="model.ckpt",
        ),
        Source(
            "imagenet256ldm",
            "imagenet256ldm.ckpt",
            "http",
            "https://ommer-lab.com/files/latent-diffusion/nitro/cin/model.ckpt",
            "ImageNet, 256 x 256: latent diffusion, VQ-f4, class-conditional",
        ),
        Source(
            "stable-diffusion-v1.5",
            "stable-diffusion-v1.5",
            "hub",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "Stable Diffusion 1.5, 512 x 512",
        ),
        Source(
            "stable-diffusion-v2.1",
            "stable-diffusion-v2.1",
            "hub",
            "stabilityai/stable-diffusion-2-1",
            "Stable Diffusion 2.1, 768 x 768",
        ),
        Source(
            "bkse",
            "GOPRO_wVAE.pth",
            "drive",
            "1vRoDpIsrTRYZKsOMPNbPcMtFDpCT6Foy",
            "the network of nonlinear_blur, an operator",
        ),
    )
}
"""All of them by name."""


def cache_folder() -> Path:
    """Return the folder that checkpoints are kept in, whether or not it exists."""
    if chosen := os.environ.get("DAPS_KIT_CACHE"):
        return Path(chosen).expanduser().absolute() / "checkpoints"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "daps-kit" / "checkpoints"


def find(name: str) -> Source:
    """Return a source by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in SOURCES:
        raise UserError(f"no checkpoint '{name}'{did_you_mean(name, SOURCES)} (known: {', '.join(SOURCES)})")
    return SOURCES[name]


def where(name: str) -> Path:
    """Return the path of a checkpoint that has been fetched and is as it was then.

    A file that somebody put there by hand is taken as it is, and recorded.

    Raises:
        UserError: no such checkpoint, not fetched yet, or changed since.
    """
    source = find(name)
    path = cache_folder() / source.file
    if not path.exists():
        raise UserError(
            f"checkpoint {name} is not there: run `daps-kit checkpoints fetch {name}`, or put the file of "
            f"{source.address} at {path}"
        )
    if not _record(name).exists():
        _write_record(source)
    problem = _compare(source, everything=False)
    if problem:
        raise UserError(problem)
    return path


def state(name: str) -> str:
    """Return "fetched", "begun" or "absent"."""
    path = cache_folder() / find(name).file
    if path.exists():
        return "fetched"
    return "begun" if list(path.parent.glob(f"{path.name}*.part*")) else "absent"


def verify(name: str) -> str | None:
    """Hash a checkpoint that has been fetched; return what is wrong with it, or nothing.

    Raises:
        UserError: no such checkpoint, or not fetched yet.
    """
    where_path = cache_folder() / find(name).file
    if not where_path.exists():
        raise UserError(f"checkpoint {name} is not there: run `daps-kit checkpoints fetch {name}`")
    if not _record(name).exists():
        _write_record(find(name))
        return None
    return _compare(find(name), everything=True)


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Download a checkpoint, unless it is there, and return its path.

    What an earlier call left unfinished is taken up. Nothing takes the checkpoint's place before it is complete.

    Raises:
        UserError: no such checkpoint, no network, a web page in place of the file, disk full, wrong hash, or a library
            that is needed is not installed; the message says what to do.
    """
    source = find(name)
    path = cache_folder() / source.file
    if path.exists():
        return where(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the cache folder {path.parent}: {error.strerror}; set DAPS_KIT_CACHE"
        ) from error
    with _alone(path):
        if path.exists():
            return where(name)
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
        if source.sha256 and (found := _sha256(complete)) != source.sha256:
            complete.unlink()
            raise UserError(
                f"{source.address} has the wrong hash: {found} in place of {source.sha256}; it was discarded"
            )
        _record(name).unlink(missing_ok=True)
        complete.replace(path)
        _write_record(source)
    return path


def _from_drive(source: Source, part: Path, progress: Progress | None) -> None:
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
            source.location, local_dir=part, allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_NOT)
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


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from fetching the same file at the same time."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another process is fetching {path.name}; wait for it, then fetch again"
            ) from error
        yield


def _record(name: str) -> Path:
    return cache_folder() / f"{name}.json"


def _files(source: Source) -> list[Path]:
    path = cache_folder() / source.file
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_record(source: Source) -> None:
    files: dict[str, Any] = {}
    for path in _files(source):
        facts = path.stat()
        files[path.relative_to(cache_folder()).as_posix()] = {
            "sha256": _sha256(path),
            "size": facts.st_size,
            "mtime_ns": facts.st_mtime_ns,
        }
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({"source": source.address, "recorded": now, "files": files}, indent=1)
    temporary = _record(source.name).with_suffix(".json.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(_record(source.name))


def _compare(source: Source, *, everything: bool) -> str | None:
    """Return how files differ from their record, or nothing; hash all, or those whose size or date has changed."""
    again = f"delete it and run `daps-kit checkpoints fetch {source.name}`"
    try:
        files = json.loads(_record(source.name).read_text(encoding="utf-8"))["files"].items()
    except (OSError, ValueError, KeyError, AttributeError):
        return f"the record {_record(source.name)} is damaged; delete it to trust the checkpoint as it is now"
    for name, facts in files:
        path = cache_folder() / name
        if not path.is_file():
            return f"{path} is missing; {again}"
        found = path.stat()
        if found.st_size != facts["size"]:
            return f"{path} has changed: {found.st_size} bytes in place of {facts['size']}; {again}"
        if (everything or found.st_mtime_ns != facts["mtime_ns"]) and _sha256(path) != facts["sha256"]:
            return f"{path} has changed: its SHA-256 is not {facts['sha256']}; {again}"
    return None
