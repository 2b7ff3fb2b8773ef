r"""A Gaussian prior x0 ~ N(mu, Sigma), whose denoiser is known in closed form.

With Sigma = V diag(lambda) V^T and x_t = x0 + sigma n,

    E[x0 | x_t]   = mu + V diag(lambda / (lambda + sigma^2)) V^T (x_t - mu)
    Cov[x0 | x_t] = V diag(lambda sigma^2 / (lambda + sigma^2)) V^T.

It makes every posterior with a linear operator known, which is what samplers are checked against. Everything is
computed in double precision: the score (E[x0 | x_t] - x_t) / sigma^2 at a small sigma is a small difference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Normal, Prior, RandomStreams, Shape
from daps_kit.covariance import rest_root
from daps_kit.errors import ComponentError
from daps_kit.linalg import per_sample

__all__ = ["EigenCovariance", "GaussianPrior"]


class EigenCovariance(Covariance):
    """C = V diag(variances) V^T.

    Args:
        variances: positive: a number for all, one for each element [...], or with vectors one for each of them [d].
        vectors: the orthogonal V, [d, d], acting on flattened images; None is the identity.
    """

    def __init__(self, variances: Tensor, vectors: Tensor | None = None) -> None:
        self.variances, self.vectors = variances, vectors

    def weigh(self, v: Tensor, weights: Tensor) -> Tensor:
        """Return V diag(weights) V^T v for v [B, ...], in the precision of v."""
        if self.vectors is None:
            return (v * weights).to(v)
        flat = v.flatten(1).to(self.vectors) @ self.vectors
        return ((flat * weights) @ self.vectors.T).reshape(v.shape).to(v)

    def sqrt(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v."""
        return self.weigh(v, self.variances.sqrt())

    def multiply(self, v: Tensor) -> Tensor:
        """Return C v."""
        return self.weigh(v, self.variances)

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v."""
        return self.weigh(v, 1 / self.variances)

    @property
    def isotropic(self) -> Tensor | None:
        """The variance, where it is one number."""
        return self.variances if self.variances.ndim == 0 and self.vectors is None else None

    def independent(self) -> tuple[Tensor, Callable[[Normal], Tensor]]:
        """Return the variances where V = I, else the least, and draws of what is left of it when x is known."""
        if self.vectors is None:
            return self.variances, lambda normal: torch.zeros_like(normal())
        least = self.variances.min()
        return least, lambda normal: self.weigh(normal(), rest_root(least, self.variances))


class GaussianPrior(Prior):
    """A Gaussian prior over images of any shape.

    Args:
        mean: mu: a number for all elements or one image [C, H, W].
        std: standard deviation: a number or one for each element [C, H, W]. Not given together with `covariance`.
        covariance: Sigma on flattened images, [d, d], symmetric, positive definite.

    Raises:
        daps_kit.errors.ComponentError: shapes that do not fit, a std that is not positive, or a covariance that is not
            symmetric and positive definite.
    """

    def __init__(
        self,
        mean: float | Tensor = 0.0,
        std: float | Tensor | None = None,
        *,
        covariance: Tensor | None = None,
    ) -> None:
        if (std is None) == (covariance is None):
            raise ComponentError("a Gaussian prior takes either std or covariance")
        given = [value for value in (mean, std, covariance) if isinstance(value, Tensor)]
        device = given[0].device if given else None
        self.mean = torch.as_tensor(mean, dtype=torch.float64, device=device)
        if covariance is None:
            scale = torch.as_tensor(std, dtype=torch.float64, device=device)
            if not bool((scale > 0).all()):
                raise ComponentError("std must be positive")
            if self.mean.ndim and scale.ndim and self.mean.shape != scale.shape:
                raise ComponentError(
                    f"mean {tuple(self.mean.shape)} and std {tuple(scale.shape)} must have one shape"
                )
            self.covariance = EigenCovariance(scale.square())
            image = self.mean if self.mean.ndim else scale
        else:
            self.covariance = _decompose(covariance, self.mean)
            image = self.mean
        self.shape = _image_shape(image)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x_t = x], [B, ...]; x has the shape of mu where mu is an image."""
        wide = x.double()
        variances = self.covariance.variances
        # One row a sample: of images where V = I, of coefficients otherwise.
        noise = per_sample(sigma, wide if self.covariance.vectors is None else wide.flatten(1)) ** 2
        return (self.mean + self.covariance.weigh(wide - self.mean, variances / (variances + noise))).to(x)

    def denoising_covariance(self, sigma: float) -> Covariance:
        """Return Cov[x0 | x_t] at the noise level sigma, which does not depend on x_t."""
        lam = self.covariance.variances
        return EigenCovariance(lam * sigma**2 / (lam + sigma**2), self.covariance.vectors)

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw from the prior exactly, [B, *shape]; `steps` is not needed."""
        noise = streams.normal(shape)
        return self.mean.to(noise) + self.covariance.sqrt(noise)


def _decompose(matrix: Tensor, mean: Tensor) -> EigenCovariance:
    """Return the eigendecomposition of a covariance matrix [d, d] that fits the mean."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ComponentError(f"covariance must be a square matrix, got {tuple(matrix.shape)}")
    if mean.ndim and mean.numel() != len(matrix):
        raise ComponentError(
            f"covariance {tuple(matrix.shape)} does not fit a mean of {mean.numel()} elements"
        )
    double = matrix.double()
    if not torch.allclose(double, double.T, rtol=1e-5, atol=1e-6 * float(double.abs().max())):
        raise ComponentError("covariance must be symmetric")
    variances, vectors = torch.linalg.eigh((double + double.T) / 2)
    if not float(variances.min()) > 0:
        raise ComponentError(
            f"covariance must be positive definite; its smallest eigenvalue is {variances.min():.3g}"
        )
    return EigenCovariance(variances.to(mean.device), vectors.to(mean.device))


def _image_shape(image: Tensor) -> Shape | None:
    """Return the (C, H, W) of a mean, None where it is a number and any shape serves."""
    if image.ndim == 0:
        return None
    if image.ndim != 3:
        raise ComponentError(f"mean and std must be numbers or [C, H, W], got the shape {tuple(image.shape)}")
    channels, height, width = image.shape
    return channels, height, width
