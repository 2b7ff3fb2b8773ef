r"""Functions of Python as components: a forward model, a denoiser, the distribution of a measurement.

They are tried when they are built: on two random images together and each alone, so that what mixes the images of a
batch, draws anew at each call or cannot be differentiated is told before anything is sampled. What is said to be linear
is tried with random vectors x, z and u,

    A(2 x - z / 2) = 2 A x - A z / 2,        <A x, u> = <x, A^T u>.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from daps_kit.contracts import LinearOperator, Operator, Prior
from daps_kit.errors import UserError, text_of
from daps_kit.linalg import inner
from daps_kit.noise import Noise
from daps_kit.random import RandomStreams
from daps_kit.shape import Shape

__all__ = [
    "DistributionNoise",
    "FunctionOperator",
    "FunctionPrior",
    "LinearFunctionOperator",
    "make_operator",
]

CLOSE = 1e-3
"""Relative error that is allowed in single precision."""

SMALL = 1e-9
"""Probability below which a difference of two distribution functions is not to be trusted."""


def frozen(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose results are constant in its own parameters, where it is a network."""
    if not isinstance(function, nn.Module):
        return function
    module = function

    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return functional_call(module, {key: t.detach() for key, t in tensors.items()}, args, kwargs)

    return call


class FunctionOperator(Operator):
    """A forward model that is a function.

    Args:
        function: returns A(x) [B, ...] of images x [B, C, H, W]; differentiable by torch.
        shape: (C, H, W) of the images.
        noise: of the measurements.
        label: what errors call it.
        multimodal, black: see `Operator`.

    Raises:
        UserError: it does not take batches of images, mixes them, draws anew at each call, or is not differentiable.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        shape: Shape,
        noise: Noise,
        *,
        label: str,
        device: torch.device | str = "cpu",
        multimodal: bool = False,
        black: float = -1.0,
    ) -> None:
        self.multimodal, self.black = multimodal, black
        super().__init__(shape, noise)
        self.function, self.label = frozen(function), label
        self._try(torch.device(device))

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x."""
        result: Tensor = self.function(x)
        return result

    def to_image(self, y: Tensor) -> Tensor:
        """Return y itself, clipped, where it is a picture; else its values in a rectangle, from least to largest."""
        if y.ndim == 4 and y.shape[1] in (1, 3):
            return y.clamp(-1, 1)
        if y.ndim == 4:
            flat = y.mean(1, keepdim=True)
        else:
            values = y.flatten(1)
            width = math.ceil(math.sqrt(values.shape[1]))
            flat = nn.functional.pad(values, (0, -values.shape[1] % width)).reshape(len(y), 1, -1, width)
        low, high = flat.amin((1, 2, 3), keepdim=True), flat.amax((1, 2, 3), keepdim=True)
        return 2 * (flat - low) / (high - low).clamp_min(torch.finfo(flat.dtype).tiny) - 1

    # --- trying it

    def _random(self, count: int, seed: int, device: torch.device) -> Tensor:
        return RandomStreams(range(seed, seed + count), "cpu").normal(self.shape).to(device)

    def _try(self, device: torch.device) -> None:
        x = (self._random(2, 0, device) / 2).tanh()
        form = list(x.shape)
        with torch.no_grad():
            y = self._called(x)
        if not isinstance(y, Tensor):
            raise UserError(
                f"{self.label}: returned {type(y).__name__} for images {form}; it has to return a tensor"
            )
        if y.ndim < 2 or len(y) != 2:
            raise UserError(
                f"{self.label}: returned the shape {list(y.shape)} for 2 images {form}; it takes a batch of images "
                "[B, C, H, W] and returns as many measurements [B, ...]"
            )
        if not y.is_floating_point():
            hint = "; torch.view_as_real makes real numbers of complex ones" if y.is_complex() else ""
            raise UserError(f"{self.label}: returned numbers of type {y.dtype}, not real ones{hint}")
        if y.dtype != x.dtype or y.device != x.device:
            raise UserError(
                f"{self.label}: returned {y.dtype} on {y.device} for images of {x.dtype} on {x.device}; it has to keep "
                "both"
            )
        if not bool(torch.isfinite(y).all()):
            raise UserError(f"{self.label}: returned numbers that are not finite for images in [-1, 1]")
        with torch.no_grad():
            again, alone = self._called(x), torch.cat([self._called(row) for row in torch.split(x, 1)])
        if not _near(again, y):
            raise UserError(
                f"{self.label}: two calls with the same images differ; it must draw nothing (a network has to be in "
                "eval mode)"
            )
        if alone.shape != y.shape or not _near(alone, y):
            raise UserError(
                f"{self.label}: an image gives something else alone than in a batch; it must not mix them"
            )
        self._try_derivative(x, y)

    def _called(self, x: Tensor) -> Any:
        try:
            return self.forward(x)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # whatever a stranger's function raises
            raise UserError(
                f"{self.label}: failed on images {list(x.shape)} in [-1, 1]: {type(error).__name__}: {text_of(error)}"
            ) from error

    def _try_derivative(self, x: Tensor, y: Tensor) -> None:
        with torch.enable_grad():
            result = self._called(x.clone().requires_grad_())
        if not result.requires_grad:
            raise UserError(
                f"{self.label}: cannot be differentiated; write it with functions of torch, or, if it is linear, give "
                "linear=True and its adjoint"
            )


