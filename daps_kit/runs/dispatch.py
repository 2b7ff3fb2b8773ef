"""Who computes which batch: pieces of work are handed to a pool of workers, and every piece comes to an end.

A piece whose worker died or was silent goes to another, at most `TRIES` times in all, then it is given up; one for
which memory did not suffice comes back in smaller ones. A slow worker does not hold back the end: when nothing else is
left, an idle one takes a piece that has been at work elsewhere for much longer than pieces take, and whoever is first
counts (Dean and Ghemawat 2004, section 3.6). Nothing here knows what a piece is.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from daps_kit.errors import UserError
from daps_kit.executor import Alive, Done, Failed, Pool, Said

__all__ = ["TRIES", "Work", "dispatch"]

TRIES = 3
"""How often a piece is given out before it is given up."""

WAIT = 0.5
"""Seconds at most between two looks at what is at work."""

LOOK = 0.1
"""Seconds at least between them: a look costs the more the more workers there are."""

SLOW = 2.0
"""A piece that is at work for so many times what pieces take (the median) is given out again at the end."""

SOON = 1.0
"""Seconds that any piece may take."""

P = TypeVar("P")


class Work(ABC, Generic[P]):
    """What there is to do, and what becomes of it."""

    @abstractmethod
    def next(self) -> P | None:
        """Return the next piece, made when it is wanted; None where there is none left."""

    @abstractmethod
    def pack(self, piece: P) -> bytes:
        """Return the task for a piece, when it is given out."""

    @abstractmethod
    def done(self, piece: P, result: bytes) -> None:
        """Take the result of a piece; each has one."""

    @abstractmethod
    def lost(self, piece: P, text: str) -> None:
        """Give up a piece; `text` says why."""

    @abstractmethod
    def take_back(self, piece: P) -> bool:
        """Take back a piece too large for memory, for `next` to return in smaller ones; False if it cannot be."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell a person something."""

    @abstractmethod
    def look(self, at_work: list[tuple[P, float]]) -> None:
        """See what is at work, each piece with the share that is done; also a moment to stop by an exception."""


@dataclass
class _Out(Generic[P]):
    """A piece that was given out.

    Attributes:
        numbers: of the tasks at work on it.
        begun: when it was given out first.
        failed: how often that failed.
        share: how much is done.
    """

    piece: P
    numbers: set[int]
    begun: float
    failed: int = 0
    share: float = 0.0


def dispatch(pool: Pool, work: Work[P]) -> None:
    """Have all of the work done.

    Raises:
        UserError: no worker can do any of it.
        Exception: whatever else a worker raised, or the work itself.
    """
    _Dispatch(pool, work).run()


class _Dispatch(Generic[P]):
    def __init__(self, pool: Pool, work: Work[P]) -> None:
        self.pool, self.work = pool, work
        self.again: deque[_Out[P]] = deque()
        self.out: dict[int, _Out[P]] = {}
        self.given = 0
        self.over = False
        self.took: deque[float] = deque(maxlen=101)
        self.looked = -LOOK

    def run(self) -> None:
        while True:
            self._hand_out()
            if not self.out and not self.again and self.over:
                return
            results: list[tuple[P, bytes]] = []
            for event in self.pool.wait(WAIT):
                match event:
                    case Said(text):
                        self.work.say(text)
                    case Failed(None, _, text):
                        raise UserError(text)
                    case Alive(number, share) if number in self.out:
                        self.out[number].share = share
                    case Done(number, result) if number in self.out:
                        out = self._settled(number)
                        self.took.append(time.monotonic() - out.begun)
                        results.append((out.piece, result))
                    case Failed(number, cause, text) if number in self.out:
                        self._failed(number, cause, text)
            if self.pool.apart:
                self._hand_out()  # no worker waits until the results of all are written
            for piece, result in results:
                self.work.done(piece, result)
            self._look()

    def _look(self) -> None:
        if time.monotonic() - self.looked >= LOOK:
            at_work = {id(out): out for out in self.out.values()}
            self.work.look([(out.piece, out.share) for out in at_work.values()])
            self.looked = time.monotonic()

    def _hand_out(self) -> None:
        while len(self.out) < self.pool.size:
            if (out := self._next()) is None:
                return
            self.given += 1
            out.numbers.add(self.given)
            self.out[self.given] = out
            self.pool.submit(self.given, self.work.pack(out.piece))

    def _next(self) -> _Out[P] | None:
        if self.again:
            return self.again.popleft()
        if not self.over:
            piece = self.work.next()
            if piece is not None:
                return _Out(piece, set(), time.monotonic())
            self.over = True
        if not self.took:
            return None
        since = time.monotonic() - max(SOON, SLOW * median(self.took))
        late = (out for out in self.out.values() if out.begun < since)
        return next((out for out in late if len(out.numbers) == 1 and not out.failed), None)

    def _settled(self, number: int) -> _Out[P]:
        """Take a piece off, with all the tasks at work on it."""
        out = self.out[number]
        for each in out.numbers:
            del self.out[each]
            if each != number:
                self.pool.forget(each)
        return out

    def _failed(self, number: int, cause: str, text: str) -> None:
        out = self.out[number]
        if cause == "memory" and self.work.take_back(out.piece):
            self._settled(number)
            self.over = False
            return
        del self.out[number]
        out.numbers.remove(number)
        out.failed += 1
        out.share = 0.0
        if out.numbers:
            return  # another is at work on it
        if out.failed < TRIES:
            self.again.append(out)
        else:
            self.work.lost(out.piece, text)
