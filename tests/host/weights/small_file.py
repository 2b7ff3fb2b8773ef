"""A small file that stands for a checkpoint, the site that gives it out, and its source."""

from __future__ import annotations

from dataclasses import dataclass, field

from daps_kit.registry import default_registry

DATA = bytes(range(256)) * 8192  # 2 MiB


@dataclass
class Site:
    """What the server does, and what it was asked."""

    data: bytes = DATA
    etag: str | None = '"one"'
    break_after: list[int] = field(
        default_factory=list
    )  # bytes of each coming answer before the connection breaks
    status: list[int] = field(default_factory=list)  # of each coming answer that fails
    ranges: bool = True
    page: bool = False
    length: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


def offer(monkeypatch, source):
    """Let a plugin offer a checkpoint, in place of one of the same name."""
    others = [each for each in default_registry().sources if each.qualified != source.qualified]
    monkeypatch.setattr(default_registry(), "sources", [*others, source])


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
