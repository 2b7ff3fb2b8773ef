"""A file for each record.

operator/CxHxW.safetensors            operator
measurement/NAME.safetensors          measurement;  picture/NAME.safetensors  picture
samples/NAME/sample-01.safetensors    sample;  sample-01-trajectory.safetensors  trajectory
samples/NAME/posterior.safetensors    posterior
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from daps_kit.remote import remove

from .store import Key, Kind, Record, Store, Write

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FileStore"]

_OF_ITEMS: tuple[Kind, ...] = ("operator", "measurement", "picture")
PLACE = "daps-kit-place"
"""What the metadata of a file call the path in the folder that it was written for."""

_SAMPLE = re.compile(r"sample-(\d+)(-trajectory)?\.safetensors")


class FileStore(Store):
    """Records as .safetensors files."""

    pictures: ClassVar[bool] = True

    def __init__(self, folder: Path, write: Write) -> None:
        self._folder, self._write = folder, write

    def where(self, key: Key) -> Path:
        """Return the path of a record's file."""
        if key.kind in _OF_ITEMS:
            return self._folder / key.kind / f"{key.name}.safetensors"
        file = "posterior" if key.run is None else f"sample-{key.run + 1:02d}"
        file += "-trajectory" if key.kind == "trajectory" else ""
        return self._folder / "samples" / key.name / f"{file}.safetensors"

    def read(self, key: Key, *, outline: bool = False) -> Record | None:
        """See `Store.read`."""
        from daps_kit.tensor_file import DamagedFile, read_outline, read_plain

        path = self.where(key)
        if not path.exists():
            return None
        tensors, said = (read_outline if outline else read_plain)(path)
        if said.pop(PLACE, self._place(path)) != self._place(path):
            raise DamagedFile(f"{path} was written for another place")
        return tensors, said

    def write(self, key: Key, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
        """See `Store.write`."""
        from daps_kit.tensor_file import plain_bytes

        path = self.where(key)
        self._write(path, plain_bytes(tensors, {**said, PLACE: self._place(path)}))

    def _place(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def remove(self, key: Key) -> None:
        """Remove a record, and the folders that it leaves empty."""
        path = self.where(key)
        remove(path)
        with contextlib.suppress(OSError):  # something else is in it
            for above in path.relative_to(self._folder).parents[:-1]:
                (self._folder / above).rmdir()

    def keys(self) -> Iterator[Key]:
        """See `Store.keys`."""
        for kind in _OF_ITEMS:
            for path in sorted(self._folder.glob(f"{kind}/*.safetensors")):
                yield Key(kind, path.stem)
        for path in sorted(self._folder.glob("samples/*/*.safetensors")):
            if found := _SAMPLE.fullmatch(path.name):
                yield Key("trajectory" if found[2] else "sample", path.parent.name, int(found[1]) - 1)
            elif path.name == "posterior.safetensors":
                yield Key("posterior", path.parent.name)

    def items(self) -> set[str]:
        """See `Store.items`."""
        samples = self._folder / "samples"
        return (
            {name for name in os.listdir(samples) if (samples / name).is_dir()} if samples.is_dir() else set()
        )

    def size(self) -> int:
        """See `Store.size`."""
        samples = self._folder.glob("samples/*/sample-*.safetensors")
        return sum(file.stat().st_size for file in samples if file.is_file())
