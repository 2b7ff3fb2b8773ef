"""Where the batches of a run are computed: in this process, in several of this machine.

local        in the run's own process        processes    workers of this machine        child    one of them
dask         workers of dask, anywhere                                                   dask_task    a task there

Importing this module does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from daps_kit.settings import ExecutorSettings

if TYPE_CHECKING:
    from daps_kit.executor import Executor

__all__ = ["Dask", "Local", "Processes"]

SILENCE = Field(
    900.0,
    gt=0,
    description="seconds without a sign of life, which every call of the prior's denoiser gives, after which a worker "
    "counts as hanging",
)

SHARED = Field(
    False,
    description="whether the workers write the samples themselves, for which they must see the folder of the run under "
    "the same path; else they send them, and the run writes",
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
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="how many processes; auto: as many as there are GPUs, or as the faster way needs"
    )
    silence: float = SILENCE
    shared_folder: bool = SHARED

    def build(self) -> Executor:
        """Return the executor."""
        from .processes import ProcessExecutor

        return ProcessExecutor(self.workers, self.silence, self.shared_folder)


class Dask(ExecutorSettings):
    """Workers of dask.distributed: of this machine, of a scheduler that is there, or in jobs of a queueing system.

    It needs the extra `cluster`; kubernetes needs dask-kubernetes as well. A worker takes one batch at a time, and
    builds prior and operator with its first. The run alone writes the folder, unless `shared_folder` is set. Where
    the workers have GPUs, each is to have one: those of this machine do; elsewhere they are started with `--resources
    GPU=1`, and `resources: {GPU: 1}` chooses them.
    """

    name = "dask"
    workers: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto",
        description="how many workers to start; auto: on this machine as many as there are GPUs, or cores where there "
        "are none",
    )
    scheduler: str | None = Field(
        None,
        description="address of a scheduler, such as tcp://10.0.0.1:8786, whose workers are taken as they come",
    )
    cluster: Literal["local", "slurm", "pbs", "lsf", "sge", "kubernetes"] = Field(
        "local",
        description="where workers are started, if there is no scheduler: on this machine, or as jobs",
    )
    options: dict[str, bool | int | float | str | list[str]] = Field(
        {},
        description="what LocalCluster, SLURMCluster, ... KubeCluster of dask are told, by their keyword arguments",
    )
    resources: dict[str, Annotated[float, Field(gt=0, strict=False)]] = Field(
        {}, description="what a worker must have, such as {GPU: 1}; others get no batch"
    )
    silence: float = SILENCE
    shared_folder: bool = SHARED

    @model_validator(mode="after")
    def _one_place(self) -> Dask:
        if self.scheduler is not None:
            if self.workers != "auto" or self.cluster != "local" or self.options:
                raise ValueError(
                    "a scheduler has its own workers; give either it or workers, cluster and options"
                )
        elif self.cluster != "local" and self.workers == "auto":
            raise ValueError(f"{self.cluster} needs a number of workers")
        return self

    def build(self) -> Executor:
        """Return the executor."""
        from .dask import DaskExecutor

        return DaskExecutor(
            self.workers, self.scheduler, self.cluster, self.options, self.resources, self.silence, self.shared_folder
        )  # fmt: skip
