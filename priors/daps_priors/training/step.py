"""One step of training, shared by several one-thread processes.

The loss is the squared error in units of the best linear denoiser's,

    E_{x0, n, sigma}  |D(x0 + sigma n, sigma) - x0|^2 / e(sigma)^2 = |U - (x0 - D_G) / e|^2,

averaged over noise levels; a teacher's guess takes the place of x0. Every draw comes from a generator seeded by (seed,
purpose, step, worker): a step depends on its number alone, and a run resumed from a checkpoint goes on exactly as the
unbroken one. Each worker holds the whole network and makes the same update from the mean gradient, which they exchange
through shared memory.
"""

from __future__ import annotations

import contextlib
import functools
import math
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import Tensor

from .augment import augment
from .meeting import Gone, Helper, Leader
from .settings import SigmaSettings, TrainDenoiser
from .state import State, blank, learning_rate
from .teacher import Teacher

_ORDER, _DRAW, _STRATA = 1, 2, 3


@dataclass
class Shared:
    """What the workers share: the images, and two sets of gradients and losses for alternate steps."""

    images: Tensor
    gradients: Tensor
    losses: Tensor

    @classmethod
    def create(cls, images: Tensor, parameters: int, workers: int) -> Shared:
        """Allocate for `workers` processes and a network of so many parameters."""
        return cls(
            share(images),
            share(torch.zeros(2, workers, parameters)),
            share(torch.zeros(2, workers)),
        )


def share(tensor: Tensor) -> Tensor:
    """Move a tensor to memory that other processes see."""
    shared: Tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]
    return shared


def generator(*key: int) -> torch.Generator:
    """Return a generator that depends on the whole key."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))


def draw_sigma(settings: SigmaSettings, uniform: Tensor, mix: Tensor) -> Tensor:
    """Turn uniform draws into noise levels; `mix` chooses between the log-normal and the log-uniform part."""
    normal = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)) * settings.log_std + settings.log_mean
    low, high = math.log(settings.minimum), math.log(settings.maximum)
    return torch.where(mix < settings.uniform, low + (high - low) * uniform, normal).exp()


def batch(settings: TrainDenoiser, images: Tensor, step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a worker's share of a step: clean images, noise levels and noisy images."""
    share = settings.batch_size // settings.workers
    first = step * settings.batch_size + rank * share
    rows = [_row(index, len(images), settings.seed) for index in range(first, first + share)]
    draw = generator(settings.seed, _DRAW, step, rank)
    x0 = augment(images[rows], settings.frame, settings.augment, draw)
    # One noise level from each of batch_size equal strata, dealt out to the workers at random: less variance.
    strata = torch.randperm(settings.batch_size, generator=generator(settings.seed, _STRATA, step))
    strata = strata[rank * share : (rank + 1) * share]
    uniform = (strata + torch.rand(share, generator=draw)) / settings.batch_size
    sigma = draw_sigma(settings.sigma, uniform, torch.rand(share, generator=draw))
    return x0, sigma, x0 + sigma[:, None, None, None] * torch.randn(x0.shape, generator=draw)


def train_step(
    state: State,
    shared: Shared,
    rank: int,
    settings: TrainDenoiser,
    meeting: Leader | Helper | None,
    teacher: Teacher | None,
) -> float:
    """Do one step of one worker; return the mean loss of all (not-a-number: the step was left out).

    Raises:
        Gone: another worker has ended.
    """
    x0, sigma, x = (part.to(settings.device) for part in batch(settings, shared.images, state.step, rank))
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=settings.bfloat16):
        if teacher is not None:
            x0 = teacher.denoise(x, sigma)
        linear, correction, error = state.model.parts(x, sigma)
    loss = (correction - (x0 - linear) / error).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([p.grad.flatten() for p in state.parameters if p.grad is not None])
    mean_loss = float(loss.detach())
    if meeting is not None:
        turn = state.step % 2
        shared.gradients[turn, rank] = gradient
        shared.losses[turn, rank] = mean_loss
        meeting.wait()
        gradient, mean_loss = shared.gradients[turn].mean(0), float(shared.losses[turn].mean())
    updated = state.update(gradient, learning_rate(settings, state.step * settings.batch_size), settings.clip)
    return mean_loss if updated else math.nan


def _row(index: int, count: int, seed: int) -> int:
    """Return the image at place `index` of an endless row of shuffled passes over the set."""
    turn, place = divmod(index, count)
    return _order(seed, count, turn)[place]


@functools.lru_cache(maxsize=2)
def _order(seed: int, count: int, turn: int) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator(seed, _ORDER, turn)).tolist()
    return order


def work(
    settings: TrainDenoiser,
    shared: Shared,
    weights: dict[str, Tensor],
    step: int,
    rank: int,
    leader: Connection,
) -> None:
    """Body of every worker process but the first; it ends when the first does."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all of them; the first process ends the others
    torch.set_num_threads(1)
    shape = (shared.images.shape[3], settings.frame, settings.frame)
    state = State(blank(shape, settings, len(weights["model.gauss.variances"])), settings)
    state.restore(weights, step)
    teacher = Teacher.of(settings, shape)
    with contextlib.suppress(Gone):
        while state.step < settings.steps:
            train_step(state, shared, rank, settings, Helper(leader), teacher)
