r"""What a level draws from: p(x0 | x_t, y), proportional to N(x0; centre, C) p(y | x0), as the settings have it.

The centre is the prior's score, the covariance what the prior leaves open, and the likelihood that of the stated noise,
or exp(-loss / (2 tau^2)).

    prior_score   gaussian    centre x0hat
                  score-t     centre E[x0 | x_t]
                  score-min   centre x_t + sigma^2 score(x0hat, prior_sigma_min)
                  exact       no Gaussian but p(x_t | x0) and the score at prior_sigma_min, asked at every step
    spread        sigma       C = sigma^2 I, the published choice: wider than the prior's true uncertainty
                  calibrated  C = Cov[x0 | x_t] as the prior knows it; sigma^2 I where it does not
                  mean        that averaged over x_t: the same at every place and in every sample
                  isotropic   the mean variance, averaged over x_t, in all directions
                  auto        calibrated where it holds, that is where x0hat = E[x0 | x_t]; else sigma

Source: Zhang et al., arXiv 2407.01521, eq. (7) and section 3.1, for `gaussian` with `sigma`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Operator, Prior, Target
from daps_kit.covariance import Isotropic

from .ode import ProbabilityFlow
from .target import ExactScoreTarget, GaussianTarget
from .whitened import random_signs

__all__ = ["Conditional", "PriorScore", "Spread", "mean_variance"]

PriorScore = Literal["gaussian", "score-t", "score-min", "exact"]
Spread = Literal["auto", "sigma", "calibrated", "mean", "isotropic"]
OWN = ("calibrated", "mean", "isotropic")
"""Those that need what the prior knows of its error."""


@dataclass(frozen=True)
class Conditional:
    """The target of a level.

    Attributes:
        ode: how x0hat was found.
        prior_score, prior_sigma_min, spread: see above.
        tau: standard deviation of the likelihood; None is the noise model's own.
    """

    ode: ProbabilityFlow
    prior_score: PriorScore = "gaussian"
    prior_sigma_min: float = 0.01
    spread: Spread = "auto"
    tau: float | None = None

    def __post_init__(self) -> None:
        if self.spread not in ("auto", "sigma") and self.prior_score in ("score-min", "exact"):
            raise ValueError(
                f"prior_score '{self.prior_score}' fixes the spread; '{self.spread}' cannot go with it"
            )
        if self.spread == "auto":
            direct = self.ode.steps == 0 and self.prior_score in ("gaussian", "score-t")
            object.__setattr__(self, "spread", "calibrated" if direct else "sigma")

    @property
    def calls(self) -> int:
        """Calls of the denoiser at a level, those of x0hat included; `exact` makes more, one a step of the kernel."""
        centre = self.prior_score in ("score-t", "score-min") and self.ode.steps > 0
        return self.ode.calls + centre

    def covariance(
        self, prior: Prior, x_t: Tensor, sigma: float, x0hat: Tensor | None = None
    ) -> Covariance | None:
        """Return the prior's account of its denoising error, where it is asked for and there is one.

        Args:
            prior: the prior.
            x_t: the noisy state, [B, ...].
            sigma: its noise level.
            x0hat: the guess of x0 given x_t, where it is at hand.
        """
        if self.spread == "mean":
            return prior.mean_covariance(x_t, sigma)
        if self.spread == "calibrated":
            if x0hat is None or not self.ode.direct(prior, sigma):
                return prior.conditional_covariance(x_t, sigma)
            return prior.covariance_around(x_t, x0hat, sigma)
        known = prior.denoising_covariance(sigma) if self.spread == "isotropic" else None
        return None if known is None else Isotropic(mean_variance(known, x_t))

    def averaged(self, prior: Prior, x_t: Tensor, sigma: float) -> Covariance | None:
        """Return the mean over images of the covariance, where that at x_t is guessed; None where it is not."""
        guessed = self.spread == "calibrated" and prior.local_errors is not None
        return prior.mean_covariance(x_t, sigma) if guessed else None

    def centre(self, prior: Prior, x_t: Tensor, x0hat: Tensor, sigma: float) -> Tensor:
        """Return the mean of p(x0 | x_t), [B, ...]."""
        if self.prior_score == "score-t" and not self.ode.direct(prior, sigma):
            return prior.denoise(x_t, sigma)
        if self.prior_score == "score-min":
            return x_t + sigma**2 * prior.score(x0hat, self._sigma_min(prior))
        return x_t if self.prior_score == "exact" else x0hat

    def target(
        self,
        prior: Prior,
        operator: Operator,
        y: Tensor,
        x_t: Tensor,
        x0hat: Tensor,
        sigma: float,
        level: int = 0,
        levels: int = 1,
    ) -> Target:
        """Return p(x0 | x_t, y) at one level.

        Args:
            prior: the prior.
            operator: the operator as a function of x0; see `of_states`.
            y: the measurement.
            x_t, x0hat: the noisy state and the prior's guess, [B, ...].
            sigma: noise level of x_t.
            level, levels: index of the level and how many there are.
        """
        covariance = self.covariance(prior, x_t, sigma, x0hat)
        if covariance is None:
            covariance = Isotropic(torch.tensor(sigma**2, dtype=x_t.dtype, device=x_t.device))
        target = GaussianTarget(
            self.centre(prior, x_t, x0hat, sigma),
            covariance,
            operator,
            y,
            sigma=sigma,
            level=level,
            levels=levels,
            likelihood_variance=operator.noise.dispersion if self.tau is None else self.tau**2,
        )
        return (
            ExactScoreTarget(target, prior, self._sigma_min(prior)) if self.prior_score == "exact" else target
        )

    def _sigma_min(self, prior: Prior) -> float:
        return min(max(self.prior_sigma_min, prior.sigma_range[0]), prior.sigma_range[1])


def mean_variance(covariance: Covariance, like: Tensor) -> Tensor:
    """Return tr(C) / d, by the mean of |C^{1/2} v|^2 / d over 16 vectors of random signs, always the same ones."""
    return covariance.sqrt(random_signs(16, like)).square().mean()
