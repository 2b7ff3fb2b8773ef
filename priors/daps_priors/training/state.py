"""Everything that a checkpoint holds: weights, their running average, the optimiser's moments, the number of steps."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daps_kit.settings import Shape
from daps_priors.trained import network
from daps_priors.trained.network import Denoiser, channels_last

from .muon import Muon
from .settings import TrainDenoiser

MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")  # what the optimiser keeps of a parameter


def network_arguments(settings: TrainDenoiser) -> dict[str, Any]:
    """Return the arguments of `Denoiser` that a recipe chooses."""
    return settings.network.model_dump() | {"sigma_range": (settings.sigma.minimum, settings.sigma.maximum)}


def blank(shape: Shape, settings: TrainDenoiser, components: int) -> Denoiser:
    """Return a denoiser whose weights are still to be restored."""
    model = network.blank(shape, **network_arguments(settings) | {"components": components})
    return model.to(settings.device)


def learning_rate(settings: TrainDenoiser, seen: int) -> float:
    """Return the rate after so many images: linear warm-up times half a cosine that ends at zero."""
    rise = min(1.0, (seen + settings.batch_size) / max(1, settings.warm_up))
    return settings.learning_rate * rise * (1 + math.cos(math.pi * min(1.0, seen / settings.images_seen))) / 2


def ema_power(width: float) -> float:
    """Return g such that the average with weights ~ t^g has the relative standard deviation `width`.

    Karras et al. 2023, arXiv 2312.02696, appendix C: width^2 = (g + 1) / ((g + 2)^2 (g + 3)).
    """
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(max(roots.real))


class State:
    """A denoiser in training.

    Args:
        model: the denoiser at the start (or a blank one, to be restored).
        settings: the recipe.
    """

    def __init__(self, model: Denoiser, settings: TrainDenoiser) -> None:
        self.model = channels_last(model.to(settings.device))
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.parameters = list(self.model.parameters())
        self.step = 0
        self._power = ema_power(settings.ema)
        self.optimiser = Muon(
            self.model.named_parameters(), settings.learning_rate, (0.9, 0.99), settings.weight_decay
        )

    def update(self, gradient: Tensor, rate: float, clip: float) -> bool:
        """Make one optimiser step with a flat gradient; one that is not finite is left out (returns False)."""
        norm = float(gradient.norm())
        finite = math.isfinite(norm)
        if finite:
            gradient = gradient * min(1.0, clip / (norm + 1e-12))
            for p, part in zip(
                self.parameters, torch.split(gradient, [p.numel() for p in self.parameters]), strict=True
            ):
                assert p.grad is not None
                p.grad.copy_(part.view(p.shape))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
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
        """Return all tensors by name."""
        found = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        found |= {f"ema.{k}": v for k, v in self.ema.unet.state_dict(prefix="unet.").items()}
        for name, parameter in self.model.named_parameters():
            for moment, value in self.optimiser.state.get(parameter, {}).items():
                found[f"optimiser.{moment}.{name}"] = value
        return found

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take over the tensors of a checkpoint made after `step` steps."""
        self.model.load_state_dict(_part(tensors, "model."))
        self.ema.load_state_dict(averaged(tensors))
        self.step = step
        for moment in MOMENTS:
            found = _part(tensors, f"optimiser.{moment}.")
            for name, parameter in self.model.named_parameters():
                if name in found:
                    self.optimiser.state[parameter][moment] = _like(found[name], parameter)


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the averaged weights in a checkpoint, the Gaussian denoiser (which is not trained) with them."""
    return _part(tensors, "model.") | _part(tensors, "ema.")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    if value.shape != parameter.shape:  # a number of steps
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
