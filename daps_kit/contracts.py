r"""What a component must do: the abstract classes that operators, priors, kernels and samplers implement.

Everything is batched. Images are float tensors [B, C, H, W] with values in [-1, 1]; sample b of a result depends on
sample b of the arguments alone. Names follow the literature:

    x0       a clean image          x_t      x0 + sigma n, n ~ N(0, I)
    y        the measurement        x0hat    the prior's guess of x0 given x_t
    sigma    noise level of x_t     x0y      a sample of p(x0 | x_t, y)

Source: Zhang et al., "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR 2025,
arXiv 2407.01521.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from daps_kit.failures import Cause, Failure
from daps_kit.linalg import inner, per_sample, solve
from daps_kit.noise import GaussianNoise, Noise, PoissonNoise
from daps_kit.random import RandomStreams
from daps_kit.shape import Shape
from daps_kit.unknown import Distribution, Unknown

if TYPE_CHECKING:
    from typing_extensions import Self

    from daps_kit.modes import Modes

__all__ = [
    "Calibration",
    "Covariance",
    "Failure",
    "GaussianNoise",
    "Kernel",
    "KernelInfo",
    "KernelState",
    "LinearOperator",
    "LocalErrors",
    "Noise",
    "Normal",
    "Operator",
    "Parameters",
    "PoissonNoise",
    "Prior",
    "RandomStreams",
    "Sampler",
    "Shape",
    "Step",
    "Target",
    "Transfer",
]


class Operator(ABC):
    """A forward model y = A(x0) + noise.

    An operator is fixed once it is built: masks and kernels are drawn or read then, and `forward` draws nothing.

    Attributes:
        shape: (C, H, W) of the images it takes.
        noise: the noise model of its measurements.
        observed: which entries of y are measured, a tensor of 0 and 1 that broadcasts to y; None where all are.
        multimodal: whether images quite unlike the true one explain y nearly as well, as in phase retrieval; samplers
            then start more than once.
        elementwise: whether y has the shape of x and entry i of y depends on entry i of x alone, as behind a clip, a
            gamma or a quantiser; samplers then draw entries one by one, which needs no slope.
        kinks: of an elementwise operator that is continuous and linear in each entry but for changes of its slope, the
            entries at which it changes, rising, the same for all; draws are exact then. Empty where that is not so.
        orthonormal: whether it is linear and A^T A = A A^T = I, so that y is the image and noise in another basis. What
            is not `observed` in that are details of which images have little; the noise there is large.
        black: value of a measurement that means no light, which some noise depends on: -1, as in images, or 0, as for
            magnitudes.
        scale: by how much, about, a measurement changes where an image changes by 1, which says what single precision
            carries.
        parameters: what is unknown of it and of its noise, where a recipe leaves that open; it then is the operator at
            the medians of their priors.
    """

    multimodal: bool = False
    elementwise: bool = False
    kinks: tuple[float, ...] = ()
    orthonormal: bool = False
    black: float = -1.0
    scale: float = 1.0
    parameters: Parameters | None = None

    def __init__(self, shape: Shape, noise: Noise) -> None:
        self.shape = shape
        self.noise = noise.with_black(self.black).with_scale(self.scale)
        self.observed: Tensor | None = None
        self.kept: dict[str, Any] = {}

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return A(x) without noise, [B, ...], differentiable, for x [B, C, H, W]."""

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(x) and the map v -> J(x)^T v, both detached; by autograd unless an operator knows a closed form."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            y = self.forward(leaf)

        def vjp(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(y, leaf, v, retain_graph=True)
            return gradient

        return y.detach(), vjp

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x) v, the derivative of A at x in the direction v."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            y = self.forward(leaf)
            dual = torch.zeros_like(y, requires_grad=True)
            (gradient,) = torch.autograd.grad(y, leaf, dual, create_graph=True)
            (product,) = torch.autograd.grad(gradient, dual, v)
        return product.detach()

    def measure(self, x: Tensor, streams: RandomStreams) -> Tensor:
        """Draw a measurement y = A(x) + noise; entries that are not observed are zero."""
        return self.project(self.noise.sample(self.forward(x), streams))

    def project(self, y: Tensor) -> Tensor:
        """Set the entries of y that are not observed to zero."""
        return y if self.observed is None else y * self.observed.to(y)

    def telling(self, y: Tensor) -> Tensor:
        """Return which entries of y, [B, ...], tell how strong its noise is: by default all that are observed."""
        return self.project(torch.ones_like(y)) > 0

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the noise model's misfit summed over y, [B]; for Gaussian noise ||A(x) - y||^2."""
        return self.noise.misfit(self.forward(x), y).flatten(1).sum(1)

    def loss_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss [B] and its gradient by x [B, C, H, W], both detached."""
        clean, vjp = self.forward_vjp(x)
        loss = self.noise.misfit(clean, y).flatten(1).sum(1)
        return loss, vjp(self.noise.misfit_grad(clean, y))

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the exact log p(y | x) over the observed entries, [B]."""
        return self.project(self.noise.log_density(self.forward(x), y)).flatten(1).sum(1)

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the root mean square residual in standard deviations of the noise, [B]; about 1 for the true image.

        For noise that is not Gaussian it is the root of the misfit in units of the misfit that is to be expected.
        """
        clean = self.forward(x)
        expected, misfit = (
            self.project(t).flatten(1).sum(1)
            for t in (self.noise.expected_misfit(clean), self.noise.misfit(clean, y))
        )
        return (misfit.clamp_min(0) / expected.clamp_min(torch.finfo(expected.dtype).tiny)).sqrt()

    def continued(self, y: Tensor) -> Operator:
        """Return an operator that has a slope where this one is flat though y excludes it: itself by default.

        A pixel that once lies behind a clip gets no pull from a measurement that says it does not: the derivative there
        is 0. The operator that goes on straight there is as good wherever y, [B, ...], is at all likely, and has no
        such trap; kernels that minimise use it for the samples of y.
        """
        return self

    @property
    def linear_part(self) -> LinearOperator | None:
        """B where A(x) = B x + c with a c that depends on nothing; None, the default, where it is not so.

        What is exact for a linear operator is so for this one, too: y - c has been measured by B. The noise of B is of
        no account.
        """
        return None

    def state(self) -> dict[str, Tensor]:
        """Return what was drawn or read when the operator was built (masks, kernels), to be saved with a run."""
        return {}

    def contradiction(self, y: Tensor) -> str:
        """Return why no image in [-1, 1] has a measurement y [1, ...]: the likely mistake, and what mends it.

        Empty, the default, where nothing is known to be wrong. y is as a user gave it: entries that are not observed
        may be anything, also NaN.
        """
        return ""

    def read(self, path: Path) -> Tensor | None:
        """Return the measurements in a file, [N, ...], where the operator knows more of it than its numbers or pixels.

        None, the default, where it does not: arrays and pictures are read as `daps_kit.reading` does.

        Raises:
            UserError: the file does not belong to the operator.
        """
        return None

    def to_image(self, y: Tensor) -> Tensor:
        """Return a picture of y, [B, 1 or 3, h, w] in [-1, 1]; by default y itself, clipped."""
        return y.clamp(-1, 1)

    @classmethod
    def stack(cls, operators: Sequence[Operator]) -> Operator:
        """Join operators of one kind into one whose sample b is measured by `operators[b]`.

        This default calls them one by one; an operator with a mask or a kernel does better.
        """
        if len(set(map(id, operators))) == 1:
            return operators[0]
        linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
        return _StackedLinear(linear) if len(linear) == len(operators) else _StackedOperator(operators)


@dataclass(frozen=True)
class Parameters:
    """Unknown numbers, P of them.

    Attributes:
        names: as a recipe has them within `operator`, such as `intensity` or `noise.sigma`.
        unknowns: the prior of each, and the value that a simulated measurement has.
        builds: give the operator at values by their names: one for all samples, or one for each.
        periods: of those that mean the same again after so much, by their names.
        of_noise: what the names of the noise's parameters begin with.
    """

    of_noise: ClassVar[str] = "noise."

    names: tuple[str, ...]
    unknowns: tuple[Unknown, ...]
    builds: tuple[Callable[[Mapping[str, float]], Operator], ...]
    periods: Mapping[str, float] = field(default_factory=dict)

    @property
    def priors(self) -> tuple[Distribution, ...]:
        """The prior of each."""
        return tuple(unknown.prior for unknown in self.unknowns)

    def row(self, sample: int) -> Callable[[Mapping[str, float]], Operator]:
        """Return what gives the operator of a sample."""
        return self.builds[sample if len(self.builds) > 1 else 0]

    def operators(self, values: Tensor) -> list[Operator]:
        """Return the operator of each sample at its values [B, P]."""
        return [self.row(b)(dict(zip(self.names, row, strict=True))) for b, row in enumerate(values.tolist())]

    def at(self, values: Tensor) -> Operator:
        """Return the operator whose sample b has the values b, [B, P]."""
        rows = self.operators(values)
        if len(rows) == 1:
            return rows[0]
        first = rows[0]
        if all(name.startswith(self.of_noise) for name in self.names) and len(self.builds) == 1:
            joined = copy.copy(first)  # only the noise differs
        else:
            joined = type(first).stack(rows)
        joined.noise = type(first.noise).stack([row.noise for row in rows])
        return joined

    def values(self, u: Tensor) -> Tensor:
        """Return the values [B, P] of which the priors' distribution functions are u."""
        columns = [
            [prior.quantile(p) for p in column]
            for prior, column in zip(self.priors, u.T.tolist(), strict=True)
        ]
        return torch.tensor(columns, dtype=torch.float64, device=u.device).T

    def truths(self, streams: RandomStreams) -> Tensor:
        """Return the values of simulated measurements, [B, P]: those that are stated, the others from their priors."""
        drawn = self.values(streams.uniform((len(self.names),), torch.float64))
        for place, unknown in enumerate(self.unknowns):
            if unknown.truth is not None:
                drawn[:, place] = unknown.truth
        return drawn


