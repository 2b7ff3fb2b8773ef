"""The door that every file of a user comes through: which formats there are, one guard, and sizes looked at first.

Whatever a library raises at a damaged or foreign file becomes one line with the file's name: what is opened within
`reading(path)` needs no list of exceptions. Nothing is unpacked before it is known what it unpacks to: a file may
become 64 times its own size, and 128 MiB in any case, or as many MiB as the variable DAPS_KIT_UNPACK_MIB says.

Importing this module imports neither numpy nor torch, so that settings can look at names and sizes.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import logging
import os
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daps_kit.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ARRAY_SUFFIXES",
    "PICTURE_SUFFIXES",
    "Numbers",
    "at_once",
    "content_of",
    "naming",
    "optional",
    "reading",
    "require_safetensors",
    "require_size",
    "require_zip",
    "suffix_of",
    "unknown_format",
]

ARRAY_SUFFIXES = (
    ".npy", ".npz", ".pt", ".pth", ".safetensors", ".mat", ".h5", ".hdf5", ".nii", ".nii.gz", ".nc",
)  # fmt: skip
"""Arrays: real numbers are taken as they are."""
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm",
    ".tga", ".fits", ".fit", ".fts", ".fits.gz", ".dcm",
)  # fmt: skip
"""Pictures: black is 0, and white is the largest number of their depth, or 1 where they hold real numbers."""

TIMES = 64
"""How many times its own size a file may unpack to."""
HEADER = 8 << 20
"""The largest header of a .safetensors file, in bytes: some 60,000 tensors."""


@dataclass(frozen=True)
class Numbers:
    """What a file holds, as it is stored.

    Attributes:
        values: real numbers in the byte order of this machine; a picture is [C, H, W].
        white: the number that means white, where the kind of file says so.
        alpha: the opacity of a picture's pixels, [H, W] from 0 to 1, where it has any.
        picture: whether the file is a picture.
    """

    values: NDArray[Any]
    white: float | None = None
    alpha: NDArray[np.float32] | None = None
    picture: bool = False


_DOUBLE = tuple(suffix for suffix in (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES) if suffix.count(".") > 1)


def suffix_of(path: Path) -> str:
    """Return the suffix that tells the format, in lower case: the last, or the last two of a file packed by gzip."""
    name = path.name.lower()
    if name.endswith(_DOUBLE):
        return next(suffix for suffix in _DOUBLE if name.endswith(suffix))
    return path.suffix.lower()


def unknown_format(path: Path) -> str:
    """Return what is wrong with a file's name, with the list of formats; empty where the name tells a format."""
    suffix = suffix_of(path)
    if suffix in (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES):
        return ""
    what = f"the suffix {suffix}" if suffix else "a name without a suffix"
    arrays, pictures = " ".join(ARRAY_SUFFIXES), " ".join(PICTURE_SUFFIXES)
    return printable(f"cannot read {path}: {what} tells no format; arrays are {arrays}, pictures {pictures}")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the name of a file into the text of a `UserError` about it."""
    try:
        yield
    except UserError as error:
        if printable(_named(path)) in str(error):
            raise
        raise UserError(f"cannot read {_named(path)}: {error}") from error.__cause__


@contextlib.contextmanager
def reading(path: Path, *, logs: bool = True) -> Iterator[None]:
    """Make one line of whatever a library raises at a file, and pass over what it warns of or logs.

    Args:
        path: of the file.
        logs: whether it may log: to keep that from the terminal costs more than to read a small file.

    Raises:
        UserError: the file is not there, is no regular file, or could not be read; the text names it.
    """
    with naming(path):
        try:
            mode = path.stat().st_mode  # a fifo would be waited for
            if not stat.S_ISREG(mode):
                raise UserError("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")
            with warnings.catch_warnings(), _silent() if logs else contextlib.nullcontext():
                warnings.simplefilter("ignore")
                yield
        except UserError:
            raise
        except Exception as error:  # the one place where every library's errors are expected
            raise UserError(_reason(error)) from error


def content_of(path: Path) -> bytes:
    """Return what a regular file holds; at a fifo, a device or a socket nothing is waited for.

    Raises:
        OSError: it is none, is not there, or cannot be read.
    """
    with open(path, "rb", opener=at_once) as file:
        return file.read()


def at_once(path: str, flags: int) -> int:
    """Open a regular file, as an `opener` of `open`; at a fifo, a device or a socket nothing is waited for.

    Raises:
        OSError: it is none, or cannot be opened.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", path)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what libraries log, which quotes the file as it is, from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _named(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 300 else f"{text[:150]}...{text[-100:]}"


def _reason(error: Exception) -> str:
    """Return why a file could not be read, in one printable line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, pickle.UnpicklingError):
        return "only tensors are read, it holds other objects"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is no picture of a known kind"
    line = " ".join(str(error).split())[:300]
    return f"it is damaged ({line or type(error).__name__})"


def optional(module: str, extra: str = "formats") -> Any:
    """Return a module that comes with an extra.

    Raises:
        UserError: it is not installed; the text says how it is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise UserError(f"it needs {name}: pip install 'daps-kit[{extra}]'") from error


# --- sizes, before anything is unpacked


def _least() -> int:
    try:
        return int(float(os.environ.get("DAPS_KIT_UNPACK_MIB", "128")) * 2**20)
    except (ValueError, OverflowError):
        raise UserError("DAPS_KIT_UNPACK_MIB must be a number of MiB") from None


def require_size(path: Path, unpacked: int) -> None:
    """Refuse a file that becomes far larger than it is.

    Args:
        path: the file.
        unpacked: how many bytes it, or the part of it that is wanted, unpacks to.

    Raises:
        UserError: that is more than 64 times its size and more than 128 MiB (DAPS_KIT_UNPACK_MIB).
    """
    size = path.stat().st_size
    if unpacked > max(_least(), TIMES * size):
        raise UserError(
            f"{size / 2**20:.3g} MiB would become {unpacked / 2**20:.3g} MiB, which is more than {TIMES} times the "
            f"file and {_least() / 2**20:.3g} MiB; set DAPS_KIT_UNPACK_MIB if it is meant"
        )


def require_zip(path: Path) -> None:
    """Refuse an archive whose entries unpack to too much, as `require_size` does.

    Raises:
        UserError: they do.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        require_size(path, sum(entry.file_size for entry in archive.infolist()))


def require_safetensors(path: Path) -> dict[str, Any]:
    """Return the header of a .safetensors file whose size is sound.

    Raises:
        UserError: its path is not in UTF-8, it is cut short, or its header is larger than 8 MiB.
        ValueError: the header is no JSON object.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError("its path is not in UTF-8, as .safetensors files need it; rename it") from None
    with open(path, "rb", opener=at_once) as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
        if not 0 <= length <= path.stat().st_size - 8:
            raise UserError("it is damaged: its header does not fit into the file")
        if length > HEADER:
            raise UserError(f"its header has {length / 2**20:.3g} MiB; at most {HEADER >> 20} MiB are read")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header
