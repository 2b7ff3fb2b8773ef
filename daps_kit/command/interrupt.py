"""Ctrl-C while a command is at work: the first is a `KeyboardInterrupt`, the second leaves at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = ["interruptible", "leave"]

AGAIN = 0.05
"""Seconds after which an interrupt comes again that fell where exceptions are ignored."""


def leave(*_: object) -> None:
    """End the program with a line."""
    os.write(2, b"stopped\n")
    os._exit(130)


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # it also ends a system call
    else:
        signal.raise_signal(signal.SIGINT)


def _importing(name: str) -> bool:
    """Return whether a module is being imported right now."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Let Ctrl-C raise `KeyboardInterrupt`, once; the list says whether it was pressed, whatever became of that.

    Where Ctrl-C is ignored, as in the background, it stays so. While torch is being imported there is nothing to keep,
    and an exception amid its C++ would abort the program: it leaves at once. Where exceptions are ignored, as in
    `__del__` and in functions that C code calls, the interrupt comes again.
    """
    pressed: list[int] = []

    def stop(number: int, frame: object) -> None:
        if pressed or _importing("torch"):
            leave()
        pressed.append(number)
        raise KeyboardInterrupt

    tell = sys.unraisablehook

    def ignored(what: sys.UnraisableHookArgs) -> None:
        if what.exc_type is not KeyboardInterrupt:
            tell(what)
            return
        pressed.clear()
        again = threading.Timer(AGAIN, _interrupt_main_thread)
        again.daemon = True
        again.start()

    before = signal.getsignal(signal.SIGINT)
    if before not in (leave, signal.default_int_handler):
        yield pressed
        return
    try:
        signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        yield pressed
        return
    sys.unraisablehook = ignored
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = tell
