"""A folder of results belongs to one run or training, and one program at a time works in it.

Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from daps_kit.errors import UserError
from daps_kit.files import remove_leftovers
from daps_kit.remote import fetch, remove, url_of

__all__ = ["RECIPE", "Claim"]

RECIPE = "recipe.yaml"
"""The resolved recipe, by which a folder is known."""


class Claim:
    """The claim of a run or a training to its folder.

    Args:
        path: the folder.
        key: the setting that names it.
        what: `run` or `training`.
    """

    def __init__(self, path: Path, key: str, what: str) -> None:
        self.path, self.key, self.what = path, key, what
        self.recipe = path / RECIPE
        self._lock: tuple[int, int] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the folder, without the temporary files of a program that was killed; say whether it is a new one.

        The resolved recipe of a new one is removed again where nothing came of it, so that it does not stand in the way
        of a corrected one.

        Raises:
            UserError: another program holds the folder, it belongs to something else, it cannot be written, or it was
                removed in the meantime.
        """
        if self.what == "training" and (url := url_of(self.path)):
            raise UserError(f"{self.key}: a training writes to a folder of this machine, not to {url}")
        fetch(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot use {self.path} as output: {error.strerror}") from error
        self.begun()
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.key}: another daps-kit is at work in {self.path}") from None
        except OSError as error:
            raise UserError(f"cannot use {self.path} as output: {error.strerror}") from error
        fresh = not self.recipe.exists()
        self._lock = self._mark()
        try:
            remove_leftovers(self.path)
            yield fresh
            self.require()
        except UserError:
            self.require()
            if fresh and self._content() <= {RECIPE}:
                remove(self.recipe)
            raise
        finally:
            self._lock = None
            lock.release()

    def begun(self) -> bool:
        """Return whether the folder is there and holds a run or a training; nothing is written.

        Raises:
            UserError: it holds something else, or cannot be read.
        """
        try:
            others = self._content() if self.path.exists() else set()
        except OSError as error:
            raise UserError(f"cannot use {self.path} as output: {error.strerror}") from error
        if others and not self.recipe.exists():
            raise UserError(
                f"{self.key}: {self.path} holds something that is no {self.what} ({min(others)}, ...)"
            )
        return self.recipe.exists()

    def require(self) -> None:
        """See that a folder that is held is still there.

        Raises:
            UserError: it was removed, moved or replaced.
        """
        if self._lock is not None and self._mark() != self._lock:
            raise UserError(
                f"{self.key}: {self.path} was removed or moved while the {self.what} was at work in it; the same "
                "command begins anew"
            )

    def _mark(self) -> tuple[int, int] | None:
        """Return what tells the file of the lock from any other; None where it is gone."""
        try:
            facts = (self.path / ".lock").stat()
        except OSError:
            return None
        return facts.st_dev, facts.st_ino

    def _content(self) -> set[str]:
        return {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
