"""Who draws a batch: prior, operators and sampler, built once and kept, in this process or in another.

    begin(setup, number) -> Worker;  Worker(task, tell) -> result        all of them bytes

A worker is told what its process needs to know and no more: the sections of prior, operator and sampler with every
default, the seed, and with which versions the results are to be made. It reads no data, and sees the results folder
only where it is to write there what it has drawn.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Prior, Sampler, Step
from daps_kit.errors import UserError
from daps_kit.executor import Tell
from daps_kit.failures import Failure, sample_name, told
from daps_kit.memory import out_of_memory
from daps_kit.parameters import joined
from daps_kit.random import stream_seed
from daps_kit.recipe import Recipe, plain
from daps_kit.recipe.sections import read_section
from daps_kit.registry import default_registry
from daps_kit.settings import Kind, Shape
from daps_kit.tensor_file import pack, unpack

from .cost import Cost
from .devices import device_of
from .draw import draw
from .environment import differences, environment
from .folder import TRAJECTORY, RunFolder, Sample
from .measurement import Operators

__all__ = ["BEGIN", "Batch", "Into", "Task", "Trial", "Worker", "begin", "setup_of"]

BEGIN = "daps_kit.runs.worker:begin"
"""What begins a worker, by its name."""

Watch = Callable[[Operator, Tensor, Step], None]
"""Sees operator, measurements and step of a batch, and what a warning calls its samples."""


Pair = tuple[str, int]
"""Name of an item, and run."""


@dataclass(frozen=True)
class Into:
    """Where a worker writes what it has drawn.

    Attributes:
        path: the folder of the run.
        token: what tells it (see `RunFolder.shared`).
        fresh: places in the batch of those samples that are not there yet.
    """

    path: str
    token: str
    fresh: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A batch to be drawn: sample b is run `runs[b]` of the item `names[b]`.

    Attributes:
        names, runs: of each sample.
        shape: of their images, all of them.
        ys: the measurements by the names of the items, without a batch dimension.
        into: where the result goes; None where it comes back.
    """

    names: tuple[str, ...]
    runs: tuple[int, ...]
    shape: Shape
    ys: Mapping[str, Tensor]
    into: Into | None = None

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of its samples."""
        return list(zip(self.names, self.runs, strict=True))

    def pack(self) -> bytes:
        """Return the task as bytes."""
        said = {"names": list(self.names), "runs": list(self.runs), "shape": list(self.shape)}
        return pack(dict(self.ys), said | {"into": vars(self.into) if self.into else None})

    @classmethod
    def unpack(cls, tensors: dict[str, Tensor], said: dict[str, Any]) -> Task:
        """Return the task that was packed."""
        channels, height, width = said["shape"]
        into = said["into"]
        return cls(
            tuple(said["names"]),
            tuple(said["runs"]),
            (channels, height, width),
            tensors,
            Into(into["path"], into["token"], tuple(into["fresh"])) if into else None,
        )


@dataclass(frozen=True)
class Trial:
    """Calls of the denoiser for `seconds`, of a batch of images: how fast is this worker, beside others at work?"""

    shape: Shape
    batch: int
    seconds: float = 1.0

    def pack(self) -> bytes:
        """Return the trial as bytes."""
        return pack({}, {"trial": [list(self.shape), self.batch, self.seconds]})


@dataclass(frozen=True)
class Batch:
    """The samples of a batch on the CPU, some levels on the way to them, and what there is to say.

    Attributes:
        samples: in the order of the task.
        trajectory: noise levels, and their images [B, C, H, W] by name.
        notes, warnings: lines.
        seconds: how long it took.
    """

    samples: list[Sample]
    trajectory: list[tuple[float, dict[str, Tensor]]]
    notes: list[str]
    warnings: list[str]
    seconds: float

    def write(self, folder: RunFolder, pairs: Sequence[Pair], places: Iterable[int]) -> None:
        """Write the samples at some places into the folder of the run; each is finished by that.

        Args:
            folder: of the run.
            pairs: of all samples.
            places: in the batch.
        """
        for place in places:
            levels = [
                (sigma, {key: x[place] for key, x in images.items()}) for sigma, images in self.trajectory
            ]
            if levels:
                folder.write_trajectory(*pairs[place], levels)
            sigmas = tuple(sigma for sigma, _ in levels)
            folder.write_sample(*pairs[place], replace(self.samples[place], sigmas=sigmas))

    def receipt(self) -> Batch:
        """Return what there is to say of the batch, its samples without images."""
        return replace(
            self,
            samples=[replace(sample, x0=torch.empty(0), average=None) for sample in self.samples],
            trajectory=[],
        )

    def pack(self) -> bytes:
        """Return the batch as bytes."""
        tensors = {
            key: torch.stack([sample.images[key] for sample in self.samples])
            for key in self.samples[0].images
        }
        if self.trajectory:
            tensors |= {
                key: torch.stack([images[key] for _, images in self.trajectory]) for key in TRAJECTORY
            }
        said = {
            "sigma": [sigma for sigma, _ in self.trajectory],
            "failures": [vars(sample.failure) if sample.failure else None for sample in self.samples],
            "costs": [vars(sample.cost) if sample.cost else None for sample in self.samples],
            "doubts": [[vars(doubt) for doubt in sample.doubts] for sample in self.samples],
            "parameters": [sample.parameters for sample in self.samples],
            "notes": self.notes,
            "warnings": self.warnings,
            "seconds": self.seconds,
        }
        return pack(tensors, said)

    @classmethod
    def unpack(cls, data: bytes) -> Batch:
        """Return the batch that was packed."""
        tensors, said = unpack(data)
        samples = [
            Sample(
                x0,
                Failure(**failure) if failure else None,
                Cost(**cost) if cost else None,
                tuple(Failure(**doubt) for doubt in doubts),
                parameters=parameters,
                average=average,
            )
            for x0, average, failure, cost, doubts, parameters in zip(
                tensors["x0"],
                tensors.get("average", [None] * len(tensors["x0"])),
                *(said[key] for key in ("failures", "costs", "doubts", "parameters")),
                strict=True,
            )
        ]
        trajectory = [
            (sigma, {key: tensors[key][level] for key in TRAJECTORY})
            for level, sigma in enumerate(said["sigma"])
        ]
        return cls(samples, trajectory, said["notes"], said["warnings"], said["seconds"])


def shown_levels(count: int, levels: int) -> set[int]:
    """Return which levels a strip shows: evenly spread, from the first to the last."""
    if count <= 1:
        return {levels - 1} if count else set()
    count = min(count, levels)
    return {round(place * (levels - 1) / max(1, count - 1)) for place in range(count)}


def setup_of(recipe: Recipe, prior: Prior, device: torch.device) -> bytes:
    """Return what the workers of a recipe are told.

    Args:
        recipe: whose batches they draw.
        prior: as it was built here; where it had to be told a shape, so are they.
        device: where it was built.
    """
    sections = {key: plain(getattr(recipe, key), recipe.registry) for key in ("prior", "operator", "sampler")}
    said = {
        **sections,
        "plugins": [str(file) for file in recipe.plugins],
        "seed": recipe.seed,
        "trajectory": recipe.trajectory,
        "shape": prior.shape,
        "device": recipe.device,
        "versions": environment(device),
    }
    return json.dumps(said).encode()


def begin(setup: bytes, number: int) -> Worker:
    """Begin a worker in this process, which then has one thread for it.

    Args:
        setup: what `setup_of` returned.
        number: of the worker; where the device is `auto` or `cuda` and there are several, it takes its own.

    Raises:
        UserError: versions differ from those of who asks, or something cannot be built here.
    """
    said = json.loads(setup)
    device = device_of(said["device"])
    if device.type == "cuda" and device.index is None and torch.cuda.device_count() > 1:
        device = torch.device("cuda", number % torch.cuda.device_count())
    if lines := differences(said["versions"], environment(device), ("python", "libraries", "plugins")):
        raise UserError(
            f"execution: a worker has other versions than the run, which are to be the same: {'; '.join(lines)}"
        )
    torch.set_num_threads(1)
    registry = default_registry().with_files([Path(file) for file in said["plugins"]])
    kinds: tuple[Kind, ...] = ("prior", "operator", "sampler")
    settings: dict[Kind, Any] = {kind: read_section(kind, said[kind], registry) for kind in kinds}
    try:
        prior = settings["prior"].build(shape=None, device=device)
    except UserError:
        if said["shape"] is None:
            raise
        prior = settings["prior"].build(shape=tuple(said["shape"]), device=device)
    operators = Operators(settings["operator"], said["seed"], device)
    return Worker(prior, operators, settings["sampler"].build(), said["seed"], said["trajectory"], device)


class Worker:
    """Draws batches, one at a time.

    Args:
        prior, operators, sampler: what draws, and from what.
        seed: of the recipe.
        trajectory: how many levels are kept.
        device: where it computes.
        watch: sees every step.
    """

    def __init__(
        self,
        prior: Prior,
        operators: Operators,
        sampler: Sampler,
        seed: int,
        trajectory: int,
        device: torch.device,
        watch: Watch | None = None,
    ) -> None:
        self.prior, self.operators, self.sampler = prior, operators, sampler
        self.seed, self.trajectory, self.device, self.watch = seed, trajectory, device, watch

    def __call__(self, task: bytes, tell: Tell) -> bytes:
        """Return the result of a task.

        Raises:
            MemoryError: memory does not suffice.
            UserError: the result cannot be written where it is to go.
        """
        tensors, said = unpack(task)
        try:
            if "trial" in said:
                return self._tried(*said["trial"])
            return self._outcome(Task.unpack(tensors, said), tell).pack()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        gc.collect()  # outside of the clause, where the error holds what is to be freed
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryError

    @torch.no_grad()
    def _tried(self, shape: Sequence[int], batch: int, seconds: float) -> bytes:
        x = torch.zeros(batch, *self.prior.state_shape((shape[0], shape[1], shape[2])), device=self.device)
        self.prior.denoise(x, 1.0)
        begun, calls = time.perf_counter(), 0
        while (passed := time.perf_counter() - begun) < seconds:
            float(self.prior.denoise(x, 1.0).sum())
            calls += 1
        return str(calls / passed).encode()

    def _outcome(self, task: Task, tell: Tell) -> Batch:
        """Return the batch, or what there is to say of it where it is written."""
        if (into := task.into) is None:
            return self._drawn(task, tell)
        folder = RunFolder(Path(into.path))
        folder.require_shared(into.token)  # before the work
        batch = self._drawn(task, tell)
        folder.require_shared(into.token)
        kept = bool(self.trajectory)
        batch.write(
            folder,
            task.pairs,
            # Another may have been as fast with the same batch.
            [n for n in into.fresh if not folder.finished(*task.pairs[n], task.shape, trajectory=kept)],
        )
        return batch.receipt()

    def _drawn(self, task: Task, tell: Tell) -> Batch:
        operators = [self.operators.of(name, task.shape) for name in task.names]
        operator = joined(operators)
        y = torch.stack([task.ys[name] for name in task.names]).to(self.device)
        names = [sample_name(name, run) for name, run in task.pairs]
        trajectory: list[tuple[float, dict[str, Tensor]]] = []
        notes: list[str] = []
        warnings: list[str] = []
        share = 0.0

        def seen(step: Step) -> None:
            nonlocal share
            notes.extend(step.notes)
            warnings.extend(step.warnings)
            share = (step.level + 1) / step.levels
            tell(share)
            if self.watch is not None:
                self.watch(operator, y, step)
            if step.level in shown_levels(self.trajectory, step.levels):
                images = {key: self.decode(getattr(step, key)).cpu() for key in TRAJECTORY}
                trajectory.append((step.sigma, images))

        begun = time.perf_counter()
        seeds = [stream_seed(self.seed, "sampler", *pair) for pair in task.pairs]
        drawn = draw(self.sampler, self.prior, operator, y, seeds, seen, lambda: tell(share))
        seconds = time.perf_counter() - begun
        warnings += told((*drawn.lost.values(), *drawn.doubts), names)
        samples = [
            Sample(
                x,
                drawn.lost.get(place),
                drawn.cost,
                tuple(replace(doubt, sample=0) for doubt in drawn.doubts if doubt.sample == place),
                parameters=drawn.parameters[place] if drawn.parameters else {},
                average=None if drawn.average is None else drawn.average[place].cpu(),
            )
            for place, x in enumerate(drawn.x0.cpu())
        ]
        return Batch(samples, trajectory, list(dict.fromkeys(notes)), list(dict.fromkeys(warnings)), seconds)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Return the images [B, C, H, W] of states of the prior."""
        return self.prior.decode(x).detach().clone()
