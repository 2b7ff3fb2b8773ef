"""Ctrl-C while a command is at work: the first is a `KeyboardInterrupt`, the second leaves at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

__all__ = ["interruptible", "leave"]


def leave(*_: object) -> None:
    """End the program with a line."""
    os.write(2, b"stopped\n")
    os._exit(130)


def _importing(name: str) -> bool:
    """Return whether a module is being imported right now."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Let Ctrl-C raise `KeyboardInterrupt`, once; the list says whether it was pressed, whatever became of that.

    Where Ctrl-C is ignored, as in the background, it stays so. While torch is being imported there is nothing to keep,
    and an exception amid its C++ would abort the program: it leaves at once.
    """
    pressed: list[int] = []

    def stop(number: int, frame: object) -> None:
        if pressed or _importing("torch"):
            leave()
        pressed.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before not in (leave, signal.default_int_handler):
        yield pressed
        return
    try:
        signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        yield pressed
        return
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
