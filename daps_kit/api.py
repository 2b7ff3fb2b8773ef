"""The toolkit from Python: build components from sections as recipes write them, and sample without a recipe.

prior = build("prior", {"use": "embedded"}, device="cpu")
operator = build("operator", {"use": "gaussian_blur", "intensity": 2.0}, shape=(3, 64, 64))
posterior = sample(prior, operator, y, runs=4)
posterior = sample(denoiser, lambda x: 1 - x, y, noise=0.05, shape=(3, 64, 64))
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from daps_kit.declare import Declared
from daps_kit.errors import UserError, did_you_mean
from daps_kit.settings import KINDS, ComponentSettings, Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from daps_kit.contracts import Kernel, Noise, Operator, Prior, Sampler
    from daps_kit.runs.posterior import Posterior

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
    prior: Prior | Section | str | Callable[[Tensor, Tensor], Tensor],
    operator: Operator | Sequence[Operator] | Section | str | Callable[[Tensor], Tensor],
    y: Any,
    *,
    noise: Any = None,
    shape: Sequence[int] | None = None,
    adjoint: Callable[[Tensor], Tensor] | None = None,
    linear: bool = False,
    sampler: Section | Sampler | None = None,
    runs: int = 8,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Draw from the posterior p(x0 | y) of each measurement.

    Args:
        prior: a built prior, its name or section, or a denoiser(x, sigma) that returns E[x0 | x0 + sigma n = x] of
            images [B, C, H, W]; sigma is a 0-d tensor.
        operator: a built operator, or a list with one for each measurement; a name or section; or a function (a
            network) of images [B, C, H, W] in [-1, 1] that returns measurements [B, ...], differentiable by torch.
        y: a measurement, or several with an axis before it: a tensor, an array or nested lists.
        noise: of y: a standard deviation, a map of it, a section such as `{"use": "poisson"}` or a noise model. A
            function needs it; of an operator it takes the place of its own.
        shape: (C, H, W) of the images, where neither prior nor operator says it.
        adjoint: A^T, a function of y [B, ...], of an operator that is a linear function; by autograd where not given.
        linear: whether an operator that is a function is linear, which is tried; samples are then drawn exactly.
        sampler: its section as in a recipe, its settings, or a built sampler; `{"use": "daps"}` where not given.
        runs: independent samples for each measurement.
        seed: of all that is random; sample (b, run) depends on seed, b and run alone.
        batch_size: samples computed at once, all where not given; the result does not depend on it. Those of one
            measurement stay in one batch where the sampler wants them together (`smc`).
        progress: whether to show how far it is; in a notebook where not given.

    Returns:
        The samples, with what there is to say of them; those of one measurement without the axis B where y has none. A
        sample that is lost is NaN, and a warning says why.

    Raises:
        UserError: shapes, values or sections are wrong, or a function cannot be used; the line says which.
    """
    import torch

    from daps_kit import given
    from daps_kit.contracts import Sampler, Step
    from daps_kit.failures import Failure, sample_name, told
    from daps_kit.random import stream_seed
    from daps_kit.runs.cost import mean_cost
    from daps_kit.runs.draw import draw
    from daps_kit.runs.posterior import Posterior
    from daps_kit.runs.progress import RunDisplay, in_notebook

    if runs < 1 or (batch_size is not None and batch_size < 1):
        raise UserError(f"runs and batch_size must be at least 1, not {runs} and {batch_size}")
    device = given.device_of(y, operator, prior)
    several = isinstance(operator, Sequence) and not isinstance(operator, str)
    listed: list[Any] = list(operator) if several else [operator]  # type: ignore[arg-type]
    if not listed:
        raise UserError("operator: the list is empty")
    wanted = shape if shape is not None else getattr(listed[0], "shape", None)
    prior = given.as_prior(prior, build, wanted, device)
    wanted = wanted if wanted is not None else prior.shape
    if wanted is None and adjoint is not None:
        with torch.no_grad():
            back = adjoint(given.as_array(y, device)[None])
        wanted = tuple(back.shape[-3:])
    if wanted is None:
        raise UserError(
            "shape: needed as (channels, height, width); neither the prior nor the operator says it"
        )
    size = given.as_shape(wanted, prior)
    given.try_denoiser(prior, size, device)
    how: dict[str, Any] = {"noise": noise, "adjoint": adjoint, "linear": linear, "seed": seed}
    operators = [given.as_operator(each, build, size, device, **how) for each in listed]
    measured = given.taken(y, operators, device)
    y, count = measured.y, len(measured.y)
    operators = operators * count if len(operators) == 1 else operators
    if not isinstance(sampler, Sampler):
        sampler = build("sampler", {"use": "daps"} if sampler is None else sampler)
    items = [(b, run) for b in range(count) for run in range(runs)]
    batch_size = batch_size or len(items)
    if sampler.together:
        batch_size = max(1, batch_size // runs) * runs

    def stacked(batch: Sequence[tuple[int, int]]) -> tuple[Operator, Tensor]:
        chosen = [operators[b] for b, _ in batch]
        return type(chosen[0]).stack(chosen), y[torch.tensor([b for b, _ in batch], device=y.device)]

    images: list[Tensor] = []
    failures: dict[tuple[int, int], Failure] = {}
    costs = []
    show = in_notebook() if progress is None else progress
    with RunDisplay(quiet=not show) as display:
        display.plan("samples", len(items), 0)
        for start in range(0, len(items), batch_size):
            batch = items[start : start + batch_size]
            joined, ys = stacked(batch)

            def watch(step: Step, joined: Operator = joined, ys: Tensor = ys) -> None:
                @torch.no_grad()
                def residual() -> float:
                    return float(joined.residual(prior.decode(step.x0y), ys).nanmean())

                display.level(step.level, step.levels, step.sigma, residual)

            display.begin(len(batch))
            seeds = [stream_seed(seed, "sampler", b, run) for b, run in batch]
            drawn = draw(sampler, prior, joined, ys, seeds, watch)
            names = [sample_name(f"measurement {b + 1}", run) for b, run in batch]
            if measured.single:
                names = [name.partition(", ")[2] for name in names]
            for line in (*drawn.warnings, *told((*drawn.lost.values(), *drawn.doubts), names)):
                warnings.warn(line, RuntimeWarning, stacklevel=2)
            failures |= {batch[place]: failure for place, failure in drawn.lost.items()}
            images.append(drawn.x0)
            costs.append((drawn.cost, len(batch)))
            display.finish(len(batch))
    x0 = torch.cat(images)

    @torch.no_grad()
    def residuals() -> Tensor:
        found = []
        for start in range(0, len(items), batch_size):
            joined, ys = stacked(items[start : start + batch_size])
            found.append(joined.residual(x0[start : start + batch_size], ys))
        return torch.cat(found).reshape(count, runs)

    @torch.no_grad()
    def pictures() -> Tensor:
        joined, ys = stacked([(b, 0) for b in range(count)])
        return joined.to_image(ys)

    return Posterior(
        x0.reshape(count, runs, *x0.shape[1:]),
        y,
        residuals=residuals,
        pictures=pictures,
        failures=failures,
        cost=mean_cost(costs),
        single=measured.single,
    )
