"""Every piece of work comes to an end, whatever happens to those who do it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from daps_kit.errors import UserError
from daps_kit.executor import Alive, Done, Event, Failed, Pool, Said, State
from daps_kit.runs import dispatch as module
from daps_kit.runs.dispatch import TRIES, Work, dispatch


class Scripted(Pool):
    """Workers that do what a function says with the oldest task: it is told its number, content and how often it came."""

    def __init__(self, answer: Callable[[int, bytes, int], list[Event]], size: int = 2) -> None:
        self.answer, self.width = answer, size
        self.tasks: deque[tuple[int, bytes]] = deque()
        self.seen: Counter[bytes] = Counter()
        self.most = 0
        self.forgotten: list[int] = []

    @property
    def size(self) -> int:
        return self.width

    def states(self) -> list[State]:
        return []

    def submit(self, number: int, task: bytes) -> None:
        self.tasks.append((number, task))
        self.most = max(self.most, len(self.tasks))

    def wait(self, seconds: float) -> list[Event]:
        if not self.tasks:
            return []
        number, task = self.tasks.popleft()
        self.seen[task] += 1
        return self.answer(number, task, self.seen[task])

    def forget(self, number: int) -> None:
        self.forgotten.append(number)
        self.tasks = deque((other, task) for other, task in self.tasks if other != number)


class Letters(Work[str]):
    """Words to be made capitals; one too large is cut into its letters."""

    def __init__(self, *words: str) -> None:
        self.words = deque(words)
        self.results: list[str] = []
        self.given_up: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.looks: list[list[tuple[str, float]]] = []

    def next(self) -> str | None:
        return self.words.popleft() if self.words else None

    def pack(self, piece: str) -> bytes:
        return piece.encode()

    def done(self, piece: str, result: bytes) -> None:
        assert piece.upper() == result.decode()
        self.results.append(piece)

    def lost(self, piece: str, text: str) -> None:
        self.given_up.append((piece, text))

    def take_back(self, piece: str) -> bool:
        self.words.extend(piece if len(piece) > 1 else "")
        return len(piece) > 1

    def say(self, text: str) -> None:
        self.said.append(text)

    def look(self, at_work: list[tuple[str, float]]) -> None:
        self.looks.append(at_work)


def right(number: int, task: bytes) -> Done:
    return Done(number, task.upper())


def test_all_is_done_and_never_more_is_out_than_there_are_workers():
    work, pool = Letters(*"abcdefg"), Scripted(lambda number, task, times: [right(number, task)], size=3)
    dispatch(pool, work)
    assert work.results == [*"abcdefg"]
    assert pool.most == 3
    assert [piece for piece, _ in work.looks[0]] == [
        "b",
        "c",
        "d",
    ]  # another takes the place of the first at once


def test_what_is_at_work_is_seen_with_its_share():
    def answer(number: int, task: bytes, times: int) -> list[Event]:
        return [Alive(number, 0.5), Said("hello"), *([right(number, task)] if number != 1 else [])]

    work, pool = Letters("a", "b"), Scripted(answer)
    work.look = lambda at_work: (_ for _ in ()).throw(UserError(f"stop {at_work}"))  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"stop \[\('a', 0.5\), \('b', 0.0\)\]"):
        dispatch(pool, work)
    assert work.said == ["hello"]


@pytest.mark.parametrize("cause", ["died", "silent", "memory"])
def test_a_piece_is_given_out_so_often_and_then_given_up(cause):
    def answer(number: int, task: bytes, times: int) -> list[Event]:
        return [Failed(number, cause, f"the {times}. time")] if task == b"b" else [right(number, task)]

    work, pool = Letters("a", "b", "c"), Scripted(answer)
    dispatch(pool, work)
    assert work.results == ["a", "c"]
    assert work.given_up == [("b", f"the {TRIES}. time")]
    assert pool.seen[b"b"] == TRIES


def test_a_piece_that_fails_less_often_is_done():
    def answer(number: int, task: bytes, times: int) -> list[Event]:
        return [Failed(number, "died", "")] if times < TRIES else [right(number, task)]

    work = Letters("a", "b", "c")
    dispatch(Scripted(answer), work)
    assert sorted(work.results) == ["a", "b", "c"]
    assert work.given_up == []


def test_a_piece_too_large_comes_back_in_smaller_ones():
    def answer(number: int, task: bytes, times: int) -> list[Event]:
        return [Failed(number, "memory", "")] if len(task) > 1 else [right(number, task)]

    work = Letters("abc", "de", "f")
    dispatch(Scripted(answer), work)
    assert sorted(work.results) == [*"abcdef"]


def test_a_pool_that_cannot_go_on_ends_the_run():
    with pytest.raises(UserError, match="other versions"):
        dispatch(
            Scripted(lambda number, task, times: [Failed(None, "refused", "other versions")]), Letters("a")
        )


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece may take longer than others."""
    monkeypatch.setattr(module, "SOON", 0.0)
    monkeypatch.setattr(module, "SLOW", 0.0)


