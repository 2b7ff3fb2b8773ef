r"""A mixture of isotropic Gaussians, x0 ~ sum_k w_k N(mu_k, s_k^2 I), whose denoiser is known in closed form.

With v_k = s_k^2 + sigma^2 and d elements,

    r_k         proportional to w_k v_k^{-d/2} exp(-|x_t - mu_k|^2 / (2 v_k))     (computed as a softmax of logarithms)
    m_k         = (s_k^2 x_t + sigma^2 mu_k) / v_k
    E[x0 | x_t] = sum_k r_k m_k
    Cov[x0 | x_t] = sum_k r_k (s_k^2 sigma^2 / v_k) I + sum_k r_k (m_k - E)(m_k - E)^T.

The mixture is over whole images, or over each element by itself (d = 1, independent elements). Everything is computed
in double precision: distances of large images differ in their last digits, and so do E[x0 | x_t] and x_t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Prior, RandomStreams, Shape
from daps_kit.covariance import Diagonal, Isotropic, LowRank
from daps_kit.errors import ComponentError

__all__ = ["MixturePrior"]

DRAWS = 2000  # for the mean error of the denoiser


class MixturePrior(Prior):
    """A mixture of isotropic Gaussians.

    Args:
        means: [K] numbers (constant images) or [K, C, H, W].
        std: standard deviation of the components, a number or one for each [K].
        weights: positive, one for each component [K]; they are normalised. Equal where not given.
        elementwise: whether every element chooses its component by itself; otherwise an image chooses one.

    Raises:
        daps_kit.errors.ComponentError: shapes that do not fit, or a std or weight that is not positive.
    """

    def __init__(
        self,
        means: Tensor,
        std: float | Tensor,
        weights: Tensor | None = None,
        *,
        elementwise: bool = False,
    ) -> None:
        if means.ndim not in (1, 4) or not len(means):
            raise ComponentError(f"means must be [K] or [K, C, H, W], got the shape {tuple(means.shape)}")
        count = len(means)
        self.means, self.elementwise = means.double(), elementwise
        self.std = torch.as_tensor(std, dtype=torch.float64, device=means.device).expand(count)
        share = torch.ones(count) if weights is None else weights
        if share.shape != (count,):
            raise ComponentError(f"{count} components need {count} weights, got {tuple(share.shape)}")
        share = share.to(self.std)
        if not bool((self.std > 0).all()) or not bool((share > 0).all()):
            raise ComponentError("std and weights must be positive")
        self.weights = share / share.sum()
        self.shape = _shape(means)
        self._covariances: dict[float, Covariance] = {}
        self._space: tuple[Tensor, Tensor] | None = None

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x_t = x], [B, ...]."""
        wide, shrink, pull = self._terms(x, sigma)
        if self.elementwise:
            share, centres = self._element_centres(wide, shrink, pull)
            return (share * centres).sum(0).to(x)
        share = self._responsibilities(wide, shrink)  # r_k, [B, K]
        kept = (share * shrink).sum(1).reshape(-1, *(1,) * (x.ndim - 1))
        centre = (
            (share * pull) @ self.means.flatten(1) if self.means.ndim > 1 else (share * pull) @ self.means
        )
        return (kept * wide + centre.reshape(x.shape if self.means.ndim > 1 else kept.shape)).to(x)

    def conditional_covariance(self, x: Tensor, sigma: float) -> Covariance:
        """Return Cov[x0 | x_t = x]: of rank K - 1, or K, beside a multiple of the identity."""
        wide, shrink, pull = self._terms(x, sigma)
        if self.elementwise:
            share, centres = self._element_centres(wide, shrink, pull)
            within = sigma**2 * (share * shrink.T.reshape(-1, 1, *(1,) * (x.ndim - 1))).sum(0)
            return Diagonal(within + (share * (centres - (share * centres).sum(0)).square()).sum(0))
        share, flat = self._responsibilities(wide, shrink), wide.flatten(1)
        means, basis = self._mean_space(flat.shape[1])  # [K, R], [R, d]
        # The centres m_k have a part along x_t, too, whose share differs if the s_k do: one more row of the basis.
        outside = flat - flat @ basis.T @ basis
        length = outside.norm(dim=1, keepdim=True)
        centres = shrink[..., None] * (flat @ basis.T)[:, None] + pull[..., None] * means  # [B, K, R]
        centres = torch.cat((centres, (shrink * length)[..., None]), dim=2)
        off = share.sqrt()[..., None] * (centres - (share[..., None] * centres).sum(1, keepdim=True))
        row = (outside / length.clamp_min(torch.finfo(flat.dtype).tiny))[:, None]
        rows = torch.cat((basis.expand(len(flat), -1, -1), row), dim=1)
        return LowRank(sigma**2 * (share * shrink).sum(1), rows, off.mT @ off)

    def denoising_covariance(self, sigma: float) -> Covariance | None:
        """Return the mean variance of an element of x0 given x_t, times the identity; None where the size is open.

        It is the mean squared error of `denoise` on draws of the mixture, always the same ones.
        """
        if self.shape is None and not self.elementwise:
            return None
        if sigma not in self._covariances:
            shape = (1, 64, 64) if self.shape is None else self.shape
            streams = RandomStreams(range(1 if self.elementwise else DRAWS))
            x0 = self.sample(shape, streams)
            error = self.denoise(x0 + sigma * streams.normal(shape), sigma) - x0
            self._covariances[sigma] = Isotropic(error.double().square().mean())
        return self._covariances[sigma]

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw from the mixture exactly, [B, *shape]; `steps` is not needed."""
        u = streams.uniform(shape if self.elementwise else (), torch.float64)
        chosen = torch.searchsorted(self.weights.cumsum(0), u).clamp_max(len(self.weights) - 1)
        if not self.elementwise:
            chosen = chosen.reshape(-1, *(1,) * len(shape)).expand(-1, *shape)
        noise = streams.normal(shape)
        means = self.means[chosen] if self.means.ndim == 1 else torch.gather(self.means, 0, chosen)
        return (means + self.std[chosen] * noise).to(noise)

    def _terms(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x in double precision, s_k^2 / v_k and sigma^2 / v_k, [B or 1, K]."""
        if self.shape is not None and x.shape[1:] != self.means.shape[1:]:
            raise ValueError(f"this mixture is over {tuple(self.shape)}, got {tuple(x.shape[1:])}")
        noise = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1) ** 2
        spread = self.std.square()
        return x.double(), spread / (spread + noise), noise / (spread + noise)

    def _mean_space(self, elements: int) -> tuple[Tensor, Tensor]:
        """Return the means in an orthonormal basis of what they span, [K, R], and the basis, [R, d]."""
        if self.means.ndim == 1:
            root = elements**0.5
            return self.means[:, None] * root, self.means.new_full((1, elements), 1 / root)
        if self._space is None:
            left, values, right = torch.linalg.svd(self.means.flatten(1), full_matrices=False)
            rank = max(1, int((values > 1e-12 * values[0]).sum()))
            self._space = left[:, :rank] * values[:rank], right[:rank]
        return self._space

    def _responsibilities(self, x: Tensor, shrink: Tensor) -> Tensor:
        """Return r_k, [B, K]."""
        flat, variances = x.flatten(1), self.std.square() / shrink
        if self.means.ndim == 1:
            dots = flat.sum(1, keepdim=True) * self.means
            norms = flat.shape[1] * self.means.square()
        else:
            dots = flat @ self.means.flatten(1).T
            norms = self.means.flatten(1).square().sum(1)
        distances = flat.square().sum(1, keepdim=True) - 2 * dots + norms
        logits = self.weights.log() - flat.shape[1] / 2 * variances.log() - distances / (2 * variances)
        return logits.softmax(1)

    def _element_centres(self, x: Tensor, shrink: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Return r_k and m_k of each element by itself, [K, B, ...]."""

        def component(k: int) -> tuple[Tensor, Tensor]:
            rows = (-1, *(1,) * (x.ndim - 1))
            kept, mean = shrink[:, k].reshape(rows), self.means[k]
            v = self.std[k].square() / kept
            logit = self.weights[k].log() - v.log() / 2 - (x - mean).square() / (2 * v)
            return logit, kept * x + pull[:, k].reshape(rows) * mean

        logits, centres = (
            torch.stack(parts) for parts in zip(*map(component, range(len(self.means))), strict=True)
        )
        return logits.softmax(0), centres


def _shape(means: Tensor) -> Shape | None:
    """Return the (C, H, W) of the means, None where they are numbers and any shape serves."""
    if means.ndim == 1:
        return None
    channels, height, width = means.shape[1:]
    return channels, height, width
