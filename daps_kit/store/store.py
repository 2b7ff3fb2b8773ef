"""What a store of records does.

A record holds tensors by name, and text by name that is said of them:

    operator      of a size of images: the state of the operator that they share
    measurement   of an item: y, truth where it is known, operator.* where each item has its own
    picture       of an item: its measurement as a picture, [h, w, 1 or 3], 0 to 255
    sample        of an item and a run: x0, average where the sampler gives one
    trajectory    of an item and a run: sigma, and some levels on the way
    posterior     of an item: mean, std and quantiles over its runs

Whoever reads gets a record as it was written or none: it appears whole, and is held against a checksum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ZARR", "Key", "Kind", "Record", "Store", "Write"]

Kind = Literal["operator", "measurement", "picture", "sample", "trajectory", "posterior"]

Record = tuple["dict[str, Tensor]", dict[str, str]]
"""Tensors, and what is said of them."""

Write = Callable[[Path, bytes], None]
"""Writes a file, whole or not at all."""

ZARR = "results.zarr"
"""The Zarr store in a folder, by which its kind is known."""


class Key(NamedTuple):
    """What a record is of: an item, and a run, from 0, where it is of one."""

    kind: Kind
    name: str
    run: int | None = None


class Store(ABC):
    """The records in the folder of a run.

    Attributes:
        pictures: whether everything has a picture in a file of its own beside it.
    """

    pictures: ClassVar[bool]

    def begin(self, names: Sequence[str], runs: int, about: Callable[[], Mapping[str, object]]) -> None:  # noqa: B027
        """Take the names of all items and the number of runs, before anything is written.

        Args:
            names, runs: what there will be.
            about: what is to be said of all of it.
        """

    @abstractmethod
    def read(self, key: Key, *, outline: bool = False) -> Record | None:
        """Return a record; None where there is none.

        Args:
            key: of the record.
            outline: whether types and shapes of the tensors suffice, on the device `meta`.

        Raises:
            DamagedFile: it is not what was written.
        """

    @abstractmethod
    def write(self, key: Key, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
        """Write a record, in place of one that is there.

        Raises:
            UserError: the disk refuses; what was there before is untouched.
        """

    def note(self, key: Key) -> None:  # noqa: B027
        """Take notice of a record that somebody else has written."""

    @abstractmethod
    def where(self, key: Key) -> Path:
        """Return what people are told to look at if something is wrong with a record."""

    @abstractmethod
    def keys(self) -> Iterator[Key]:
        """Yield what is there, whole or not."""

    @abstractmethod
    def items(self) -> set[str]:
        """Return the items of which samples are there."""

    @abstractmethod
    def size(self) -> int:
        """Return how many bytes the samples take."""

    def finish(self) -> None:  # noqa: B027
        """Bring what was written into its last form."""
