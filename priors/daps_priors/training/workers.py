"""Several one-thread processes that share every step of a training.

Each worker holds the whole network and makes the same update from the mean gradient, which they exchange through shared
memory. The first of them is the process that trains; it alone measures, reports and saves.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing import get_context

from daps_kit.errors import UserError

from .meeting import Gone, Helper, Leader
from .objective import Objective
from .state import State
from .step import Mean, take_step

__all__ = ["workers"]


class Exchange:
    """Gradients of all workers in shared memory: two sets, for alternate steps."""

    def __init__(self, rows: Tensor, rank: int, meeting: Leader | Helper) -> None:
        self.rows, self.rank, self.meeting, self.turn = rows, rank, meeting, 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all workers; `Gone` where another one has ended."""
        rows = self.rows[self.turn]
        rows[self.rank] = values
        self.turn = 1 - self.turn
        self.meeting.wait()
        return rows.mean(0)


@contextlib.contextmanager
def workers(
    count: int, state: State[Any], blank: Callable[[], State[Any]], objective: Objective
) -> Iterator[Mean]:
    """Run the other workers beside this process, and yield what takes the mean over all of them.

    Args:
        count: of workers, this process among them; with one there is nothing to share.
        state: where the training starts, or goes on.
        blank: makes a state to be restored; picklable.
        objective: what is minimised.

    Raises:
        UserError: one of the others has ended.
    """
    if count == 1:
        yield lambda values: values
        return
    context = get_context("spawn")
    start = {name: tensor.detach().clone() for name, tensor in state.tensors().items()}
    rows = torch.zeros(2, count, sum(p.numel() for p in state.parameters) + 1)
    pipes, processes = [], []
    try:
        for rank in range(1, count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(blank, objective, start, state.step, rows, rank, theirs), daemon=True
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        with _one_thread():
            yield Exchange(rows, 0, Leader(pipes)).mean
    except Gone:
        for process in processes:
            process.join(1)
        codes = ", ".join(str(process.exitcode) for process in processes if process.exitcode)
        raise UserError(
            f"a worker process ended early (exit code {codes}; -9: killed, often for want of memory); run the same "
            "command again to go on from the last checkpoint"
        ) from None
    finally:
        for process in processes:
            process.kill()
            process.join()
        for pipe in pipes:
            pipe.close()


def _work(
    blank: Callable[[], State[Any]],
    objective: Objective,
    start: dict[str, Tensor],
    step: int,
    rows: Tensor,
    rank: int,
    leader: Connection,
) -> None:
    """Body of every worker but the first; it ends when the first does."""
    # Ctrl-C reaches all of them; the first process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    state = blank()
    state.restore(start, step)
    mean = Exchange(rows, rank, Helper(leader)).mean
    with contextlib.suppress(Gone):
        while state.step < state.optimisation.steps:
            take_step(state, objective, rank, mean)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, since every worker has its own; the number of threads before is restored."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
