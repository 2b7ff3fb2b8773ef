r"""Is a measurement of the user's own one that the operator gives for images in [-1, 1]?

Nothing is sampled for this. It is held against

    what can never be         as the operator says it (`Operator.contradiction`): customs of transforms, reversed masks
    the range of A(x)         for black, white, random and smooth images x
    the scatter of neighbours the second differences Ly of rows and columns have at least the variance that the noise
                              gives them: the median of |Ly|, against that of noise drawn for it
    regions of one value      of which noise leaves none; nor zeros where a mask shows something
    the true image            where it is known: its residual is about 1

What no image gives is refused; what is only unlikely is a doubt, which a run passes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from daps_kit.contracts import Operator, RandomStreams
from daps_kit.errors import UserError

__all__ = ["Doubt", "doubts", "require_possible"]

BEYOND = 0.01
"""The share of a measurement that may lie out of the range of the operator: outliers, dead pixels."""
PATCH = 5
"""Side of the patches of one value that count as a region."""
_TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "turned upside down, row by row": lambda y: y.flip(-2),
    "mirrored from left to right": lambda y: y.flip(-1),
    "turned by 180 degrees": lambda y: y.flip(-1, -2),
    "turned by 90 degrees to the left": lambda y: y.rot90(1, (-2, -1)),
    "turned by 90 degrees to the right": lambda y: y.rot90(-1, (-2, -1)),
    "given its rows as columns": lambda y: y.mT,
    "given its channels the other way round": lambda y: y.flip(-3),
    "made a positive of, from black to white": lambda y: -y,
}
"""What files of other programs often need, in words."""


@dataclass(frozen=True)
class Doubt:
    """What speaks against a measurement.

    Attributes:
        kind: a word for it; of many measurements with one kind of doubt, one is told in full.
        text: what it is, and which setting mends it.
    """

    kind: str
    text: str


@lru_cache(maxsize=4)
@torch.no_grad()
def _range(operator: Operator) -> tuple[float, float]:
    """Return the least and the largest of A(x) over black, white, random and smooth images x."""
    draws = torch.Generator().manual_seed(0)
    noise = 2 * torch.rand(1, *operator.shape, generator=draws) - 1
    smooth = F.avg_pool2d(noise, 3, 1, 1) * 3
    low, high = math.inf, -math.inf
    device = torch.device("cpu") if operator.observed is None else operator.observed.device
    for x in (torch.full_like(noise, -1), torch.full_like(noise, 1), noise.sign(), smooth.clamp(-1, 1)):
        clean = operator.forward(x.to(device))
        low, high = min(low, float(clean.min())), max(high, float(clean.max()))
    return low, high


def require_possible(operator: Operator, y: Tensor) -> None:
    """Refuse a measurement that no image in [-1, 1] has.

    Args:
        operator: on the device of y.
        y: the measurement as it was given, [...]; entries that are hidden may be anything.

    Raises:
        UserError: it is on another scale or of another custom; the text names the likely mistake and the setting.
    """
    if problem := operator.contradiction(y[None]):
        raise UserError(problem)


@torch.no_grad()
def doubts(operator: Operator, y: Tensor, truth: Tensor | None, conventions: str = "") -> Iterator[Doubt]:
    """Yield what speaks against a measurement.

    Args:
        operator: on the device of y and truth.
        y: the measurement, [...]; entries that are hidden are zero.
        truth: the true image [C, H, W], where it is known.
        conventions: what the operator measures, in words.

    Raises:
        UserError: y lies far out of the range of the operator.
    """
    seen = operator.project(torch.ones_like(y[None]))[0] > 0
    values = y[seen]
    values = values[:: 1 + len(values) // 1_000_000]
    if not len(values):
        return
    if len(values) > 1 and bool((values == values[0]).all()):
        yield Doubt("empty", f"all of it is {float(values[0]) + 0.0:.3g}: nothing was measured")
        return
    low, high = _range(operator)
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-12)
    sd = operator.noise.std(y[None])[0]
    typical = float(sd[seen].square().mean().sqrt())
    beyond = [
        float(((values - middle).abs() > factor * half + 6 * typical).float().mean()) > BEYOND
        for factor in (3, 1.25)
    ]
    if any(beyond):
        text = (
            f"values from {_short(values.min())} to {_short(values.max())}, but the operator gives "
            f"{low:.3g} to {high:.3g} for images in [-1, 1]{_scale(values, operator)}"
        )
        if beyond[0]:
            raise UserError(f"{text}. {conventions}".strip())
        yield Doubt("range", text)
        return
    if operator.observed is not None and not operator.noise.exact and (share := _zeros(values)):
        yield Doubt(
            "mask",
            f"{100 * share:.2g} % of what the mask shows are exactly 0, and noise leaves none: likely another mask "
            "than that of the measurement, or shifted",
        )
        return
    told = list(_by_truth(operator, y, truth, typical, conventions)) if truth is not None else []
    if truth is not None and not told:
        return
    scatter = _scatter(operator, y, seen)
    if low < -0.5 * half and (found := _one_sided(values, high, typical, scatter)):
        yield found
    elif told:
        yield from told
    elif scatter is not None and scatter < 0.7 and not operator.noise.exact:
        yield Doubt(
            "scatter",
            f"neighbours scatter as noise of at most {scatter * typical:.2g} would, but operator.noise says "
            f"{typical:.2g}: state less noise, or see whether the measurement is on another scale",
        )
    if not operator.noise.exact and (region := _empty(operator, y, seen)):
        share, value = region
        yield Doubt(
            "empty",
            f"{100 * share:.2g} % of it, in whole regions, have the single value {value:.3g}, which noise does not "
            "leave: where nothing was measured, a mask must hide it (operator inpainting, mask)",
        )


def _short(value: Tensor) -> str:
    return f"{float(value):.3g}"


def _scale(values: Tensor, operator: Operator) -> str:
    """Return which white level would explain values out of range, in words."""
    peak = getattr(operator.noise, "peak", None)
    low, high = float(values.quantile(0.001)), float(values.quantile(0.999))
    if low < -0.15 * high:
        return "; it is on another scale"
    whites = [1.0, 255.0, 4095.0, 65535.0, *([peak] if isinstance(peak, float) else [])]
    white = min(whites, key=lambda white: abs(math.log(high / white)))
    if white == peak:
        return (
            f"; if these are counts, say what means white: data.white_level: {peak:g}, the peak of the noise"
        )
    return f"; if black is 0 and white {white:.0f}, say data.white_level: {white:.0f}"


def _by_truth(
    operator: Operator, y: Tensor, truth: Tensor, typical: float, conventions: str
) -> Iterator[Doubt]:
    """Yield what the residual of the true image says, unless it is small enough for a truth of 8 bits."""
    residual = float(operator.residual(truth[None], y[None]))
    error = residual * typical
    if residual > 2 and error > 8 * _of_a_level(operator, truth):
        turned = [
            words
            for words, turn in _TURNS.items()
            if y.ndim == 3
            and (other := turn(y)).shape == y.shape
            and float(operator.residual(truth[None], operator.project(other[None]))) < min(1.5, residual / 2)
        ]
        likely = f"it fits once the measurement is {turned[0]}" if turned else ""
        yield Doubt(
            "truth",
            f"the true image has a residual of {residual:.3g} standard deviations of the noise, where 1 is expected: "
            + (
                likely
                or "the measurement is on another scale or of another custom than the operator's. "
                f"{conventions}".strip()
            ),
        )
    elif residual < 0.5 and not operator.noise.exact:
        yield Doubt(
            "truth",
            f"the true image has a residual of {residual:.2g} standard deviations of the noise, where 1 is expected: "
            "operator.noise says too much",
        )


def _of_a_level(operator: Operator, x: Tensor) -> float:
    """Return how much, root mean square, A(x) changes where x is rounded to 8 bits."""
    draws = torch.Generator().manual_seed(0)
    rounding = ((2 * torch.rand(x.shape, generator=draws) - 1) / 255).to(x.device)
    change = operator.forward((x + rounding)[None]) - operator.forward(x[None])
    return float(change.square().mean().sqrt())


def _drawn(operator: Operator, y: Tensor) -> Tensor:
    """Return noise as the operator's model scatters around a measurement [...]."""
    return operator.noise.sample(y[None], RandomStreams([0], y.device))[0] - y


