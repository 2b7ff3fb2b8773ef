"""One step of training: the gradient of a worker's share, the mean over all workers, the update that all make alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Generic

import torch
from torch import Tensor

from daps_kit.training import Learner

from .objective import Objective
from .state import Network, State

__all__ = ["NetworkLearner", "take_step"]

Mean = Callable[[Tensor], Tensor]
"""Takes a worker's numbers and returns the mean over all workers."""


def take_step(state: State[Any], objective: Objective, rank: int, mean: Mean) -> float:
    """Do one step of one worker; return the mean loss of all, NaN where the step was left out."""
    loss = objective.loss(state.model, state.step, rank)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.flatten() for p in state.parameters if p.grad is not None]
    found = mean(torch.cat([*gradients, loss.detach().flatten()]))
    return float(found[-1]) if state.update(found[:-1]) else math.nan


class NetworkLearner(Learner, Generic[Network]):
    """A network, what it minimises, and the workers that it shares its steps with; how it is measured is left open.

    Args:
        state: of the network.
        objective: what it minimises.
        mean: over the workers, of which this is the first.
    """

    def __init__(self, state: State[Network], objective: Objective, mean: Mean) -> None:
        self.state = state
        self._take = partial(take_step, state, objective, 0, mean)

    @property
    def step(self) -> int:  # type: ignore[override]
        """How many steps it has made."""
        return self.state.step

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return self.state.rate()

    def advance(self) -> float:
        """Make the next step and return its loss (see `Learner`)."""
        loss = self._take()
        self.state.average()
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds."""
        return self.state.tensors()
