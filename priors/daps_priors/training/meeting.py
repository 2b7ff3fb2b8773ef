"""A point where processes wait for each other, and where the death of one is noticed by the others at once.

A lock or barrier in shared memory is lost for good with a process that is killed while it holds it; a pipe is closed
by the operating system instead. So each helper has a pipe to the first process: it reports there and is told to go on.
"""

from __future__ import annotations

from multiprocessing.connection import Connection


class Gone(Exception):
    """A process that was waited for has ended."""


class Leader:
    """The first process's side: one pipe to each helper."""

    def __init__(self, helpers: list[Connection]) -> None:
        self.helpers = helpers

    def wait(self) -> None:
        """Return once all helpers have come, and let them go on.

        Raises:
            Gone: a helper has ended.
        """
        try:
            for helper in self.helpers:
                helper.recv_bytes()
            for helper in self.helpers:
                helper.send_bytes(b"")
        except (EOFError, OSError) as error:
            raise Gone from error


class Helper:
    """A helper's side."""

    def __init__(self, leader: Connection) -> None:
        self.leader = leader

    def wait(self) -> None:
        """Return once all have come.

        Raises:
            Gone: the first process has ended.
        """
        try:
            self.leader.send_bytes(b"")
            self.leader.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone from error
