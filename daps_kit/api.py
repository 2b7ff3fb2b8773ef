"""The toolkit from Python: build components from sections as recipes write them, and sample without a recipe.

prior = build("prior", {"use": "embedded"}, device="cpu")
operator = build("operator", {"use": "gaussian_blur", "intensity": 2.0}, shape=(3, 64, 64))
samples = sample(prior, operator, y, runs=4)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from daps_kit.declare import Declared
from daps_kit.errors import UserError, did_you_mean
from daps_kit.settings import KINDS, ComponentSettings, Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from daps_kit.contracts import Kernel, Noise, Operator, Prior, Sampler

__all__ = ["build", "sample"]

Section = Mapping[str, Any] | ComponentSettings | Declared[..., Any]


@overload
def build(
    kind: Literal["operator"],
    section: Section,
    *,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Operator: ...
@overload
def build(
    kind: Literal["prior"],
    section: Section,
    *,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Prior: ...
@overload
def build(kind: Literal["noise"], section: Section) -> Noise: ...
@overload
def build(kind: Literal["kernel"], section: Section) -> Kernel: ...
@overload
def build(kind: Literal["sampler"], section: Section) -> Sampler: ...
def build(
    kind: Kind,
    section: Section,
    *,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Any:
    """Build a component.

    Args:
        kind: "operator", "noise", "prior", "kernel" or "sampler".
        section: its section as in a recipe, `{"use": name, ...}` (paths start from the working folder), settings, or a
            function that was made a component.
        shape: (C, H, W) of the images; operators need it, priors may.
        seed: of what is random in an operator, such as its mask.
        device: where its tensors live.

    Raises:
        UserError: the section is wrong (every problem is listed), or the component does not fit the shape.
    """
    import torch

    if kind not in KINDS:
        raise UserError(f"unknown kind '{kind}'; there are {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    from daps_kit.recipe.sections import read_section

    settings: Any = read_section(kind, section)
    size = None if shape is None else tuple(int(side) for side in shape)
    if size is not None and (len(size) != 3 or min(size) < 1):
        raise UserError(f"shape must be (channels, height, width), not {shape!r}")
    if kind == "operator" and size is None:
        raise UserError(
            "an operator needs shape=(channels, height, width), the size of the images it measures"
        )
    offered = {"shape": size, "seed": seed, "device": torch.device(device)}
    wanted = inspect.signature(settings.build).parameters
    return settings.build(**{name: value for name, value in offered.items() if name in wanted})


def sample(
    prior: Prior,
    operator: Operator | Sequence[Operator],
    y: Tensor,
    *,
    sampler: Section | Sampler | None = None,
    runs: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
) -> Tensor:
    """Draw from the posterior p(x0 | y) of each measurement.

    Args:
        prior: the diffusion prior.
        operator: the forward model, or a list with one for each measurement.
        y: measurements, [B, ...].
        sampler: its section as in a recipe, its settings, or a built sampler; `{"use": "daps"}` where not given.
        runs: independent samples for each measurement.
        seed: of all that is random; sample (b, run) depends on seed, b and run alone.
        batch_size: samples computed at once, all where not given; the result does not depend on it.

    Returns:
        Samples [B, runs, C, H, W] in [-1, 1]. A sample that is lost is NaN, and a warning says why.

    Raises:
        UserError: the sampler's section is wrong, or the numbers of measurements and operators differ.
    """
    import torch

    from daps_kit.contracts import Operator, Sampler
    from daps_kit.failures import told
    from daps_kit.random import stream_seed
    from daps_kit.runs.draw import draw

    if runs < 1 or (batch_size is not None and batch_size < 1):
        raise UserError(f"runs and batch_size must be at least 1, not {runs} and {batch_size}")
    operators = [operator] * len(y) if isinstance(operator, Operator) else list(operator)
    if len(operators) != len(y):
        raise UserError(f"{len(y)} measurements need one operator, or as many, not {len(operators)}")
    if not isinstance(sampler, Sampler):
        sampler = build("sampler", {"use": "daps"} if sampler is None else sampler)
    items = [(b, run) for b in range(len(y)) for run in range(runs)]
    size = batch_size or len(items)
    images: list[Tensor] = []
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        chosen = [operators[b] for b, _ in batch]
        measured = y[torch.tensor([b for b, _ in batch], device=y.device)]
        seeds = [stream_seed(seed, "sampler", b, run) for b, run in batch]
        drawn = draw(sampler, prior, type(chosen[0]).stack(chosen), measured, seeds)
        names = [f"measurement {b}, run {run}" for b, run in batch]
        for line in (*drawn.warnings, *told((*drawn.lost.values(), *drawn.doubts), names)):
            warnings.warn(line, RuntimeWarning, stacklevel=2)
        images.append(drawn.x0)
    joined = torch.cat(images)
    return joined.reshape(len(y), runs, *joined.shape[1:])
