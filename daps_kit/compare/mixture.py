r"""A prior that is a mixture of Gaussians: denoiser, Cov[x0 | x_t] and posterior in closed form.

x0 ~ sum_k w_k N(m_k, C_k). With C_k = Q_k diag(l_k) Q_k^T and v_k = l_k + sigma^2,

    r_k         proportional to w_k N(x_t; m_k, C_k + sigma^2 I)
    E[x0 | x_t] = sum_k r_k e_k,    e_k = m_k + Q_k (l_k / v_k) Q_k^T (x_t - m_k)
    Cov         = sum_k r_k (Q_k diag(l_k sigma^2 / v_k) Q_k^T + (e_k - E)(e_k - E)^T)

and the posterior is the mixture of the components' posteriors, weighted by w_k N(y; A m_k, A C_k A^T + sigma_y^2 I).
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import Prior, RandomStreams

from .matrix import Dense, Matrix

__all__ = ["MixtureOfGaussians"]

DRAWS = 2000


class MixtureOfGaussians(Prior):
    """x0 ~ sum_k w_k N(m_k, C_k) over images [1, 1, d], in double precision.

    Args:
        means: m_k, [K, d].
        covariances: C_k, [K, d, d].
        weights: w_k, [K].
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor) -> None:
        self.means, self.weights = means.double(), weights.double() / weights.sum()
        self.covariances = covariances.double()
        self._values, self._vectors = torch.linalg.eigh(self.covariances)
        self.shape = (1, 1, means.shape[1])
        self._known: dict[float, Dense] = {}

    def _parts(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return r_k [B, K], e_k [B, K, d] and sigma^2 [B or 1, 1, 1]."""
        flat = x.double().flatten(1)[:, None] - self.means.to(x.device)
        noise = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1, 1) ** 2
        vectors, values = self._vectors.to(x.device), self._values.to(x.device)
        z = torch.einsum("bkd,kde->bke", flat, vectors)
        spread = values + noise
        logs = self.weights.log().to(x.device) - (z.square() / spread + spread.log()).sum(2) / 2
        guess = self.means.to(x.device) + torch.einsum("bke,kde->bkd", values / spread * z, vectors)
        return logs.softmax(1), guess, noise

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x_t = x]."""
        share, guess, _ = self._parts(x, sigma)
        return (share[..., None] * guess).sum(1).reshape(x.shape).to(x.dtype)

    @torch.no_grad()
    def _covariances(self, x: Tensor, sigma: float) -> Tensor:
        share, guess, noise = self._parts(x, sigma)
        vectors, values = self._vectors.to(x.device), self._values.to(x.device)
        within = torch.einsum("kde,ke,kfe->kdf", vectors, (values * noise / (values + noise))[0], vectors)
        apart = guess - (share[..., None] * guess).sum(1, keepdim=True)
        between = torch.einsum("bk,bkd,bkf->bdf", share, apart, apart)
        return torch.einsum("bk,kdf->bdf", share, within) + between

    def conditional_covariance(self, x: Tensor, sigma: float) -> Dense:
        """Return Cov[x0 | x_t = x]."""
        return Dense(self._covariances(x, sigma))

    def denoising_covariance(self, sigma: float) -> Dense:
        """Return its mean over x_t, by draws of x_t."""
        if sigma not in self._known:
            draw = torch.Generator().manual_seed(0)
            x0 = self.draw(DRAWS, draw)
            x_t = x0 + sigma * torch.randn(x0.shape, generator=draw, dtype=torch.float64)
            self._known[sigma] = Dense(self._covariances(x_t[:, None, None], sigma).mean(0))
        return self._known[sigma]

    def components(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw components, [N]."""
        return torch.multinomial(self.weights, count, replacement=True, generator=generator)

    def place(self, components: Tensor, normal: Tensor) -> Tensor:
        """Return m_k + C_k^{1/2} z, [N, d], for components k [N] and z [N, d]."""
        placed = torch.empty_like(normal)
        for k, (mean, vectors, values) in enumerate(
            zip(self.means, self._vectors, self._values, strict=True)
        ):
            here = components == k
            placed[here] = mean + normal[here] @ (vectors * values.clamp_min(0).sqrt()).T
        return placed

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw x0, [N, d]."""
        components = self.components(count, generator)
        normal = torch.randn((count, self.means.shape[1]), generator=generator, dtype=torch.float64)
        return self.place(components, normal)

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw exactly."""
        seeds = (streams.uniform((), torch.float64) * 2**53).long().tolist()
        drawn = [self.draw(1, torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(drawn)[:, None, None]

    def given(self, operator: Matrix, y: Tensor) -> MixtureOfGaussians:
        """Return p(x0 | y), a mixture, too."""
        a, noise = operator.matrix, operator.sigma**2
        cross = self.covariances @ a.T  # C A^T
        evidence = a @ cross + noise * torch.eye(len(a), dtype=torch.float64)
        gain = torch.linalg.solve(evidence, cross.mT).mT
        apart = y.double() - self.means @ a.T
        misfit = (apart * torch.linalg.solve(evidence, apart)).sum(1)
        logs = -(misfit + torch.linalg.slogdet(evidence).logabsdet) / 2
        covariances = self.covariances - gain @ cross.mT
        means = self.means + torch.einsum("kdm,km->kd", gain, apart)
        return MixtureOfGaussians(
            means, (covariances + covariances.mT) / 2, (self.weights.log() + logs).softmax(0)
        )
