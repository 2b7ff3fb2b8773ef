"""What a user gives in Python, as the contracts want it: functions, networks, sections; arrays with or without a batch.

A measurement has the shape that the operator gives, or that with a batch axis before it; any other is told in a line
that says what is likely meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from daps_kit.contracts import Operator, Prior
from daps_kit.errors import UserError
from daps_kit.functions import FunctionPrior, make_operator
from daps_kit.noise import GaussianNoise, Noise
from daps_kit.parameters import with_noise
from daps_kit.shape import Shape

__all__ = [
    "Given",
    "as_array",
    "as_noise",
    "as_operator",
    "as_prior",
    "as_shape",
    "device_of",
    "size_of",
    "taken",
]

BEYOND, FAR = 0.01, 3.0
"""The share of values that may lie out of the range of an operator, and how many times its width is out of it."""


@dataclass(frozen=True)
class Given:
    """A measurement.

    Attributes:
        y: with a batch axis, [B, ...].
        single: whether it was given without.
    """

    y: Tensor
    single: bool


def called(function: Any, other: str) -> str:
    """Return what errors call a function."""
    name = getattr(function, "__name__", type(function).__name__)
    return other if name == "<lambda>" else str(name)


def device_of(*givers: Any) -> torch.device:
    """Return where the first tensor or network among some things lives, or among what they hold; else the CPU."""
    for giver in givers:
        held = [giver, *vars(giver).values()] if hasattr(giver, "__dict__") else [giver]
        for each in held:
            if isinstance(each, Tensor):
                return each.device
            if isinstance(each, nn.Module) and (first := next(each.parameters(), None)) is not None:
                return first.device
    return torch.device("cpu")


def as_shape(shape: Sequence[int], prior: Prior) -> Shape:
    """Return (C, H, W) of the images, which the prior has to know.

    Raises:
        UserError: it is none, or the prior knows another.
    """
    sides = tuple(int(side) for side in shape)
    if len(sides) != 3 or min(sides) < 1:
        raise UserError(f"shape must be (channels, height, width), not {tuple(shape)}")
    advice = f": {prior.advice}" if prior.advice else ""
    if prior.shape is not None and tuple(prior.shape) != sides:
        raise UserError(
            f"images of {list(sides)} do not fit the prior, which knows {list(prior.shape)}{advice}"
        )
    if prior.shape is None and prior.channels not in (None, sides[0]):
        raise UserError(
            f"images of {list(sides)} do not fit the prior, whose images have {prior.channels} channel(s){advice}"
        )
    return sides


def size_of(
    shape: Sequence[int] | None,
    prior: Prior,
    adjoint: Callable[[Tensor], Tensor] | None,
    y: Any,
    device: torch.device,
) -> Shape:
    """Return (C, H, W) of the images: as it is given, as the prior has it, or as the adjoint returns it.

    Raises:
        UserError: none of them says it, or the prior knows another.
    """
    wanted = shape if shape is not None else prior.shape
    if wanted is None and adjoint is not None:
        with torch.no_grad():
            wanted = tuple(adjoint(as_array(y, device)[None]).shape[-3:])
    if wanted is None:
        raise UserError(
            "shape: needed as (channels, height, width); neither the prior nor the operator says it"
        )
    return as_shape(wanted, prior)


def as_prior(
    prior: Any, build: Callable[..., Any], shape: Sequence[int] | None, device: torch.device
) -> Prior:
    """Return a prior: itself, built from its section or name by `build`, or a denoiser.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(prior, Prior):
        return prior
    if isinstance(prior, str):
        prior = {"use": prior}
    if _is_section(prior):
        built: Prior = build("prior", prior, shape=shape, device=device)
        return built
    if not callable(prior):
        raise UserError(
            f"prior: {type(prior).__name__} is no prior; allowed: a prior, its section or name, or denoiser(x, sigma)"
        )
    function: Any = prior
    return FunctionPrior(function, label=called(prior, "denoiser"))