class _StackedOperator(Operator):
    """Sample b is measured by operator b."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        super().__init__(operators[0].shape, operators[0].noise)
        self.operators = list(operators)
        self.multimodal = any(operator.multimodal for operator in operators)
        self.elementwise = all(operator.elementwise for operator in operators)
        self.kinks = operators[0].kinks if len({operator.kinks for operator in operators}) == 1 else ()

    def continued(self, y: Tensor) -> Operator:
        rows = zip(self.operators, torch.split(y, 1), strict=True)
        return _StackedOperator([operator.continued(row) for operator, row in rows])

    def forward(self, x: Tensor) -> Tensor:
        rows = zip(self.operators, torch.split(x, 1), strict=True)
        return torch.cat([operator.forward(row) for operator, row in rows])

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        rows = zip(self.operators, torch.split(x, 1), strict=True)
        pairs = [operator.forward_vjp(row) for operator, row in rows]

        def vjp(v: Tensor) -> Tensor:
            return torch.cat([pair[1](row) for pair, row in zip(pairs, torch.split(v, 1), strict=True)])

        return torch.cat([pair[0] for pair in pairs]), vjp

    @property
    def linear_part(self) -> LinearOperator | None:
        parts = [part for operator in self.operators if (part := operator.linear_part) is not None]
        return _StackedLinear(parts) if len(parts) == len(self.operators) else None

    def project(self, y: Tensor) -> Tensor:
        rows = zip(self.operators, torch.split(y, 1), strict=True)
        return torch.cat([operator.project(row) for operator, row in rows])

    def to_image(self, y: Tensor) -> Tensor:
        rows = zip(self.operators, torch.split(y, 1), strict=True)
        return torch.cat([operator.to_image(row) for operator, row in rows])


class Transfer(NamedTuple):
    """How a convolution scales waves.

    Attributes:
        power: |K|^2 at the frequencies of a real Fourier transform of `size`, [1 or B, 1, h, w // 2 + 1].
        size: (h, w), in which an image and the kernel fit, or that of the image where it is periodic.
    """

    power: Tensor
    size: tuple[int, int]


class LinearOperator(Operator):
    """A forward model that is linear in x, with its adjoint and its regularised inverse.

    `forward` is enough; a closed form of the others is faster.
    """

    @property
    def linear_part(self) -> LinearOperator:
        """Itself."""
        return self

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, [B, C, H, W]; by autograd unless an operator knows a closed form.

        A x is linear in x, so A^T y is the gradient of <A x, y> at any x.
        """
        with torch.enable_grad():
            x = y.new_zeros(len(y), *self.shape, requires_grad=True)
            image = self.forward(x)
        (gradient,) = torch.autograd.grad(
            image, x, y, create_graph=torch.is_grad_enabled() and y.requires_grad
        )
        return gradient

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A x, detached, and the adjoint."""
        return self.forward(x.detach()), self.adjoint

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return A v."""
        return self.forward(v)

    def kernel_adjoint(self, x: Tensor, y: Tensor) -> Tensor:
        """Return M^T y, [B, h, w], of the matrix M with A x = M k, k a kernel [h, w]; of operators that have one.

        Args:
            x: images, [B, C, H, W].
            y: measurements, [B, ...].
        """
        raise NotImplementedError(f"{type(self).__name__} has no kernel")

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return (A^T A + weight I)^{-1} b for b [B, C, H, W].

        Args:
            b: right-hand sides.
            weight: positive, one number or one for each sample [B].

        By conjugate gradients to a relative residual of 1e-6 unless an operator knows a closed form.

        Raises:
            ArithmeticError: the residual stayed above 1e-3, which a larger weight would avoid.
        """
        scale = per_sample(weight, b)
        return solve(lambda x: self.adjoint(self.forward(x)) + scale * x, b)

    def preconditioner(
        self, covariance: Covariance, variance: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Return an approximate inverse of A C A^T + variance I, the covariance of a measurement.

        It is symmetric and positive definite on measurements. None, the default, where none is known.

        Args:
            covariance: C; operators know some kinds, above all `daps_kit.covariance.CosineCovariance`.
            variance: that of the noise, positive, one number or one for each sample [B].
        """
        return None

    def modes(self, like: Tensor) -> Modes | None:
        """Return the patterns that it measures each by itself; None, the default, where they are not known.

        Args:
            like: an image, for its dtype and device.
        """
        return None

    def transfer(self) -> Transfer | None:
        """Return how it scales waves, of an operator that is a convolution but for the border, alike in each channel.

        None, the default, for others.
        """
        return None

    def spectrum(self, covariance: Covariance) -> Tensor | None:
        """Return what is about the diagonal of A C A^T in the cosine basis of the measurement, [C, h, w].

        That is the basis of a `daps_kit.covariance.CosineCovariance`, with its rotation of the colours. None, the
        default, where it is not known.
        """
        return None

    def waves(self, covariance: Covariance) -> Tensor | None:
        """Return what A C A^T is about for the waves of each frequency that rise and for those that fall, [2, C, h, w].

        A product of two cosines is a wave along each diagonal, and `spectrum` the mean of both. They differ where the
        operator tells these directions apart, as a motion that is neither upright nor level does; the default is that
        it does not. None where the spectrum is not known.
        """
        spectrum = self.spectrum(covariance)
        return None if spectrum is None else spectrum.expand(2, *spectrum.shape)


class _StackedLinear(_StackedOperator, LinearOperator):
    """Sample b is measured by linear operator b."""

    @property
    def linear_part(self) -> LinearOperator:
        return self

    operators: list[LinearOperator]  # type: ignore[assignment]

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        super().__init__(operators)

    def adjoint(self, y: Tensor) -> Tensor:
        rows = zip(self.operators, torch.split(y, 1), strict=True)
        return torch.cat([operator.adjoint(row) for operator, row in rows])

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        weights = torch.as_tensor(weight, dtype=b.dtype, device=b.device).expand(len(b))
        rows = zip(self.operators, torch.split(b, 1), torch.split(weights, 1), strict=True)
        return torch.cat([operator.solve_normal(row, weight) for operator, row, weight in rows])

    def transfer(self) -> Transfer | None:
        each = [operator.transfer() for operator in self.operators]
        known = [one for one in each if one is not None]
        if len(known) < len(each) or len({one.size for one in known}) > 1:
            return None
        return known[0]._replace(power=torch.cat([one.power for one in known]))

    def preconditioner(
        self, covariance: Covariance, variance: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        variances = torch.as_tensor(variance).expand(len(self.operators))
        each = [
            operator.preconditioner(covariance, row)
            for operator, row in zip(self.operators, torch.split(variances, 1), strict=True)
        ]
        known = [inverse for inverse in each if inverse is not None]
        if len(known) < len(each):
            return None

        def inverse(z: Tensor) -> Tensor:
            return torch.cat([inverse(row) for inverse, row in zip(known, torch.split(z, 1), strict=True)])

        return inverse


Normal = Callable[[], Tensor]
"""Returns standard normal numbers, [B, ...], others each time."""


class Calibration(Protocol):
    """How wrong a denoiser was on images held out of its training."""

    @property
    @abstractmethod
    def sigma(self) -> Tensor:
        """Noise levels, rising, [S]."""

    @property
    @abstractmethod
    def mse(self) -> Tensor:
        """Mean squared error of a pixel at each, [S]."""

    @abstractmethod
    def covariance(self, sigma: float, height: int, width: int) -> Covariance:
        """Return the covariance of that error at a noise level, for images (latents) of this size."""


class LocalErrors(Protocol):
    """How the errors of a denoiser differ from place to place (`daps_kit.variance_head`)."""

    @abstractmethod
    def covariance(self, mean: Covariance, x: Tensor, denoised: Tensor, sigma: float) -> Covariance:
        """Return Cov[x0 | x_t = x] of each sample, from its mean over x_t and D(x, sigma)."""


class Covariance(ABC):
    """The covariance C of a Gaussian p(x0 | x_t), as the products that kernels need.

    Its root is any square matrix L with L L^T = C: the symmetric one, unless `sqrt_transposed` says otherwise.

    Attributes:
        average: whether it was measured as a mean over images, from which that of the image at hand differs.
    """

    average: bool = False

    @abstractmethod
    def sqrt(self, v: Tensor) -> Tensor:
        """Return L v, [B, ...]: of the covariance C where v ~ N(0, I)."""

    @abstractmethod
    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v, [B, ...]."""

    def sqrt_transposed(self, v: Tensor) -> Tensor:
        """Return L^T v, [B, ...]: the same as `sqrt` where the root is symmetric."""
        return self.sqrt(v)

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v, [B, ...]: by two products with the root, unless a covariance does better."""
        return self.sqrt(self.sqrt_transposed(v))

    def of(self, sample: int) -> Covariance:
        """Return the covariance of one sample; itself, the default, where all have one."""
        return self

    @property
    def isotropic(self) -> Tensor | None:
        """The variance of each sample, [B] or 0-d, where C is a multiple of the identity; None where it is not."""
        return None

    def independent(self) -> tuple[Tensor, Callable[[Normal], Tensor]] | None:
        """Return the part of C that is independent from entry to entry, as much as is known; None where nothing is.

        With C = R + D, D = diag(d), and R positive semidefinite, x ~ N(m, C) is u + D^{1/2} z with u ~ N(m, R) and
        z ~ N(0, I), and u given x is N(x - D C^{-1} (x - m), D - D C^{-1} D).

        Returns:
            d, one number a sample [B] or what broadcasts to [B, ...], and a function that draws from
            N(0, D - D C^{-1} D), given one that returns n ~ N(0, I), [B, ...], another one each time.
        """
        variance = self.isotropic
        return None if variance is None else (variance, lambda normal: torch.zeros_like(normal()))


class Prior(ABC):
    """A diffusion prior p(x0), known by its denoiser.

    Attributes:
        shape: (C, H, W) of the images it knows; None where any size serves.
        channels: of those images where any size serves but not any number of channels; else None.
        advice: what to do with images of another shape, for the error that says so.
        sigma_range: noise levels at which the denoiser is valid; samplers stay inside.
        calibration: its measured errors; None where they are not known.
        nan_advice: what helps where the denoiser gives NaN, for the message a user reads.
        linear_decoder: whether `decode` is linear, such as a crop, so that a linear operator stays one behind it.
    """

    linear_decoder: bool = False
    nan_advice: str = "look at the prior's weights and precision (`daps-kit check-prior` tries them)"
    shape: Shape | None = None
    channels: int | None = None
    advice: str = ""
    sigma_range: tuple[float, float] = (0.0, float("inf"))
    calibration: Calibration | None = None

    @abstractmethod
    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(x, sigma) = E[x0 | x0 + sigma n = x], [B, ...].

        Args:
            x: noisy images (noisy latents, for a latent prior).
            sigma: noise level, positive, one number or one for each sample [B].
        """

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return the score of p(x_t) at x by Tweedie's formula, (D(x, sigma) - x) / sigma^2."""
        return (self.denoise(x, sigma) - x) / per_sample(sigma, x) ** 2

    def denoising_covariance(self, sigma: float) -> Covariance | None:
        """Return the covariance of p(x0 | x_t) at this noise level, as the prior knows it; None where it does not.

        It is the mean squared error of the denoiser: known in closed form, or measured on images (`calibration`). A
        prior that serves any size knows it only for a size that it was told (`sized`).
        """
        if self.calibration is None or self.shape is None:
            return None
        height, width = self.state_shape(self.shape)[-2:]
        return self.calibration.covariance(sigma, height, width)

    def conditional_covariance(self, x: Tensor, sigma: float) -> Covariance | None:
        """Return Cov[x0 | x_t = x], one covariance for each sample of x [B, ...].

        It is sigma^2 times the derivative of the denoiser. Many priors know its mean over x_t alone, which is the
        default (`denoising_covariance`) where nothing is known of how errors differ from place to place
        (`local_errors`); where what is open depends on x_t, as between the modes of a mixture, knowing more makes a
        sampler much more exact.
        """
        mean = self.mean_covariance(x, sigma)
        if mean is None or self.local_errors is None:
            return mean
        return self.local_errors.covariance(mean, x, self.denoise(x, sigma), sigma)

    def covariance_around(self, x: Tensor, denoised: Tensor, sigma: float) -> Covariance | None:
        """Return `conditional_covariance` where D(x, sigma) is at hand, [B, ...], and need not be computed again."""
        if self.local_errors is None:
            return self.conditional_covariance(x, sigma)
        mean = self.mean_covariance(x, sigma)
        return None if mean is None else self.local_errors.covariance(mean, x, denoised, sigma)

    @property
    def local_errors(self) -> LocalErrors | None:
        """How errors differ from place to place, where the calibration knows it (as its attribute `local`)."""
        local: LocalErrors | None = getattr(self.calibration, "local", None)
        return local

    def mean_covariance(self, x: Tensor, sigma: float) -> Covariance | None:
        """Return `denoising_covariance` for what has the size of x, [B, ...]."""
        known = self if self.latent else self.sized(x.shape[1:])
        return known.denoising_covariance(sigma)

    def sized(self, shape: Sequence[int]) -> Self:
        """Return the prior over images of one shape (C, H, W), whose `denoising_covariance` is known.

        It is the prior itself, unless that serves any size and its errors are measured.
        """
        if self.shape is not None or self.calibration is None:
            return self
        told = copy.copy(self)
        channels, height, width = shape
        told.shape = (channels, height, width)
        return told

    def state_shape(self, image_shape: Shape) -> tuple[int, ...]:
        """Return the shape of what the prior diffuses for images of `image_shape`: the same, unless it is latent."""
        return image_shape

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent of an image; the identity for a prior over pixels."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """Return the image of a latent, differentiable; the identity for a prior over pixels."""
        return z

    @property
    def latent(self) -> bool:
        """Whether the prior lives in a latent space, with `encode` and `decode` of its own."""
        return type(self).decode is not Prior.decode

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw from the prior, [B, *shape] before decoding.

        Heun's method along the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma on a rho = 7 grid, from
        sigma 80 (or the prior's largest) to 0.002 (its smallest), then one denoising (Karras et al., arXiv 2206.00364).
        A prior that can draw exactly does so instead.
        """
        high, low = min(80.0, self.sigma_range[1]), max(0.002, self.sigma_range[0])
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        sigmas = ((high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7).tolist()
        with torch.no_grad():
            x = sigmas[0] * streams.normal(shape)
            for sigma, following in pairwise(sigmas):
                slope = (x - self.denoise(x, sigma)) / sigma
                ahead = x + (following - sigma) * slope
                slope_ahead = (ahead - self.denoise(ahead, following)) / following
                x = x + (following - sigma) * (slope + slope_ahead) / 2
            return self.denoise(x, sigmas[-1])


class Target(ABC):
    """The distribution that a kernel samples, p(x0 | x_t, y), proportional to N(x0; centre, C) p(y | x0).

    For a latent prior x0 is the latent and p(y | x0) contains the decoder.

    Attributes:
        centre: mean of the Gaussian, [B, ...]; kernels usually start here.
        covariance: C.
        operator: the operator as a function of x0 (of the latent, where there is one).
        y: the measurement.
        sigma: noise level of x_t.
        level, levels: index of the annealing level, from 0, and how many there are.
        likelihood_variance: the likelihood is exp(-loss / (2 likelihood_variance)): the noise model's dispersion,
            or tau^2 where the sampler is told a tau.
    """

    centre: Tensor
    covariance: Covariance
    operator: Operator
    y: Tensor
    sigma: float
    level: int
    levels: int
    likelihood_variance: float

    @property
    @abstractmethod
    def has_density(self) -> bool:
        """Whether `log_density` is known; where it is not, only the gradient is."""

    def likelihood_curvature(self, clean: Tensor) -> float | Tensor:
        """Return the second derivative of -log p(y | x0) by the clean measurement there, or a bound on it."""
        return self.operator.noise.curvature(clean, self.y) / self.likelihood_variance

    def at(self, operator: Operator, likelihood_variance: float) -> Self:
        """Return the same of another operator, such as one with other values of what is unknown."""
        found = copy.copy(self)
        found.operator, found.likelihood_variance = operator, likelihood_variance
        return found

    def with_covariance(self, covariance: Covariance) -> Self:
        """Return the same with another covariance of x0 given x_t."""
        found = copy.copy(self)
        found.covariance = covariance
        return found

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x | x_t, y) up to a constant, [B]."""

    @abstractmethod
    def log_density_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | x_t, y) up to a constant [B] (NaN where unknown) and its gradient [B, ...]."""


class KernelState(NamedTuple):
    """Where a chain is, for a kernel that keeps nothing else.

    A kernel that keeps more, such as the density there or a velocity, has a NamedTuple of its own with x in it.

    Attributes:
        x: position, [B, ...].
    """

    x: Tensor


@dataclass(frozen=True)
class KernelInfo:
    """What a kernel reports of a step, or of all its steps at a level.

    Attributes:
        acceptance: mean acceptance probability of each sample, [B]; None for kernels that do not reject.
        step_size: the step size used, [B] or a number; None where there is none.
        error: a bound on the error of each draw, in posterior standard deviations, root mean square, [B]; None for
            chains, which have no such bound.
        failures: samples that are lost or to be doubted.
        notes: lines for the user that are no warnings, such as what was chosen where the settings leave it open.
    """

    acceptance: Tensor | None = None
    step_size: float | Tensor | None = None
    error: Tensor | None = None
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


class Kernel(ABC):
    """A Markov chain (or an exact draw) with p(x0 | x_t, y) as its target: pure functions of their arguments.

    Attributes:
        steps: how many steps are taken at a level.
        advice: what helps where a chain is lost, such as the setting to change, for the message a user reads.
        needs_density: whether the kernel needs the target's density, not its gradient alone.
    """

    steps: int = 1
    needs_density: bool = False
    advice: str = "a smaller step size of the kernel"

    @abstractmethod
    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> Any:
        """Return the state of chains that start at x [B, ...]: a NamedTuple with the position x in it."""

    @abstractmethod
    def step(self, target: Target, state: Any, streams: RandomStreams) -> tuple[Any, KernelInfo]:
        """Take one step; sample b draws from stream b alone."""

    def run(self, target: Target, x: Tensor, streams: RandomStreams) -> tuple[Tensor, KernelInfo]:
        """Take all the steps of a level and return the last position and what is to be reported.

        Samples that are not finite are among the info's failures: lost at the start, or diverged.
        """
        state = self.init(target, x, streams)
        start: Tensor = state.x
        info = KernelInfo()
        acceptance: list[Tensor] = []
        for _ in range(self.steps):
            state, info = self.step(target, state, streams)
            if info.acceptance is not None:
                acceptance.append(info.acceptance)
        result: Tensor = state.x
        failures = [*info.failures]
        for sample in _not_finite(result):
            cause: Cause = "start" if sample in _not_finite(start) else "diverged"
            failures.append(Failure(sample, target.level, target.levels, target.sigma, cause, self.advice))
        mean = torch.stack(acceptance).mean(0) if acceptance else info.acceptance
        return result, replace(info, acceptance=mean, failures=tuple(failures))


def _not_finite(x: Tensor) -> list[int]:
    """Return which samples left the finite numbers, their norm included."""
    places: list[int] = (~torch.isfinite(inner(x, x))).nonzero().flatten().tolist()
    return places


@dataclass
class Step:
    """One annealing level of a run, as a sampler reports it. Latent priors: in the latent space.

    Attributes:
        level, levels: index of the level, from 0, and how many there are.
        sigma: noise level of x_t.
        x_t: the noisy state the level began with, [B, ...].
        x0hat: the prior's guess given x_t.
        x0y: the sample of p(x0 | x_t, y); that of the last level is the result.
        failed: samples that are lost, [B]; their x0y is NaN.
        info: what the kernel reported.
        warnings: lines for the user about the run as a whole, such as settings that have no effect.
        notes: lines for the user that are no warnings, such as what was chosen where the settings leave it open.
        failures: samples that were lost at this level, or are to be doubted since; each once in a run.
        parameters: values of the operator's unknown parameters that x0y was drawn with, [B, P]; None where it has none.
        average: of the last level, an image [B, ...] that varies less than the sample x0y and, but for a bias, has the
            same mean E[x0 | y]: see `daps_kit.runs.ensemble.posterior_mean`; None where the sampler gives none.
    """

    level: int
    levels: int
    sigma: float
    x_t: Tensor
    x0hat: Tensor
    x0y: Tensor
    failed: Tensor
    info: KernelInfo
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    parameters: Tensor | None = None
    average: Tensor | None = None


class Sampler(ABC):
    """A method that draws from p(x0 | y).

    Attributes:
        as_stated: whether samples are meant to spread as p(x0 | y) with the noise that the operator states, so that
            their residuals tell whether y has that noise; False where a sampler fits y more or less closely.
        approximate: why its samples are not those of p(x0 | y) even where the denoiser is exact, in a clause; empty
            where they are.
        deterministic: whether it returns one estimate, whatever the random streams.
        together: whether the samples of one measurement depend on each other, as particles do: they are drawn in one
            batch then, and only samples of other measurements leave them as they are.
        infers: whether it draws the operator's unknown parameters, too.
    """

    as_stated: bool = False
    approximate: str = ""
    deterministic: bool = False
    together: bool = False
    infers: bool = False

    def refusal(self, prior: Prior, operator: Operator) -> str:
        """Return why it cannot sample with this prior and this operator, in a clause; empty, the default, if it can.

        It is asked before anything is computed, so that what a method cannot do costs nothing.
        """
        return ""

    @abstractmethod
    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        """Yield one Step a level; the last one's x0y, decoded by the prior, is the sample.

        Args:
            prior: the diffusion prior.
            operator: the forward model of images.
            y: one measurement a sample, [B, ...].
            streams: one random stream a sample.
        """
