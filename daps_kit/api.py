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
    from daps_kit.runs.sampling import Measured
    from daps_kit.runs.stein import ScoreKSD

__all__ = ["build", "sample", "score_ksd"]

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
    from daps_kit.contracts import Sampler
    from daps_kit.runs.progress import in_notebook
    from daps_kit.runs.sampling import sample_all

    if runs < 1 or (batch_size is not None and batch_size < 1):
        raise UserError(f"runs and batch_size must be at least 1, not {runs} and {batch_size}")
    prior, measured = _problem(prior, operator, y, shape, noise, adjoint, linear, seed)
    if not isinstance(sampler, Sampler):
        sampler = build("sampler", {"use": "daps"} if sampler is None else sampler)
    quiet = not (in_notebook() if progress is None else progress)
    return sample_all(sampler, prior, measured, runs, seed, batch_size, quiet=quiet)


def score_ksd(
    prior: Prior | Section | str | Callable[[Tensor, Tensor], Tensor],
    operator: Operator | Sequence[Operator] | Section | str | Callable[[Tensor], Tensor],
    y: Any,
    samples: Any,
    *,
    noise: Any = None,
    adjoint: Callable[[Tensor], Tensor] | None = None,
    linear: bool = False,
    sigma: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> ScoreKSD:
    """Return how far samples of each measurement are from p(x0 | y), by the score of the posterior, without a truth.

    It takes one network call a sample. The formulas are those of `daps_kit.runs.stein`, after Qiu et al., arXiv
    2602.04189; what it sees and what it does not is told in docs/calibration.md.

    Args:
        prior, operator, y, noise, adjoint, linear: as in `sample`.
        samples: what `sample` returned, or [B, runs, C, H, W] in [-1, 1], runs > 1; without B where y has none. Those
            that hold NaN are left out.
        sigma: the noise that samples are given before they are judged; 0.4 of that of y where not given, within the
            prior's range. Numbers are comparable for one sigma.
        seed: of this noise, and of what is random in an operator that is built here.
        batch_size: samples that the prior takes at once, all of a measurement where not given.

    Returns:
        `squared`, KSD^2, `z`, the same in standard deviations of chance, and `spread`, the variance of the samples in
        parts of the posterior's: [B] each, or a number where y has no B. NaN where fewer than two samples are left.

    Raises:
        UserError: shapes, values or sections are wrong, the prior is latent, or the operator has unknown numbers.
    """
    import torch

    from daps_kit.given import as_array
    from daps_kit.runs import stein

    x = as_array(getattr(samples, "samples", samples))
    if x.ndim not in (4, 5) or x.shape[-4] < 2:
        raise UserError(
            f"samples must be [runs, C, H, W] with 2 runs or more, or several, not {list(x.shape)}"
        )
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    prior, measured = _problem(prior, operator, y, x.shape[-3:], noise, adjoint, linear, seed)
    count = len(measured.y)
    if x.ndim != (4 if measured.single else 5) or (x.ndim == 5 and len(x) != count):
        wanted = "one measurement without B" if measured.single else f"{count} measurements with B"
        raise UserError(f"samples: the shape {list(x.shape)} does not fit {wanted}")
    if prior.latent:
        raise UserError("score_ksd needs a prior over pixels; the score of a latent is of no image")
    low, high = prior.sigma_range
    if sigma is not None and not (sigma > 0 and low <= sigma <= high):
        raise UserError(
            f"sigma: {sigma} is no noise level of the prior; it must be above 0, from {low:g} to {high:g}"
        )
    if any(each.parameters is not None for each in measured.operators):
        raise UserError("score_ksd: the operator has unknown numbers; give one that has their values")
    found = []
    for operator, one, each in zip(
        measured.operators, measured.y, x if x.ndim == 5 else x[None], strict=True
    ):
        alive = each[torch.isfinite(each).flatten(1).all(1)].to(one.device)
        if len(alive) < 2:
            found.append(torch.full((3,), torch.nan, dtype=torch.float64))
        else:
            judged = stein.score_ksd(prior, operator, one, alive, sigma, seed=seed, batch_size=batch_size)
            found.append(torch.stack(judged).cpu())
    columns = torch.stack(found, 1)
    return stein.ScoreKSD(*(columns[:, 0] if measured.single else columns))


def _problem(
    prior: Any,
    operator: Any,
    y: Any,
    shape: Sequence[int] | None,
    noise: Any,
    adjoint: Callable[[Tensor], Tensor] | None,
    linear: bool,
    seed: int,
) -> tuple[Prior, Measured]:
    """Return what people give in many forms, see `sample`: the prior, and measurements with an operator for each.

    Raises:
        UserError: as in `sample`.
    """
    from daps_kit import given
    from daps_kit.runs.sampling import Measured

    device = given.device_of(y, operator, prior)
    several = isinstance(operator, Sequence) and not isinstance(operator, str)
    listed: list[Any] = list(operator) if several else [operator]
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
    return prior, Measured(operators, taken.y, taken.single)