def try_denoiser(prior: Prior, shape: Shape, device: torch.device) -> None:
    """See that a function denoises images of a shape at all.

    Raises:
        UserError: it fails, or returns something else.
    """
    if not isinstance(prior, FunctionPrior):
        return
    x = torch.zeros(1, *shape, device=device)
    low, high = prior.sigma_range
    try:
        with torch.no_grad():
            found = prior.denoise(x, min(max(1.0, low), high))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"{prior.label}: failed on images {list(x.shape)} at sigma 1: {type(error).__name__}: {text}"
        ) from error
    if not bool(torch.isfinite(found).all()):
        raise UserError(f"{prior.label}: returned numbers that are not finite at sigma 1")


def as_noise(noise: Any, build: Callable[..., Any]) -> Noise:
    """Return a noise model: itself, Gaussian of a standard deviation, a list or a map of it, or built from its section.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(noise, Noise):
        return noise
    if isinstance(noise, Tensor | np.ndarray):
        noise = torch.as_tensor(noise, dtype=torch.float32)
        if noise.ndim == 0:
            noise = float(noise)
    if isinstance(noise, np.generic):
        noise = noise.item()
    if isinstance(noise, Tensor | int | float) and not isinstance(noise, bool):
        try:
            return GaussianNoise(noise if isinstance(noise, Tensor) else float(noise))
        except (ValueError, OverflowError) as error:
            raise UserError(f"noise: {error}") from None
    if isinstance(noise, list | tuple):
        noise = {"use": "gaussian", "sigma": list(noise)}
    if isinstance(noise, str):
        noise = {"use": "gaussian", "sigma": noise} if noise == "unknown" else {"use": noise}
    if _is_section(noise):
        built: Noise = build("noise", noise)
        return built
    raise UserError(
        f"noise: {type(noise).__name__} is no noise; allowed: a standard deviation such as 0.05, a list or a map of "
        "them, 'unknown', a section such as {'use': 'poisson'}, or a noise model"
    )


def as_operator(
    operator: Any,
    build: Callable[..., Any],
    shape: Shape,
    device: torch.device,
    *,
    noise: Any = None,
    adjoint: Callable[[Tensor], Tensor] | None = None,
    linear: bool = False,
    seed: int = 0,
) -> Operator:
    """Return an operator: itself, built from its section or name by `build`, or a function.

    Raises:
        UserError: it is none of these, cannot be used, or its noise is not known.
    """
    if isinstance(operator, str):
        operator = {"use": operator}
    if isinstance(operator, Operator) or _is_section(operator):
        if adjoint is not None or linear:
            raise UserError("adjoint and linear belong to an operator that is a function")
        if not isinstance(operator, Operator):
            operator = build("operator", operator, shape=shape, seed=seed, device=device)
        if noise is not None:
            operator = with_noise(operator, as_noise(noise, build))
        found: Operator = operator
        return found
    if not callable(operator):
        raise UserError(
            f"operator: {type(operator).__name__} is no operator; allowed: a function of images [B, C, H, W], an "
            "operator, a list of operators, a section or a name"
        )
    if noise is None:
        raise UserError("noise is missing: its standard deviation in the units of y, such as noise=0.05")
    label, function = called(operator, "operator"), cast("Any", operator)
    model = as_noise(noise, build)
    made = make_operator(function, shape, model, linear=linear, adjoint=adjoint, label=label, device=device)
    return made if model.unknown is None else with_noise(made, model)


def as_array(y: Any, device: torch.device | None = None) -> Tensor:
    """Return a measurement as a tensor of real numbers: a tensor in its own precision, anything else in single.

    Raises:
        UserError: it holds no real numbers.
    """
    if not isinstance(y, Tensor):
        try:
            array = np.asarray(y)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"numbers of type {array.dtype}")
            y = torch.from_numpy(np.array(array, dtype=np.float32))
        except (TypeError, ValueError) as error:
            raise UserError(f"y: {type(y).__name__} is no array of real numbers ({error})") from None
    if y.is_complex():
        raise UserError(
            "y: complex numbers; give real ones, such as torch.view_as_real(y), as the operator does"
        )
    if not y.is_floating_point():
        y = y.float()
    moved: Tensor = y.detach() if device is None else y.detach().to(device)
    return moved


def form_of(operator: Operator, device: torch.device) -> tuple[int, ...] | None:
    """Return the shape of a measurement; None where the operator takes batches of its own size alone."""
    try:
        with torch.no_grad():
            return tuple(operator.forward(torch.zeros(1, *operator.shape, device=device)).shape[1:])
    except (RuntimeError, ValueError, IndexError, UserError):
        return None


def taken(y: Any, operators: Sequence[Operator], device: torch.device) -> Given:
    """Return a measurement, or a batch of them, as the operator has them.

    Args:
        y: an array, a tensor or nested lists.
        operators: one for all, or one for each.
        device: where y is moved.

    Raises:
        UserError: it has another shape, values out of the operator's range, or such as are not finite.
    """
    array = as_array(y, device)
    form = form_of(operators[0], device)
    single = form is not None and tuple(array.shape) == form
    batch = array[None] if single else array
    if form is not None and (tuple(batch.shape[1:]) != form or not len(batch)):
        raise UserError(
            f"y: the shape {list(array.shape)} does not fit; a measurement of this operator is {list(form)}, several "
            f"are {['B', *form]}{_likely(tuple(array.shape), form)}".replace("'B'", "B")
        )
    if len(operators) not in (1, len(batch)):
        many = f"{len(batch)} measurement{'s' * (len(batch) != 1)}"
        raise UserError(f"{many} need one operator, or as many, not {len(operators)}")
    if form is None:
        return Given(batch, single)
    rows = [batch] if len(operators) == 1 else list(torch.split(batch, 1))
    hidden = torch.cat([o.project(torch.ones_like(row)) == 0 for o, row in zip(operators, rows, strict=True)])
    wrong = int((~torch.isfinite(batch) & ~hidden).sum())
    if wrong:
        raise UserError(
            f"y: {wrong} of {batch.numel()} values are infinite or NaN; only those that a mask hides may be"
        )
    if bool(hidden.any()):
        batch = batch.masked_fill(hidden, 0)
    _require_range(batch[~hidden], operators[0], device)
    return Given(batch, single)


def _likely(given: tuple[int, ...], form: tuple[int, ...]) -> str:
    """Return which mistake makes this shape, in words; empty where none is known."""
    last = given[-3:]
    if len(form) == 3 and len(last) == 3 and (last[2], last[0], last[1]) == form:
        return "; the channels are last: np.moveaxis(y, -1, -3)"
    if len(form) == 3 and len(last) == 3 and last == (form[0], form[2], form[1]) and form[1] != form[2]:
        return "; height and width are the other way round"
    if given == form[1:] and form[0] == 1:
        return "; the axis of channels is missing: y[None]"
    if given[1:] == form[1:] and len(form) == 3 and form[0] == 1:
        return "; the axis of channels is missing: y[:, None]"
    if len(form) == 3 and given[-2:] == form[1:]:
        wanted = f"{form[0]} channel{'s' * (form[0] > 1)}"
        return f"; it has {wanted}, y has {given[-3] if len(given) > 2 else 'no axis for them'}"
    return ""


@torch.no_grad()
def _require_range(values: Tensor, operator: Operator, device: torch.device) -> None:
    """Refuse values far from any that images in [-1, 1] give."""
    values = values[:: 1 + len(values) // 1_000_000]
    if not len(values):
        return
    signs = (torch.rand(1, *operator.shape, generator=torch.Generator().manual_seed(0)) < 0.5).to(device)
    clean = [operator.forward(x) for x in (torch.ones_like(signs, dtype=torch.float32), 1.0 - 2.0 * signs)]
    clean.append(operator.forward(-torch.ones_like(signs, dtype=torch.float32)))
    low, high = (float(pick(torch.cat(clean))) for pick in (torch.min, torch.max))
    width = float(operator.noise.std(clean[1]).square().mean().sqrt())
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-12)
    beyond = (values - middle).abs() > FAR * half + 6 * width
    if float(beyond.float().mean()) > BEYOND:
        least, most = float(values.min()), float(values.max())
        hint = ""
        if least >= 0 and low < -0.5:
            white = 255 if most <= 255 else 4095 if most <= 4095 else 65535
            hint = f"; if 0 is black and {white} white, give y / {white / 2:g} - 1"
        raise UserError(
            f"y: values from {least:.3g} to {most:.3g}, but the operator gives {low:.3g} to {high:.3g} for images in "
            f"[-1, 1]{hint}"
        )


def _is_section(what: Any) -> bool:
    from daps_kit.declare import Declared
    from daps_kit.settings import ComponentSettings

    return isinstance(what, Mapping | ComponentSettings | Declared)
