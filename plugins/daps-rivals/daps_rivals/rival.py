"""What the samplers of this package share: what they ask of a problem, and how they report.

A sampler is a class with a method `levels` that yields its `Level`s; all that is not in its paper is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.contracts import (
    KernelInfo,
    LinearOperator,
    Operator,
    Prior,
    RandomStreams,
    Sampler,
    Step,
)
from daps_kit.failures import Failure

from .spectrum import Spectrum
from .vp import Time

__all__ = ["Level", "Problem", "Rival"]


@dataclass(frozen=True)
class Level:
    """A level of a sampler.

    Attributes:
        level, levels: index, from 0, and how many there are.
        sigma: noise level of x_t.
        x_t: x0 + sigma n, [B, C, H, W].
        x0hat: the prior's guess.
        x0y: the best guess given y; that of the last level is the sample.
    """

    level: int
    levels: int
    sigma: float
    x_t: Tensor
    x0hat: Tensor
    x0y: Tensor


@dataclass(frozen=True)
class Problem:
    """What a sampler is given."""

    prior: Prior
    operator: Operator
    y: Tensor
    streams: RandomStreams

    @property
    def linear(self) -> LinearOperator:
        """The operator, of a sampler that needs a linear one."""
        assert isinstance(self.operator, LinearOperator)
        return self.operator

    @property
    def variance(self) -> float:
        """sigma_y^2."""
        return self.operator.noise.dispersion

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the images."""
        return self.y.dtype if self.y.is_floating_point() else torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """Of x0, without the batch."""
        return self.prior.state_shape(self.operator.shape)

    def noise(self, particles: int | None = None) -> Tensor:
        """Draw n ~ N(0, I), [B, C, H, W], or [B, particles, C, H, W]."""
        return self.streams.normal(self.shape if particles is None else (particles, *self.shape), self.dtype)

    def zeros(self) -> Tensor:
        """Return zeros, [B, C, H, W]."""
        return torch.zeros((len(self.y), *self.shape), dtype=self.dtype, device=self.y.device)

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: Time) -> Tensor:
        """Return x0hat = E[x0 | x_t] of a variance-preserving x_t."""
        return self.prior.denoise(x_t / t.a, t.sigma)

    def denoise_vjp(self, x_t: Tensor, t: Time) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return x0hat and v -> (d x0hat / d x_t)^T v."""
        with torch.enable_grad():
            leaf = x_t.detach().requires_grad_()
            x0hat = self.prior.denoise(leaf / t.a, t.sigma)

        def pull_back(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(x0hat, leaf, v, retain_graph=True)
            return product

        return x0hat.detach(), pull_back

    def residual(self, x: Tensor) -> Tensor:
        """Return y - A(x), zero where nothing is measured."""
        return self.operator.project(self.y - self.operator.forward(x))

    def level(self, i: int, levels: int, t: Time, x_t: Tensor, x0hat: Tensor, x0y: Tensor) -> Level:
        """Return a level of a variance-preserving x_t."""
        return Level(i, levels, t.sigma, x_t / t.a, x0hat, x0y)


class Rival(Sampler):
    """A sampler of this package.

    Attributes:
        name: what users call it.
        needs_linear, needs_gaussian: whether operators have to be linear, noise Gaussian and the same everywhere.
        needs_spectrum: whether the singular values of the operator are needed.
        takes_latents: whether the prior may be latent.
    """

    name: str
    needs_linear: bool = False
    needs_gaussian: bool = False
    needs_spectrum: bool = False
    takes_latents: bool = False

    def refusal(self, prior: Prior, operator: Operator) -> str:
        """Return why it cannot sample with this prior and this operator; empty if it can."""
        if prior.latent and not self.takes_latents:
            return f"{self.name} works on pixels, and the prior is latent; allowed: priors over images"
        if self.needs_linear and not isinstance(operator, LinearOperator):
            return f"{self.name} needs a linear operator, and {type(operator).__name__} is not one"
        noise = operator.noise
        probe = torch.zeros(1)
        if self.needs_gaussian and not (noise.gaussian and isinstance(noise.curvature(probe, probe), float)):
            return f"{self.name} needs Gaussian noise of one standard deviation, and this is {type(noise).__name__}"
        if self.needs_spectrum and isinstance(operator, LinearOperator):
            return Spectrum.refusal(self.name, operator)
        return ""

    @abstractmethod
    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        """Yield one Step a level; the x0y of the last is the sample. A sample that becomes NaN is lost.

        Raises:
            ValueError: the number of streams is not that of the measurements.
        """
        if len(streams) != len(y):
            raise ValueError(f"{len(y)} measurements need as many random streams, got {len(streams)}")
        lost = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        with torch.no_grad():
            for at in self.levels(Problem(prior, operator, y, streams)):
                failed = lost | ~torch.isfinite(at.x0y).flatten(1).all(1)
                blind = ~torch.isfinite(at.x0hat).flatten(1).all(1)
                x0y = torch.where(failed.reshape(-1, 1, 1, 1), torch.nan, at.x0y)
                failures = tuple(
                    Failure(b, at.level, at.levels, at.sigma, "nan", self._advice(prior, bool(blind[b])))
                    for b in (failed & ~lost).nonzero().flatten().tolist()
                )
                lost = failed
                yield Step(
                    at.level, at.levels, at.sigma, at.x_t, at.x0hat, x0y, failed, KernelInfo(), failures=failures
                )  # fmt: skip

    def _advice(self, prior: Prior, blind: bool) -> str:
        return prior.nan_advice if blind else f"look at the measurement and at the settings of {self.name}"
