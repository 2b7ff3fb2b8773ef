"""The door of the command line: from the first moment on, also amid imports, Ctrl-C is a line and exit code 130.

Until a command begins there is nothing to clean up, so the program leaves at once: an exception would be turned into
another one, or swallowed, by whatever is being imported. What a command does about Ctrl-C is in `interrupt`.

When a command is done, Python takes its time to end. There Ctrl-C has nothing to stop any more and changes no exit
code: Python puts the default in the place of our handler as it ends, but leaves alone a signal that is ignored.

What is said on the standard error is for whoever reads it: where it cannot be written, on a full disk or to a reader
that is gone, the command goes on, and ends as it would have.

As little as can be is imported before the handler is there.
"""

import atexit
import contextlib
import os
import signal
import sys
from typing import Any

from .interrupt import leave

__all__ = ["main"]


class Messages:
    """A standard error that raises nothing; what comes after the first failure goes nowhere.

    Attributes:
        lost: why something could not be written; empty where all was.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.lost = stream, ""

    def write(self, text: str) -> int:
        """Write a text, if that is possible."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error.strerror or str(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what still waits to be written fails no more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # what is registered first is called last
    messages = None if sys.stderr is None else Messages(sys.stderr)
    if messages is not None:
        sys.stderr = messages
    try:
        from .main import main as command

        command(prog_name="daps-kit")
    finally:
        if messages is not None and messages.lost and "--json" not in sys.argv:
            from .terminal import say

            with contextlib.suppress(OSError):
                say(f"note: messages were lost, since they could not be written: {messages.lost}")