class LinearFunctionOperator(FunctionOperator, LinearOperator):
    """A linear forward model that is a function.

    Args:
        function: returns A x.
        adjoint: returns A^T y; by autograd where not given.
        args, options: see `FunctionOperator`.

    Raises:
        UserError: as `FunctionOperator`; or it is not linear, or the adjoint is not its adjoint.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *args: Any,
        adjoint: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        self._adjoint = None if adjoint is None else frozen(adjoint)
        super().__init__(function, *args, **options)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y."""
        return super().adjoint(y) if self._adjoint is None else self._adjoint(y)

    def _try_derivative(self, x: Tensor, y: Tensor) -> None:
        if self._adjoint is None:
            super()._try_derivative(x, y)
        x, z = 3 * self._random(2, 2, x.device), 3 * self._random(2, 4, x.device)
        with torch.no_grad():
            ax, az = self._called(x), self._called(z)
            off = _error(self._called(2 * x - z / 2), 2 * ax - az / 2)
        if off > CLOSE:
            raise UserError(
                f"{self.label}: is said to be linear, but A(2 x - z / 2) and 2 A x - A z / 2 differ by {off:.2g} of "
                "their size for random x and z; leave out linear=True"
            )
        u = RandomStreams([6, 7]).normal(y.shape[1:]).to(y)
        with torch.no_grad():
            back = self.adjoint(u)
        if not isinstance(back, Tensor) or back.shape != x.shape:
            form = list(back.shape) if isinstance(back, Tensor) else type(back).__name__
            raise UserError(
                f"{self.label}: its adjoint returned {form} for 2 measurements, not images {list(x.shape)}"
            )
        left, right = inner(ax, u), inner(x, back)
        scale = (inner(ax, ax) * inner(u, u)).sqrt() + (inner(x, x) * inner(back, back)).sqrt()
        off = float(((left - right).abs() / scale.clamp_min(1e-30)).max())
        if off > CLOSE:
            raise UserError(
                f"{self.label}: its adjoint is not the adjoint: <A x, u> = {float(left[0]):.5g} and <x, A^T u> = "
                f"{float(right[0]):.5g} for random x and u"
            )


def make_operator(
    function: Callable[[Tensor], Tensor],
    shape: Shape,
    noise: Noise,
    *,
    linear: bool = False,
    adjoint: Callable[[Tensor], Tensor] | None = None,
    **options: Any,
) -> Operator:
    """Return a function as an operator; one that has an adjoint is linear.

    Raises:
        UserError: see `FunctionOperator` and `LinearFunctionOperator`.
    """
    if linear or adjoint is not None:
        return LinearFunctionOperator(function, shape, noise, adjoint=adjoint, **options)
    return FunctionOperator(function, shape, noise, **options)


