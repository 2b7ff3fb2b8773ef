"""Where the batches of a run are computed: in this process, in several of this machine.

local        in the run's own process        processes    workers of this machine        child    one of them

Importing this module does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from daps_kit.settings import ExecutorSettings

if TYPE_CHECKING:
    from daps_kit.executor import Executor

__all__ = ["Local", "Processes"]

SILENCE = Field(
    900.0,
    gt=0,
    description="seconds without a sign of life, which every call of the prior's denoiser gives, after which a worker "
    "counts as hanging",
)


class Local(ExecutorSettings):
    """In this process, one batch after the other, with all its threads."""

    name = "local"

    def build(self) -> Executor:
        """Return the executor."""
        from .local import LocalExecutor

        return LocalExecutor()


class Processes(ExecutorSettings):
    """Several processes of this machine, each with one thread, or with a GPU of its own.

    With `workers: auto` there is a process for each GPU; where there is none, one for each core is tried for a second
    against one process with all threads, and what is faster is taken.
    """

    name = "processes"
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="how many processes; auto: as many as there are GPUs, or as the faster way needs"
    )
    silence: float = SILENCE

    def build(self) -> Executor:
        """Return the executor."""
        from .processes import ProcessExecutor

        return ProcessExecutor(self.workers, self.silence)
