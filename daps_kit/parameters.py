"""Operators whose numbers, or those of their noise, are unknown: built from settings with open fields.

Settings say which of their fields a recipe may leave open (`unknowable`); an operator that is built from settings with
open fields has `parameters`, from which a sampler gets it at the values that it tries, one set of values a sample. To
change the operator's own fields it is built again from its settings, with the seed it had; to change its noise, only
that is. So any operator whose settings name the fields has them, without a line of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Parameters
from daps_kit.noise import Noise
from daps_kit.settings import NoiseSettings, OperatorSettings, Shape

__all__ = ["NOISE", "Parameters", "build_operator", "joined", "settled", "with_noise"]

NOISE = Parameters.of_noise
"""What the names of the noise's parameters begin with."""


def build_operator(settings: OperatorSettings, *, shape: Shape, seed: int, device: torch.device) -> Operator:
    """Return the operator of some settings, with `parameters` where fields of it or of its noise are open."""
    operator = settings.build(shape=shape, seed=seed, device=device)
    own, of_noise = settings.left_open, settings.noise.left_open
    if not own and not of_noise:
        return operator

    def build(values: Mapping[str, float]) -> Operator:
        changed = {name: value for name, value in values.items() if not name.startswith(NOISE)}
        made = operator
        if changed:
            made = settings.model_copy(update=changed).build(shape=shape, seed=seed, device=device)
        return _with_noise_at(made, settings.noise, values)

    names = (*own, *(f"{NOISE}{name}" for name in of_noise))
    operator.parameters = Parameters(names, (*own.values(), *of_noise.values()), (build,))
    return operator


def with_noise(operator: Operator, settings: NoiseSettings) -> Operator:
    """Return an operator with the noise of some settings, whose open fields are its only parameters."""
    base = copy.copy(operator)
    base.noise = _placed(base, settings.build())
    base.parameters = None
    if not settings.left_open:
        return base
    found = copy.copy(base)
    names = tuple(f"{NOISE}{name}" for name in settings.left_open)
    found.parameters = Parameters(
        names,
        tuple(settings.left_open.values()),
        (lambda values: _with_noise_at(base, settings, values),),
    )
    return found


def _with_noise_at(operator: Operator, settings: NoiseSettings, values: Mapping[str, float]) -> Operator:
    found = copy.copy(operator)
    found.parameters = None
    changed = {name.removeprefix(NOISE): value for name, value in values.items() if name.startswith(NOISE)}
    if changed:
        found.noise = _placed(found, settings.model_copy(update=changed).build())
    return found


def _placed(operator: Operator, noise: Noise) -> Noise:
    return noise.with_black(operator.black).with_scale(operator.scale)


def settled(operator: Operator, values: Tensor | None) -> Operator:
    """Return an operator at values [B, P] of what is unknown of it; itself where there are none."""
    return operator if values is None or operator.parameters is None else operator.parameters.at(values)


def joined(operators: Sequence[Operator]) -> Operator:
    """Return the operator whose sample b is measured by `operators[b]`, and their parameters with it."""
    found = type(operators[0]).stack(operators)
    known = [operator.parameters for operator in operators]
    first = known[0]
    if first is None or found is operators[0]:
        return found
    builds = tuple(each.builds[0] for each in known if each is not None)
    found.parameters = replace(first, builds=builds)
    return found