@pytest.mark.usefixtures("hasty")
def test_the_last_pieces_are_given_out_twice_where_one_is_slow():
    def answer(number: int, task: bytes, times: int) -> list[Event]:
        # `slow` gives an outcome only when it is given out again, and that is of no interest any more for the first.
        return [] if task == b"slow" and times == 1 else [right(number, task)]

    work, pool = Letters("slow", "a", "b"), Scripted(answer)
    dispatch(pool, work)
    assert sorted(work.results) == ["a", "b", "slow"]
    assert pool.forgotten == [1]
    assert pool.seen[b"slow"] == 2


def test_a_piece_that_takes_what_pieces_take_is_given_out_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    work = Letters("a", "b", "slow")
    pool = Scripted(lambda number, task, times: [right(number, task)])
    at: list[float] = []

    def wait(seconds: float) -> list[Event]:
        task = pool.tasks[0][1]
        if task == b"slow" and len(pool.tasks) == 1:
            now[0] += 0.5  # it is at work
            at.append(now[0])
            return []
        now[0] += 3.0 * (task != b"slow")
        return Scripted.wait(pool, seconds)

    pool.wait = wait  # type: ignore[method-assign]
    dispatch(pool, work)
    assert sorted(work.results) == ["a", "b", "slow"]
    # a takes 3, b 6, which makes a median of 4.5: `slow` is begun at 3 and given out again after 3 + 2 * 4.5.
    assert (at[0], at[-1]) == (6.5, 12.5)
    assert pool.forgotten == [4]


@pytest.mark.usefixtures("hasty")
def test_one_of_two_that_fails_leaves_the_other():
    def answer(number: int, task: bytes, times: int) -> list[Event]:
        if task != b"slow" or number != 1:
            return [Failed(number, "died", "")] if task == b"slow" else [right(number, task)]
        if times == 1:
            return []
        return [right(number, task)]

    work, pool = Letters("slow", "a"), Scripted(answer)
    first = []

    def wait(seconds: float) -> list[Event]:
        if pool.tasks:
            found = Scripted.wait(pool, seconds)
            first.extend(found)
            return found
        return [right(1, b"slow")]  # the one that was at work all the time

    pool.wait = wait  # type: ignore[method-assign]
    dispatch(pool, work)
    assert sorted(work.results) == ["a", "slow"]
    assert any(isinstance(event, Failed) for event in first)


def test_without_workers_it_waits(monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.0)
    pool = Scripted(lambda number, task, times: [right(number, task)], size=0)
    work = Letters("a")

    def look(at_work: list[tuple[str, float]]) -> None:
        work.looks.append(at_work)
        pool.width = len(work.looks) // 3

    work.look = look  # type: ignore[method-assign]
    dispatch(pool, work)
    assert work.results == ["a"]
    assert work.looks == [[]] * 4


def test_looks_are_not_too_many():
    work = Letters(*"abcdefghij" * 20)
    dispatch(Scripted(lambda number, task, times: [right(number, task)]), work)
    assert 1 <= len(work.looks) < 20
