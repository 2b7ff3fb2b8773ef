r"""What kernels sample: p(x0 | x_t, y) proportional to N(x0; centre, C) p(y | x0).

With the operator's loss, p(y | x0) = exp(-loss(x0, y) / (2 v)), v the likelihood variance, so that

    log p(x | x_t, y)      = -loss / (2 v) - (x - centre)^T C^{-1} (x - centre) / 2 + constant
    grad log p(x | x_t, y) = -grad loss / (2 v) + C^{-1} (centre - x).

The prior scores of the published method that do not change during a chain are choices of the centre:
(x_t - x) / sigma^2 + s with a fixed s equals (centre - x) / sigma^2 with centre = x_t + sigma^2 s.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from typing_extensions import Self

from daps_kit.contracts import Covariance, LinearOperator, Operator, Prior, Target
from daps_kit.linalg import inner

__all__ = ["DecodedOperator", "ExactScoreTarget", "GaussianTarget", "LinearDecodedOperator", "of_states"]


class GaussianTarget(Target):
    """A Gaussian p(x0 | x_t) times the likelihood.

    Args:
        centre: mean of the Gaussian, [B, ...].
        covariance: C.
        operator: the operator as a function of x0; see `of_states`.
        y: the measurement, [B, ...].
        sigma: noise level of x_t.
        level, levels: index of the annealing level, from 0, and how many there are.
        likelihood_variance: v above, positive: the noise model's dispersion is the stated noise.
    """

    def __init__(
        self,
        centre: Tensor,
        covariance: Covariance,
        operator: Operator,
        y: Tensor,
        *,
        sigma: float,
        level: int = 0,
        levels: int = 1,
        likelihood_variance: float,
    ) -> None:
        self.centre, self.covariance, self.operator, self.y = centre, covariance, operator, y
        self.sigma, self.level, self.levels = sigma, level, levels
        self.likelihood_variance = likelihood_variance

    @property
    def has_density(self) -> bool:
        """Whether `log_density` is known: always."""
        return True

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x | x_t, y) up to a constant, [B]."""
        difference = self.centre - x
        quadratic = inner(self.covariance.precision(difference), difference)
        return self.operator.loss(x, self.y) * (-0.5 / self.likelihood_variance) - quadratic / 2

    def log_density_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | x_t, y) up to a constant [B] and its gradient [B, ...]."""
        loss, loss_gradient = self.operator.loss_grad(x, self.y)
        difference = self.centre - x
        pull = self.covariance.precision(difference)
        weight = -0.5 / self.likelihood_variance
        log_density = weight * loss - inner(pull, difference) / 2
        # Not in place: a covariance may hand back a tensor that it keeps.
        return log_density, torch.add(pull, loss_gradient, alpha=weight)


class ExactScoreTarget(Target):
    """p(x_t | x0) p(x0) p(y | x0) with the prior's own score at x: only the gradient of its logarithm is known.

    grad log p = -grad loss / (2 v) + (x_t - x) / sigma^2 + score(x, prior_sigma).

    Args:
        rest: everything but the prior's score: the Gaussian p(x_t | x0) as a function of x0, and the likelihood.
        prior: the prior; every gradient costs one call of its denoiser.
        prior_sigma: noise level at which its score is taken.
    """

    def __init__(self, rest: GaussianTarget, prior: Prior, prior_sigma: float) -> None:
        self.centre, self.covariance, self.operator, self.y = (
            rest.centre,
            rest.covariance,
            rest.operator,
            rest.y,
        )
        self.sigma, self.level, self.levels = rest.sigma, rest.level, rest.levels
        self.likelihood_variance = rest.likelihood_variance
        self._rest, self._prior, self._prior_sigma = rest, prior, prior_sigma

    def at(self, operator: Operator, likelihood_variance: float) -> Self:
        """Return the same of another operator."""
        found = super().at(operator, likelihood_variance)
        found._rest = self._rest.at(operator, likelihood_variance)
        return found

    @property
    def has_density(self) -> bool:
        """Whether `log_density` is known: never."""
        return False

    def log_density(self, x: Tensor) -> Tensor:
        """Return NaN: the density is not known."""
        return torch.full((len(x),), torch.nan, dtype=x.dtype, device=x.device)

    def log_density_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return NaN [B] and the gradient [B, ...]."""
        _, gradient = self._rest.log_density_grad(x)
        with torch.no_grad():
            return self.log_density(x), gradient + self._prior.score(x, self._prior_sigma)


