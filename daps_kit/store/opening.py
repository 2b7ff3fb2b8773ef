"""Which store a folder has."""

from __future__ import annotations

from pathlib import Path

from daps_kit.files import write_atomic
from daps_kit.remote import put

from .files import FileStore
from .store import ZARR, Store, Write

__all__ = ["open_store"]


def _written(path: Path, data: bytes) -> None:
    write_atomic(path, data)
    put(path)


def open_store(folder: Path, write: Write = _written, *, new: str = "files") -> Store:
    """Return the store in a folder.

    Args:
        folder: of a run.
        write: writes a file.
        new: `files` or `zarr`, which it is to be where the folder has no Zarr store yet.

    Raises:
        UserError: it needs zarr, which is not installed.
    """
    files = FileStore(folder, write)
    if new != "zarr" and not (folder / ZARR).exists():
        return files
    from .zarr_store import ZarrStore

    return ZarrStore(folder, write, files)
