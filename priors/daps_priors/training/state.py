"""Everything that a checkpoint holds: weights, their running average, the optimiser's moments, the number of steps.

None of it knows which network it is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from daps_kit.errors import UserError

from .muon import MuonAdamW

Network = TypeVar("Network", bound=nn.Module)

MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")
"""What the optimiser keeps of a parameter: the last of a matrix, the others of anything else."""


@dataclass(frozen=True)
class Optimisation:
    """How weights are moved and averaged.

    Attributes:
        images_seen: to train on in all.
        batch_size: images a step.
        learning_rate: its peak.
        warm_up: images over which it rises.
        weight_decay: decoupled.
        clip: largest norm of the gradient.
        ema: width of the weights' average, relative to the time trained (see `ema_power`).
    """

    images_seen: int
    batch_size: int
    learning_rate: float = 1e-3
    warm_up: int = 5000
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.05

    @property
    def steps(self) -> int:
        """Steps in all."""
        return math.ceil(self.images_seen / self.batch_size)

    def rate(self, seen: int) -> float:
        """Return the rate after so many images: linear warm-up times half a cosine that ends at zero."""
        rise = min(1.0, (seen + self.batch_size) / max(1, self.warm_up))
        return self.learning_rate * rise * (1 + math.cos(math.pi * min(1.0, seen / self.images_seen))) / 2


def ema_power(width: float) -> float:
    """Return g such that the average with weights ~ t^g has the relative standard deviation `width`.

    Karras et al. 2023, arXiv 2312.02696, appendix C: width^2 = (g + 1) / ((g + 2)^2 (g + 3)).
    """
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(max(roots.real))


class State(Generic[Network]):
    """A network in training.

    Args:
        model: any network, on its device, with its weights at the start (or blank, to be restored).
        optimisation: how its weights are moved.
        outer: how the names of parameters begin that AdamW moves and not Muon: those of first and last layers.
    """

    def __init__(self, model: Network, optimisation: Optimisation, outer: tuple[str, ...] = ()) -> None:
        self.model, self.optimisation = model, optimisation
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.parameters = list(model.parameters())
        self.step = 0
        self._power = ema_power(optimisation.ema)
        self.optimiser = MuonAdamW(model.named_parameters(), (0.9, 0.99), optimisation.weight_decay, outer)

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return self.optimisation.rate(self.step * self.optimisation.batch_size)

    def update(self, gradient: Tensor) -> bool:
        """Make one step with a flat gradient; one that is not finite is left out (returns False)."""
        norm = float(gradient.norm())
        finite = math.isfinite(norm)
        if finite:
            gradient = gradient * min(1.0, self.optimisation.clip / (norm + 1e-12))
            for p, part in zip(
                self.parameters, torch.split(gradient, [p.numel() for p in self.parameters]), strict=True
            ):
                assert p.grad is not None
                p.grad.copy_(part.view(p.shape))
            self.optimiser.step(self.rate())
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        return finite

    def average(self) -> None:
        """Take the weights into their running average, with a memory that grows with the run (see `ema_power`)."""
        beta = (1 - 1 / (self.step + 1)) ** (self._power + 1)
        averages: list[Tensor] = list(self.ema.parameters())
        latest: list[Tensor] = list(self.parameters)
        with torch.no_grad():
            torch._foreach_lerp_(averages, latest, 1 - beta)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name; buffers, which are not trained, are the model's only."""
        found = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        found |= {f"ema.{k}": v.detach() for k, v in self.ema.named_parameters()}
        for name, parameter in self.model.named_parameters():
            for moment, value in self.optimiser.moments(parameter).items():
                found[f"optimiser.{moment}.{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take over the tensors of a checkpoint made after `step` steps.

        Raises:
            UserError: they are not those of this network and its optimiser.
        """
        try:
            self.model.load_state_dict(_part(tensors, "model."))
            self.ema.load_state_dict(_part(tensors, "model.") | _part(tensors, "ema."))
            for name, parameter in self.model.named_parameters():
                keys = {moment: f"optimiser.{moment}.{name}" for moment in MOMENTS}
                moments = {moment: tensors[key] for moment, key in keys.items() if key in tensors}
                self.optimiser.restore(parameter, moments)
        except (KeyError, RuntimeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(
                f"the checkpoint does not fit the network and its optimiser ({lines[min(1, len(lines) - 1)]}): it is "
                "damaged, or of a version of daps-kit that trained otherwise; choose another output folder"
            ) from error
        self.step = step


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