def _differences(y: Tensor, seen: Tensor) -> Tensor:
    """Return the second differences along rows and columns of the pixels that are seen with their neighbours."""
    kernel = y.new_tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    flat, mask = (t.reshape(-1, 1, *t.shape[-2:]).float() for t in (y, seen))
    whole = F.conv2d(mask, torch.ones_like(kernel)) > 8.5
    if int(whole.sum()) >= 200:
        return F.conv2d(flat, kernel)[whole]
    pairs = [
        flat.diff(dim=axis)[
            mask.narrow(axis, 1, mask.shape[axis] - 1).bool()
            & mask.narrow(axis, 0, mask.shape[axis] - 1).bool()
        ]
        for axis in (-2, -1)
    ]
    return torch.cat(pairs)


def _scatter(operator: Operator, y: Tensor, seen: Tensor) -> float | None:
    """Return how much neighbours differ, in units of what the noise alone makes of it; None where nothing is known."""
    if y.ndim < 3 or min(y.shape[-2:]) < 4:
        return None
    seen = seen & (y > y[seen].min()) & (y < y[seen].max())  # a picture is clipped there
    found, expected = (_differences(t, seen).abs() for t in (y, _drawn(operator, y)))
    if len(found) < 200 or not float(expected.median()) > 0:
        return None
    return float(found.median() / expected.median())