class FunctionPrior(Prior):
    """A prior whose denoiser is a function.

    Args:
        function: returns E[x0 | x0 + sigma n = x] [B, ...] of noisy images x [B, ...] and sigma, a positive 0-d tensor.
        label: what errors call it.
        shape, channels, sigma_range: see `Prior`.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        *,
        label: str,
        shape: Sequence[int] | None = None,
        channels: int | None = None,
        sigma_range: tuple[float, float] = (0.0, float("inf")),
    ) -> None:
        self.function, self.label = frozen(function), label
        self.channels, self.sigma_range = channels, (float(sigma_range[0]), float(sigma_range[1]))
        if shape is not None:
            count, height, width = shape
            self.shape = (count, height, width)
        self.nan_advice = f"look at what {label} returns"

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return the function of x and sigma; with different sigmas in a batch it is called for each of them."""
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if levels.ndim == 0 or bool((levels == levels[0]).all()):
            return self._called(x, levels if levels.ndim == 0 else levels[0])
        rows = zip(torch.split(x, 1), levels.unbind(), strict=True)
        return torch.cat([self._called(row, level) for row, level in rows])

    def _called(self, x: Tensor, sigma: Tensor) -> Tensor:
        found = self.function(x, sigma)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            form = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"{self.label}: returned {form} for noisy images {list(x.shape)}; a denoiser keeps the shape"
            )
        return found


class DistributionNoise(Noise):
    """Noise of which a function gives the distribution of y.

    Args:
        function: returns a distribution, independent in each element, of clean measurements [B, ...].
        label: what errors call it.

    A distribution that knows its quantiles is drawn by them from the streams of uniform numbers, another by its own
    `sample`, with torch's random state set from the stream and put back.

    Raises:
        UserError: the function returns no distribution, or one of another shape.
    """

    def __init__(self, function: Callable[[Tensor], Distribution], *, label: str) -> None:
        self.function, self.label = function, label

    def _of(self, clean: Tensor) -> Distribution:
        try:
            found = self.function(clean)
        except ValueError as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"{self.label}: cannot be the noise of such a measurement: {text}") from error
        if not isinstance(found, Distribution):
            raise UserError(
                f"{self.label}: returned {type(found).__name__}, not a torch.distributions.Distribution"
            )
        if found.batch_shape != clean.shape or found.event_shape:
            raise UserError(
                f"{self.label}: returned a distribution of the shape {list(found.batch_shape)} for clean measurements "
                f"{list(clean.shape)}; it has to be one for each element"
            )
        found._validate_args = False  # outside of where it lives, a density is zero and no mistake
        return found

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y."""
        wide = clean.dtype if clean.device.type == "mps" else torch.float64
        tiny = torch.finfo(wide).tiny
        uniform = streams.uniform(clean.shape[1:], wide).clamp(tiny, 1 - torch.finfo(wide).eps)
        try:
            return self._of(clean).icdf(uniform).to(clean.dtype)
        except NotImplementedError:
            return self._sample_by_state(clean, streams)

    def _sample_by_state(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        seeds = (streams.uniform(()) * 2**24).long() * 2**24 + (streams.uniform(()) * 2**24).long()
        devices = [clean.device] if clean.device.type == "cuda" else []
        drawn = []
        for row, seed in zip(torch.split(clean, 1), seeds.tolist(), strict=True):
            with torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                drawn.append(self._of(row).sample())
        return torch.cat(drawn)

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return log p(y | clean)."""
        return self._of(clean).log_prob(y)

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean), by the distribution function where there is one."""
        a = clean if clean.device.type == "mps" else clean.double()
        try:
            share = self._of(a).cdf(upper.to(a)) - self._of(a).cdf(lower.to(a))
        except NotImplementedError:
            return super().log_probability(clean, lower, upper)
        sure = share > SMALL
        if bool(sure.all()):
            return share.log().to(clean)
        far = super().log_probability(clean, lower, upper)
        return torch.where(sure, share.clamp_min(SMALL).log().to(clean), far)

    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviation; half the width of the middle 68 % where there is none."""
        distribution = self._of(clean)
        found = distribution.stddev
        if bool(torch.isfinite(found).all()):
            return found
        high, low = (distribution.icdf(torch.full_like(clean, q)) for q in (0.8413447, 0.1586553))
        return (high - low) / 2


def _error(got: Any, wanted: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    if not isinstance(got, Tensor) or got.shape != wanted.shape:
        return math.inf
    return float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30)) if wanted.numel() else 0.0


def _near(got: Tensor, wanted: Tensor) -> bool:
    return _error(got, wanted) <= CLOSE
