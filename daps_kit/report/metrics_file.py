"""metrics.json, which holds a few thousand bytes for each image: what it says of one is read when it is asked for.

A file is looked through once, block by block, for where each image begins and ends; that alone is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from daps_kit.errors import UserError
from daps_kit.reading import reading

__all__ = ["ImageNumbers", "read_metrics"]

BLOCK = 1 << 18
"""Bytes that are read at once."""

_DECODE = json.JSONDecoder()
_AFTER = (*" \t\n\r,:]}",)
"""What may follow a value."""


class ImageNumbers(Mapping[str, dict[str, Any]]):
    """What metrics.json says of each image, by its name, read when it is asked for.

    Raises:
        UserError: the file is gone, or was written anew since it was looked through.
    """

    def __init__(self, path: Path, mark: tuple[int, ...], places: dict[str, tuple[int, int]]) -> None:
        self._path, self._mark, self._places = path, mark, places

    def __getitem__(self, name: str) -> dict[str, Any]:
        begin, end = self._places[name]
        with reading(self._path, logs=False), self._path.open("rb") as file:
            if _mark(file) != self._mark:
                raise UserError("it was written anew since it was opened; open the folder again")
            file.seek(begin)
            found: dict[str, Any] = json.loads(file.read(end - begin))
            return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read_metrics(path: Path) -> dict[str, Any]:
    """Return what metrics.json holds; of its images (`ImageNumbers`) no more than where they are.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    found: dict[str, Any] = {}
    with reading(path), path.open("rb") as file:
        text, mark = _Text(file), _mark(file)
        try:
            an_object = text.sign() == "{"
            for key in text.members() if an_object else ():
                if key == "images" and text.sign() == "{":
                    found[key] = ImageNumbers(path, mark, {name: text.place() for name in text.members()})
                else:
                    found[key] = text.value()
            if not an_object:
                text.value()
            if text.sign():
                raise ValueError("something follows its end")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if not an_object:
        raise UserError(
            f"{path.parent}: recipe.yaml or metrics.json is not what daps-kit run writes (no object)"
        )
    return found


def _mark(file: BinaryIO) -> tuple[int, ...]:
    """Return what tells a file from one that took its place."""
    facts = os.fstat(file.fileno())
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


class _Text:
    """The text of a JSON file, used up from its beginning; bytes are taken for characters (latin-1), as JSON allows."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.text, self.at = "", 0
        self.before = 0  # bytes of the file before `text`

    def sign(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            while self.at < len(self.text):
                if (found := self.text[self.at]) not in " \t\n\r":
                    return found
                self.at += 1
            if not self._read(BLOCK):
                return ""

    def place(self) -> tuple[int, int]:
        """Take a value; return where it begins and ends in the file."""
        self.sign()
        while True:
            size = len(self.text) - self.at
            try:
                _, end = _DECODE.raw_decode(self.text, self.at)
            except ValueError:
                if not self._read(max(BLOCK, size)):
                    raise
                continue
            if self.text[end : end + 1] not in _AFTER and self._read(max(BLOCK, size)):
                continue  # a number may go on
            begin, self.at = self.at, end
            return self.before + begin, self.before + end

    def value(self) -> Any:
        """Take a value and return it."""
        begin, end = (place - self.before for place in self.place())
        return json.loads(self.text[begin:end].encode("latin-1"))

    def members(self) -> Iterator[str]:
        """Take an object: yield each key, whose value is then to be taken."""
        self._take("{")
        if self.sign() == "}":
            self._take("}")
            return
        while True:
            key = self.value()
            self._take(":")
            yield str(key)
            if self._take(",}") == "}":
                return

    def _take(self, signs: str) -> str:
        found = self.sign()
        if not found or found not in signs:
            raise ValueError(f"{' or '.join(signs)} is expected at byte {self.before + self.at}")
        self.at += 1
        return found

    def _read(self, size: int) -> bool:
        block = self.file.read(size).decode("latin-1")
        if block:
            self.text, self.before, self.at = self.text[self.at :] + block, self.before + self.at, 0
        return bool(block)