def _one_sided(values: Tensor, high: float, typical: float, scatter: float | None) -> Doubt | None:
    """Doubt a measurement without negative numbers, of an operator that gives them."""
    darkest, brightest = float(values.quantile(0.002)), float(values.quantile(0.998))
    # Near 0 the noise would have left negative numbers.
    folded = float(values.min()) >= 0 and float((values < min(typical, 0.1)).float().mean()) > 0.01
    if not -min(3 * typical, 0.15) - 0.01 <= darkest <= 0.12:
        return None
    if brightest > high + 4 * typical:
        return Doubt(
            "range",
            f"no negative numbers (from {darkest:.2g} to {brightest:.2g}), and brighter ones than the operator gives "
            "for images in [-1, 1]: if black is 0, say data.white_level, the number that means white",
        )
    dark = float((values < 0.1 + min(2 * typical, 0.1)).float().mean()) > 0.02
    as_stated = scatter is not None and 0.9 < scatter < 1.15  # so the scale is right, and the image bright
    if not folded and not (scatter is not None and scatter < 0.85) and (as_stated or not dark):
        return None
    return Doubt(
        "range",
        f"no negative numbers (from {darkest:.2g} to {brightest:.2g}), but the operator gives them for images in "
        "[-1, 1]: if it is on [0, 1], say data.white_level: 1; magnitudes do not belong here",
    )


def _zeros(values: Tensor) -> float:
    """Return the share of zeros among numbers that are else all different, as noise makes them; 0 for rounded ones."""
    other = values[values != 0]
    share = 1 - len(other) / len(values)
    return share if share > 0.002 and len(torch.unique(other)) > 0.9 * len(other) else 0.0


def _empty(operator: Operator, y: Tensor, seen: Tensor) -> tuple[float, float] | None:
    """Return the share and the value of regions of one value, more than the noise would leave; None where none are."""
    if y.ndim < 3 or min(y.shape[-2:]) <= PATCH:
        return None
    levels = torch.unique(y[seen])
    step = float(levels.diff().min()) if 1 < len(levels) < 70000 else 0.0
    noisy = (y + _drawn(operator, y)).clamp(float(y[seen].min()), float(y[seen].max()))
    noisy = (noisy / step).round() * step if step > 1e-6 else noisy
    found, expected = (_regions(t, seen) for t in (y, noisy))
    share = float(found.float().mean())
    if share < 0.005 or float(expected.float().mean()) > share / 4:
        return None
    return share, float(y[found].median()) + 0.0


def _regions(y: Tensor, seen: Tensor) -> Tensor:
    """Return which pixels lie in a patch that is seen and has one value in each channel."""
    shown = y.masked_fill(~seen, torch.nan).reshape(1, -1, *y.shape[-2:])
    top, bottom = F.max_pool2d(shown, PATCH, 1), -F.max_pool2d(-shown, PATCH, 1)
    flat = (top == bottom).all(1, keepdim=True).float()
    inside = F.max_pool2d(F.pad(flat, (PATCH - 1,) * 4), PATCH, 1) > 0
    return inside.expand(1, shown.shape[1], *y.shape[-2:]).reshape(y.shape)
