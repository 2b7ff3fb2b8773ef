"""Operators whose numbers, or those of their noise, are unknown: built from settings with open fields.

Settings say which of their fields a recipe may leave open (`unknowable`); an operator that is built from settings with
open fields has `parameters`, from which a sampler gets it at the values that it tries, one set of values a sample. To
change the operator's own fields it is built again from its settings, with the seed it had; to change its noise, only
that is. So any operator whose settings name the fields has them, without a line of its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import Operator, Parameters
from daps_kit.noise import GaussianNoise, Noise
from daps_kit.settings import NoiseSettings, OperatorSettings, Shape

__all__ = [
    "KERNEL",
    "NOISE",
    "Parameters",
    "build_noise",
    "build_operator",
    "gathered",
    "joined",
    "kernel_names",
    "kernel_size",
    "near_each_other",
    "settled",
    "with_noise",
    "within",
]

NOISE = Parameters.of_noise
"""What the names of the noise's parameters begin with."""

KERNEL = "kernel"
"""What a whole kernel is called, each number of which is a parameter."""


def build_operator(settings: OperatorSettings, *, shape: Shape, seed: int, device: torch.device) -> Operator:
    """Return the operator of some settings, with `parameters` where fields of it or of its noise are open.

    Raises:
        daps_kit.errors.UserError: the settings do not fit the shape, or a list or a map of sigma not the measurement.
    """
    operator = settings.build(shape=shape, seed=seed, device=device)
    if isinstance(operator.noise, GaussianNoise) and not operator.noise.alike:
        with torch.no_grad():
            operator.noise.std(operator.forward(torch.zeros(1, *shape, device=device)))
    own = settings.left_open
    if own:

        def build(values: Mapping[str, float]) -> Operator:
            return settings.at(values).build(shape=shape, seed=seed, device=device)

        operator.parameters = Parameters(tuple(own), tuple(own.values()), (build,), settings.all_periods)
    if not isinstance(
        settings.noise, NoiseSettings
    ):  # the operator's own business: nothing of it can be left open
        return with_noise(operator, operator.noise) if own else operator
    return with_noise(operator, build_noise(settings.noise)) if own or settings.noise.left_open else operator


def build_noise(settings: NoiseSettings) -> Noise:
    """Return the noise of some settings, with what is `unknown` of it where fields are open."""
    noise = settings.build()
    if settings.left_open:

        def build(values: Mapping[str, float]) -> Noise:
            return settings.at(values).build()

        noise.unknown = (settings.left_open, build)
    return noise


def with_noise(operator: Operator, noise: Noise) -> Operator:
    """Return an operator with other noise, and what is unknown of that in the place of what was of its own."""
    found, old = copy.copy(operator), operator.parameters
    found.noise, found.parameters = _placed(operator, noise), None
    own = {} if old is None else dict(zip(old.names, old.unknowns, strict=True))
    own = {name: unknown for name, unknown in own.items() if not name.startswith(NOISE)}
    of_noise, make = noise.unknown or ({}, lambda values: noise)
    if not own and not of_noise:
        return found

    def wrapped(
        build: Callable[[Mapping[str, float]], Operator],
    ) -> Callable[[Mapping[str, float]], Operator]:
        def at(values: Mapping[str, float]) -> Operator:
            made = copy.copy(build({name: values[name] for name in own}))
            made.parameters = None
            # What replaces this noise later gives no values for it.
            given = {name: float(values.get(f"{NOISE}{name}", unknown)) for name, unknown in of_noise.items()}
            made.noise = _placed(made, make(given))
            return made

        return at

    plain = copy.copy(operator)
    builds = old.builds if old is not None and own else (lambda values: plain,)
    names = (*own, *(f"{NOISE}{name}" for name in of_noise))
    found.parameters = Parameters(
        names,
        (*own.values(), *of_noise.values()),
        tuple(wrapped(build) for build in builds),
        {} if old is None else old.periods,
    )
    return found


def _placed(operator: Operator, noise: Noise) -> Noise:
    return noise.with_black(operator.black).with_scale(operator.scale)


def kernel_names(size: int) -> tuple[str, ...]:
    """Return the names of the numbers of a whole kernel that is unknown, row by row."""
    return tuple(f"{KERNEL}[{i},{j}]" for i in range(size) for j in range(size))


def kernel_size(names: Iterable[str]) -> int:
    """Return the side of the whole kernel that is among the names of unknown numbers; 0 where there is none."""
    return math.isqrt(sum(name.startswith(f"{KERNEL}[") for name in names))


def gathered(found: Mapping[str, Any], join: Callable[[list[Any], tuple[int, int]], Any]) -> dict[str, Any]:
    """Return what is said of unknown numbers by their names, those of a whole kernel made one.

    Args:
        found: of each number.
        join: makes one of what is said of the numbers of a kernel, row by row, and its height and width.
    """
    size = kernel_size(found)
    if not size:
        return dict(found)
    names = kernel_names(size)
    others = {name: each for name, each in found.items() if name not in set(names)}
    return {KERNEL: join([found[name] for name in names], (size, size)), **others}


def settled(operator: Operator, values: Tensor | None) -> Operator:
    """Return an operator at values [B, P] of what is unknown of it; itself where there are none."""
    return operator if values is None or operator.parameters is None else operator.parameters.at(values)


def near_each_other(traces: Tensor, period: float | None) -> Tensor:
    """Return values that mean the same after a period, moved by it to where those of a level lie around one mean.

    All values of a level are within half a period of its mean direction. That of the last level is the one nearest to
    the plain mean, so that values which lie together stay what they are, and those of the others are near it.

    Args:
        traces: [..., samples, levels]; NaN where a sample was lost.
        period: None, where no two values mean the same.
    """
    if period is None:
        return traces
    turn = period / (2 * torch.pi)
    sine, cosine = ((traces / turn).sin().nanmean(-2, True), (traces / turn).cos().nanmean(-2, True))
    middle = torch.atan2(sine, cosine) * turn
    last = within(middle[..., -1:], traces[..., -1:].nanmean(-2, True), period)
    return within(traces, within(middle, last, period), period)


def within(values: Tensor, middle: Tensor, period: float) -> Tensor:
    """Return values moved by periods to within half a period of a middle."""
    return middle + (values - middle + period / 2) % period - period / 2


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