class LinearDecodedOperator(LinearOperator):
    """A linear operator behind a linear decoder, z -> A decode(z), which is linear.

    Args:
        operator: the forward model of images.
        prior: the prior, whose decoder is linear.
        shape: shape of the states.
    """

    def __init__(self, operator: LinearOperator, prior: Prior, shape: tuple[int, ...]) -> None:
        super().__init__(shape, operator.noise)  # type: ignore[arg-type]
        self.operator, self.prior, self.observed = operator, prior, operator.observed

    def forward(self, x: Tensor) -> Tensor:
        """Return A decode(z)."""
        return self.operator.forward(self.prior.decode(x))

    def to_image(self, y: Tensor) -> Tensor:
        """Return the operator's picture of y."""
        return self.operator.to_image(y)


def of_states(
    operator: Operator, prior: Prior, shape: tuple[int, ...], gradient_clip: float | None = None
) -> Operator:
    """Return the operator as a function of what a prior diffuses: linear where it and the decoder are.

    Args:
        operator: the forward model of images.
        prior: the prior.
        shape: shape of the states.
        gradient_clip: see `DecodedOperator`.
    """
    if not prior.latent:
        return operator
    if prior.linear_decoder and isinstance(operator, LinearOperator):
        return LinearDecodedOperator(operator, prior, shape)
    return DecodedOperator(operator, prior, shape, gradient_clip)


class DecodedOperator(Operator):
    """The operator as a function of the latent: z -> A(decode(z)).

    Args:
        operator: the forward model of images.
        prior: the latent prior, whose decoder is differentiable.
        shape: shape of the latents.
        gradient_clip: bound on the absolute value of each entry of the gradient of the loss by z; None, the default,
            leaves the gradient as it is. The published implementation clips at 1.
    """

    def __init__(
        self, operator: Operator, prior: Prior, shape: tuple[int, ...], gradient_clip: float | None = None
    ) -> None:
        super().__init__(shape, operator.noise)  # type: ignore[arg-type]
        self.operator, self.prior, self.gradient_clip = operator, prior, gradient_clip
        self.observed, self.multimodal = operator.observed, operator.multimodal

    def forward(self, x: Tensor) -> Tensor:
        """Return A(decode(z)), differentiable."""
        return self.operator.forward(self.prior.decode(x))

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(decode(z)) and v -> J^T v: the operator's own, then autograd through the decoder."""
        image, pull_back = self._decode(x)
        y, vjp = self.operator.forward_vjp(image)
        return y, lambda v: pull_back(vjp(v))

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the derivative of A(decode(z)) in the direction v.

        It is the derivative of J^T u by u. Fused attention has no second derivative, so decoders with attention run
        their plain one here.
        """
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            leaf = x.detach().requires_grad_()
            image = self.prior.decode(leaf)
            dual = torch.zeros_like(image, requires_grad=True)
            (gradient,) = torch.autograd.grad(image, leaf, dual, create_graph=True)
            (direction,) = torch.autograd.grad(gradient, dual, v)
        return self.operator.jvp(image.detach(), direction)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the operator's loss of decode(z), [B]."""
        return self.operator.loss(self.prior.decode(x), y)

    def loss_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss [B] and its gradient by z, clipped where a bound is set."""
        image, pull_back = self._decode(x)
        loss, gradient = self.operator.loss_grad(image, y)
        gradient = pull_back(gradient)
        if self.gradient_clip is not None:
            gradient = gradient.clamp(-self.gradient_clip, self.gradient_clip)
        return loss, gradient

    def to_image(self, y: Tensor) -> Tensor:
        """Return the operator's picture of y."""
        return self.operator.to_image(y)

    def _decode(self, z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            image = self.prior.decode(leaf)

        def pull_back(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(image, leaf, v, retain_graph=True)
            return gradient

        return image.detach(), pull_back
