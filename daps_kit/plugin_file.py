"""A plugin without a package: a file of Python, which is executed when a recipe, an option or the environment names it.

It stands alone: nothing beside it is imported, so that its hash says all of it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

__all__ = [
    "PLUGINS",
    "PREFIX",
    "line_of",
    "load_module",
    "named_files",
    "plugin_path",
    "source_of",
    "version_of",
]

PLUGINS = "DAPS_KIT_PLUGINS"
"""Environment variable: files of Python with components, separated as in PATH."""

PREFIX = "daps_kit_file_"
"""The names of the modules that files become begin with this."""


def named_files() -> list[Path]:
    """Return the files that the environment names, absolute."""
    words = os.environ.get(PLUGINS, "").split(os.pathsep)
    return [Path(os.path.abspath(Path(word.strip()).expanduser())) for word in words if word.strip()]


def plugin_path(value: Any) -> Any:
    """Return the path of a file of Python.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, Path) and (value.is_dir() or value.suffix != ".py"):
        raise ValueError(f"{value} is no file of Python, such as my_operator.py")
    return value


def version_of(data: bytes) -> str:
    """Return what stands for the version of a file: the first letters of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:12]


def load_module(path: Path) -> ModuleType:
    """Execute a file and return its module; once for a content, so that its classes stay the same.

    Raises:
        BaseException: whatever the file raises, or OSError where it cannot be read.
    """
    return _executed(path, source_of(path))


def source_of(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which has no end.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    return path.read_bytes()


@functools.cache
def _executed(path: Path, data: bytes) -> ModuleType:
    name = f"{PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{version_of(str(path).encode() + data)}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where dataclasses and the like look for it
    try:
        exec(compile(data, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def line_of(error: BaseException, path: Path) -> int | None:
    """Return the line of a file in which an exception came about; None where it did not."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    place: TracebackType | None = error.__traceback__
    line = None
    while place is not None:
        if place.tb_frame.f_code.co_filename == str(path):
            line = place.tb_lineno
        place = place.tb_next
    return line
