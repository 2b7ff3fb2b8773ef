"""Several one-thread processes that share every step of a training.

Each worker holds the whole network and makes the same update from the mean gradient, which they exchange by torch's
gloo over the loopback interface. The first of them is the process that trains; it alone measures, reports and saves,
while the others wait for it, however long that takes.

No worker may wait for one that has died, killed for want of memory perhaps. Once they are connected, the operating
system closes the connections of a dead process, and whoever waits for it is told at once. Before that, the first looks
after the others while it waits for them, and they end when it does.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.multiprocessing import get_context

from daps_kit.errors import UserError

from .objective import Objective
from .state import State
from .step import Mean, take_step

__all__ = ["workers"]

PATIENCE = datetime.timedelta(days=365)
"""How long a worker waits for the others, which measure and save in the meantime."""


class Gone(Exception):
    """A worker that was waited for has ended."""


class Group:
    """The connection of a worker to all the others.

    Args:
        folder: where they meet.
        rank: of this worker.
        count: of all workers; returns when all have come.
    """

    def __init__(self, folder: Path, rank: int, count: int) -> None:
        torch_distributed: Any = distributed  # whose stubs leave out half of what is used here
        gloo = torch_distributed.ProcessGroupGloo
        options = gloo._Options()  # without them the network that the machine's name leads to would be used
        options._timeout = PATIENCE
        options._devices = [gloo.create_device(hostname="127.0.0.1")]
        self._group = gloo(torch_distributed.FileStore(str(folder / "workers"), count), rank, count, options)
        self._count = count

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all workers, in the place of the values.

        Raises:
            Gone: another worker has ended.
        """
        try:
            self._group.allreduce([values]).wait()
        except RuntimeError as error:
            raise Gone from error
        return values.div_(self._count)


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
        UserError: one of the others has ended, or torch cannot connect them.
    """
    if count == 1:
        yield lambda values: values
        return
    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise UserError("this torch was built without gloo, which connects workers; set workers to 1")
    context = get_context("spawn")
    start = {name: tensor.detach().clone() for name, tensor in state.tensors().items()}
    processes: list[BaseProcess] = []
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        try:
            for rank in range(1, count):
                arguments = (blank, objective, start, state.step, Path(folder), rank, count)
                process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                processes.append(process)
            yield _connected(Path(folder), processes).mean
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


def _connected(folder: Path, others: Sequence[BaseProcess]) -> Group:
    """Return the group of the first worker once all have come; `Gone` if one of the others ends before."""
    found: Future[Group] = Future()

    def connect() -> None:
        try:
            found.set_result(Group(folder, 0, len(others) + 1))
        except Exception as error:  # noqa: BLE001 (raised where the result is asked for)
            found.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    while not found.done():
        if wait([process.sentinel for process in others], timeout=0.02):
            raise Gone
    return found.result()


def _work(
    blank: Callable[[], State[Any]],
    objective: Objective,
    start: dict[str, Tensor],
    step: int,
    folder: Path,
    rank: int,
    count: int,
) -> None:
    """Body of every worker but the first; it ends when the first does."""
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    # Ctrl-C reaches all of them; the first process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    state = blank()
    state.restore(start, step)
    with contextlib.suppress(Gone):
        group = Group(folder, rank, count)
        while state.step < state.optimisation.steps:
            take_step(state, objective, rank, group.mean)


def _end_with_the_first() -> None:
    first = parent_process()
    assert first is not None
    first.join()
    os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, since every worker has its own; the number of threads before is restored."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
