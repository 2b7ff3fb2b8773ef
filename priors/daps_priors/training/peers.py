"""Processes that torchrun started, on this machine or several, which share every step of a training.

Each has the whole network, computes the gradient of its share of the batch, and makes the same update from the mean
over all: by gloo on processors, by NCCL on GPUs. The first alone measures, reports and saves; what it starts from, it
sends to the others, so that a checkpoint need not lie where they can read it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed

from daps_kit.errors import UserError
from daps_kit.tensor_file import pack, unpack
from daps_kit.trainer import Launched

from .workers import PATIENCE

__all__ = ["Peers", "joined"]


class Peers:
    """The connection to the other processes.

    Args:
        place: of this process.
        device: where it computes.
    """

    def __init__(self, place: Launched, device: str) -> None:
        self.place, self.device = place, device

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, in the place of the values.

        Raises:
            UserError: another process has ended.
        """
        with _connected():
            distributed.all_reduce(values)
        return values.div_(self.place.count)

    def share(self, tensors: dict[str, Tensor] | None, step: int = 0) -> tuple[dict[str, Tensor], int]:
        """Return the tensors and the step that the first process gives; the others give None.

        Raises:
            UserError: another process has ended.
        """
        data = (
            None if tensors is None else torch.frombuffer(bytearray(pack(tensors, step)), dtype=torch.uint8)
        )
        size = torch.tensor([0 if data is None else len(data)], device=self.device)
        with _connected():
            distributed.broadcast(size, 0)
            data = torch.empty(int(size), dtype=torch.uint8) if data is None else data
            data = data.to(self.device)
            distributed.broadcast(data, 0)
        found: tuple[dict[str, Tensor], int] = unpack(data.cpu().numpy().tobytes())
        return found


@contextlib.contextmanager
def joined(place: Launched, device: str) -> Iterator[Peers]:
    """Connect the processes.

    Raises:
        UserError: torch cannot connect them.
    """
    backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
    if not (distributed.is_available() and (backend == "nccl" or distributed.is_gloo_available())):
        raise UserError("this torch was built without what connects processes; run without torchrun")
    torch_distributed: Any = distributed  # whose stubs leave out half of what is used here
    with _connected():
        torch_distributed.init_process_group(
            backend, rank=place.rank, world_size=place.count, timeout=PATIENCE
        )
    try:
        yield Peers(place, device)
    finally:
        torch_distributed.destroy_process_group()


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            "the processes of torchrun lost each other, or one has ended; the same command goes on from the last "
            f"checkpoint ({str(error).splitlines()[0]})"
        ) from error
