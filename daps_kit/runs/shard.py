"""Part of a run: the i-th of n that are as large as one another, for machines that know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from daps_kit.errors import UserError

__all__ = ["Shard"]

T = TypeVar("T")


class Shard(NamedTuple):
    """Part `number`, from 1, of `parts`."""

    number: int
    parts: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Return the shard that is written `3/16`.

        Raises:
            UserError: it is not, or there is no such part.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard {text}: expected I/N with I from 1 to N, such as 3/16")
        return cls(int(found[1]), int(found[2]))

    def folder(self, output: Path) -> Path:
        """Return the folder of this part of a run with that output: each part has its own."""
        width = len(str(self.parts))
        return output.with_name(f"{output.name}-shard-{self.number:0{width}d}-of-{self.parts}")

    def of(self, work: Sequence[T], batch: int) -> Sequence[T]:
        """Return this part of some work, in its order. No batch is cut, so that parts have the batches of the whole."""
        batches = -(-len(work) // batch)
        start, end = (batches * i // self.parts * batch for i in (self.number - 1, self.number))
        return work[start:end]
