"""Download a large file over HTTP so that a broken connection costs nothing that has arrived.

What has arrived is kept in the target, with `TARGET.json` beside it saying which version of which address it is part of
(its ETag or date). The next attempt asks for the rest (`Range`, with `If-Range` so that a file that has changed starts
anew).

Why not a library: requests and pooch cannot resume, and huggingface_hub resumes files of its hub alone. gdown (6.5)
resumes with `If-Range` within one call, but a later call continues from the part that it finds even if the file has
changed since, and gives up on a server that does not know ranges.
"""

from __future__ import annotations

import errno
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daps_kit.errors import UserError

__all__ = ["disk_full", "download", "refuse_web_page"]

ATTEMPTS = 5  # in a row that bring nothing
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 20


def download(
    url: str, target: Path, progress: Callable[[int, int | None], None] | None = None, *, pause: float = 1.0
) -> None:
    """Download `url` to `target`, from where an earlier call left it.

    Args:
        url: http or https.
        target: complete when this returns, possibly incomplete otherwise.
        progress: called with the bytes that are there and how many there will be.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        UserError: the address does not exist, cannot be reached, gives a web page, or breaks off again and again; or
            the disk is full.
    """
    idle = 0
    while True:
        before = target.stat().st_size if target.exists() else 0
        try:
            if _attempt(url, target, progress):
                _note(target).unlink(missing_ok=True)
                return
            reason = "the connection broke"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if (
                isinstance(error, urllib.error.HTTPError)
                and error.code < 500
                and error.code not in (408, 429)
            ):
                raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            if disk_full(error):
                raise UserError(
                    f"the disk of {target.parent} is full; what has arrived is kept: free some space and fetch again"
                ) from error
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error
        arrived = target.stat().st_size if target.exists() else 0
        idle = 0 if arrived > before else idle + 1
        if idle >= ATTEMPTS:
            kept = (
                f"; the {arrived} bytes that have arrived are kept: fetch again to go on" if arrived else ""
            )
            raise UserError(f"cannot download {url}: {reason}{kept}")
        time.sleep(pause * 2**idle if idle else 0)


def refuse_web_page(path: Path, address: str) -> None:
    """Delete a file that is a web page.

    Raises:
        UserError: it is one.
    """
    if path.is_file():
        with path.open("rb") as file:
            if _is_page(file.read(512)):
                path.unlink()
                raise UserError(_page(address))


def disk_full(error: OSError) -> bool:
    """Whether an error means that there is no space left, or no more allowed."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_page(head: bytes) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _page(address: str) -> str:
    return (
        f"{address} gives a web page in place of the file, as when its download quota is used up or it has moved; "
        "try later, or download it in a browser"
    )


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _attempt(url: str, target: Path, progress: Callable[[int, int | None], None] | None) -> bool:
    """Make one request; return whether the file is complete."""
    note: dict[str, Any] = {}
    if target.exists() and _note(target).exists():
        try:
            note = json.loads(_note(target).read_text(encoding="utf-8"))
        except ValueError:
            note = {}
    offset = target.stat().st_size if note.get("url") == url and note.get("version") else 0
    request = urllib.request.Request(url, headers={"User-Agent": "daps-kit", "Accept-Encoding": "identity"})
    if offset:
        if offset == note.get("total"):
            return True
        request.add_header("Range", f"bytes={offset}-")
        request.add_header("If-Range", note["version"])
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        target.unlink()  # shorter than what we have: not what we began with
        return False
    with response:
        if response.status == 206:
            start, _, total_text = (
                response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            )
            if start.partition("-")[0] != str(offset) or not total_text.isdigit():
                target.unlink()
                return False
            total: int | None = int(total_text)
        else:
            offset = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        if response.headers.get_content_type() == "text/html":
            raise UserError(_page(url))
        if total is not None and shutil.disk_usage(target.parent).free < total - offset:
            raise OSError(errno.ENOSPC, "not enough space")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and version.startswith("W/"):  # a weak ETag does not promise equal bytes
            version = response.headers.get("Last-Modified")
        _note(target).write_text(
            json.dumps({"url": url, "version": version, "total": total}), encoding="utf-8"
        )
        with target.open("ab" if offset else "wb") as file:
            done = offset
            while block := response.read(CHUNK):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    return total is None or done == total
