"""The door of the command line: from the first moment on, also amid imports, Ctrl-C is a line and exit code 130.

Until a command begins there is nothing to clean up, so the program leaves at once: an exception would be turned into
another one, or swallowed, by whatever is being imported. What a command does about Ctrl-C is in `interrupt`.

When a command is done, Python takes its time to end. There Ctrl-C has nothing to stop any more and changes no exit
code: Python puts the default in the place of our handler as it ends, but leaves alone a signal that is ignored.

As little as can be is imported before the handler is there.
"""

import atexit
import signal

from .interrupt import leave

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # what is registered first is called last
    from .main import main as command

    command(prog_name="daps-kit")
