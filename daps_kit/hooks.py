"""The hooks of a plugin: each returns settings classes of components, sources of checkpoints, or trackers.

A plugin is a module named by an entry point of the group `daps_kit`, with functions of these names marked `@hookimpl`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from daps_kit.settings import (
    ExecutorSettings,
    KernelSettings,
    NoiseSettings,
    OperatorSettings,
    PriorSettings,
    SamplerSettings,
    TrainerSettings,
)
from daps_kit.sources import Source
from daps_kit.trackers import Tracker

__all__ = ["GROUP", "hookimpl", "hookspec"]

GROUP = "daps_kit"
"""The entry-point group, and the name of the pluggy project."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def daps_operators() -> Iterable[type[OperatorSettings]]:  # type: ignore[empty-body]
    """Return settings classes of forward models."""


@hookspec
def daps_noises() -> Iterable[type[NoiseSettings]]:  # type: ignore[empty-body]
    """Return settings classes of noise models."""


@hookspec
def daps_priors() -> Iterable[type[PriorSettings]]:  # type: ignore[empty-body]
    """Return settings classes of diffusion priors."""


@hookspec
def daps_kernels() -> Iterable[type[KernelSettings]]:  # type: ignore[empty-body]
    """Return settings classes of MCMC kernels."""


@hookspec
def daps_samplers() -> Iterable[type[SamplerSettings]]:  # type: ignore[empty-body]
    """Return settings classes of samplers."""


@hookspec
def daps_trainers() -> Iterable[type[TrainerSettings]]:  # type: ignore[empty-body]
    """Return settings classes of what `daps-kit train` trains."""


@hookspec
def daps_executors() -> Iterable[type[ExecutorSettings]]:  # type: ignore[empty-body]
    """Return settings classes of executors: where the batches of a run are computed."""


@hookspec
def daps_checkpoints() -> Iterable[Source]:  # type: ignore[empty-body]
    """Return the published checkpoints that `daps-kit checkpoints fetch` can bring."""


@hookspec
def daps_trackers() -> Iterable[type[Tracker]]:  # type: ignore[empty-body]
    """Return classes of trackers, which are told how a run goes."""
