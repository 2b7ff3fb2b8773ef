"""Where a checkpoint that others published can be fetched: what a plugin offers through the hook `daps_checkpoints`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Source"]

Service = Literal["drive", "http", "hub"]


@dataclass(frozen=True)
class Source:
    """A checkpoint that `daps-kit checkpoints fetch NAME` brings.

    Attributes:
        name: what to call it: letters, digits, '_', '-' and '.'.
        file: its name in the cache; a folder for a repository.
        kind: how to get it: from Google Drive, over HTTP, or from the Hugging Face hub.
        location: identifier of the Drive file, address, or name of the repository.
        about: one line on what it is.
        member: the file in the zip archive at `location`, where it is one.
        sha256: its hash, where it is known beforehand.
        include, exclude: patterns of the files of a repository that are wanted (all of them where there are none), and
            of those among them that are not.
        distribution: who offers it; filled in when the plugin is loaded.

    Raises:
        ValueError: a name that cannot be one, or a kind that does not exist.
    """

    name: str
    file: str
    kind: Service
    location: str
    about: str
    member: str | None = None
    sha256: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    distribution: str = ""

    def __post_init__(self) -> None:
        for text in (self.name, self.file):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
                raise ValueError(
                    f"the name of a checkpoint has letters, digits, '_', '-' and '.', unlike {text!r}"
                )
        if self.kind not in get_args(Service):
            raise ValueError(f"a checkpoint comes by {', '.join(get_args(Service))}, not by {self.kind!r}")

    @property
    def qualified(self) -> str:
        """The name that is never ambiguous, `distribution/name`."""
        return f"{self.distribution}/{self.name}"

    @property
    def address(self) -> str:
        """Where a person can see it."""
        return {
            "drive": f"https://drive.google.com/file/d/{self.location}",
            "http": self.location,
            "hub": f"https://huggingface.co/{self.location}",
        }[self.kind]
