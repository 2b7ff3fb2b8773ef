"""The toolkit from Python: build components from sections as recipes write them, and sample without a recipe.

prior = build("prior", {"use": "embedded"}, device="cpu")
operator = build("operator", {"use": "gaussian_blur", "intensity": 2.0}, shape=(3, 64, 64))
posterior = sample(prior, operator, y, runs=4)
posterior = sample(denoiser, lambda x: 1 - x, y, noise=0.05, shape=(3, 64, 64))
"""

from __future__ import annotations

import inspect
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
    if kind == "operator" and size is not None:
        from daps_kit.parameters import build_operator

        return build_operator(
            settings, shape=(size[0], size[1], size[2]), seed=seed, device=torch.device(device)
        )
    if kind == "noise":
        from daps_kit.parameters import build_noise

        return build_noise(settings)
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
        noise: of y: a standard deviation (0 where there is none), a map of it, a section such as
            `{"use": "poisson"}` or a noise model. A function needs it; of an operator it takes the place of its own.
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
    from daps_kit import given
    from daps_kit.contracts import Sampler
    from daps_kit.runs.progress import in_notebook
    from daps_kit.runs.sampling import Measured, sample_all

    if runs < 1 or (batch_size is not None and batch_size < 1):
        raise UserError(f"runs and batch_size must be at least 1, not {runs} and {batch_size}")
    device = given.device_of(y, operator, prior)
    several = isinstance(operator, Sequence) and not isinstance(operator, str)
    listed: list[Any] = list(operator) if several else [operator]  # type: ignore[arg-type]
    if not listed:
        raise UserError("operator: the list is empty")
    wanted = shape if shape is not None else getattr(listed[0], "shape", None)
    prior = given.as_prior(prior, build, wanted, device)
    size = given.size_of(wanted, prior, adjoint, y, device)
    given.try_denoiser(prior, size, device)
    how: dict[str, Any] = {"noise": noise, "adjoint": adjoint, "linear": linear, "seed": seed}
    operators = [given.as_operator(each, build, size, device, **how) for each in listed]
    taken = given.taken(y, operators, device)
    operators = operators * len(taken.y) if len(operators) == 1 else operators
    if not isinstance(sampler, Sampler):
        sampler = build("sampler", {"use": "daps"} if sampler is None else sampler)
    measured = Measured(operators, taken.y, taken.single)
    quiet = not (in_notebook() if progress is None else progress)
    return sample_all(sampler, prior, measured, runs, seed, batch_size, quiet=quiet)
