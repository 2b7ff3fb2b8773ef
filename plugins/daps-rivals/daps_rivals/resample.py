r"""ReSample: a latent diffusion whose guess is made to explain y now and then, and sampled again.

A step of DDIM without fresh noise to z'_s. After the first third of the steps, at every `every`-th of them and at the
last, the guess is made to explain the measurement,

    second third    x   = argmin ||y - A(x)||^2 from D(z0hat),         z0y = E(x)
    last third      z0y = argmin ||y - A(D(z))||^2 from z0hat

by steps of Adam until the misfit is that of the noise, ||y - A(.)||^2 < sigma_y^2 m for m measured numbers, and z_s is
drawn from the product of what DDIM and what the guess say of it, N(z'_s, nu) and N(a_s z0y, s_s^2):

    z_s ~ N((nu a_s z0y + s_s^2 z'_s) / (nu + s_s^2), nu s_s^2 / (nu + s_s^2)),
    nu  = gamma (s_s^2 / s_t^2) (1 - a_t^2 / a_s^2)

The last of all is z0y. For noise that is not Gaussian the squared norm is the noise model's misfit, and sigma_y^2 its
dispersion. With a prior over pixels D and E are the identity.

Source: Song, Kwon, Zhang, Hu, Qu and Shen, "Solving inverse problems with latent diffusion models via hard data
consistency", ICLR 2024, arXiv 2307.08123, Algorithm 1; nu, the thirds and numbers of steps as in its implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from daps_kit.linalg import per_sample

from .adam import Adam
from .rival import Level, Problem, Rival
from .vp import CLEAN, Time, ddim, times

__all__ = ["ReSample"]


class ReSample(Rival):
    """A latent diffusion with hard data consistency.

    Args:
        steps: of the diffusion; each is a network call.
        every: how many of them are from one data consistency to the next.
        pixel_steps, latent_steps: of Adam, at most, on images and on latents.
        pixel_lr, latent_lr: their sizes.
        gamma: how little z'_s counts.
    """

    name = "resample"
    takes_latents = True
    approximate = "guesses are made to fit y as closely as its noise allows, in place of draws"

    def __init__(
        self,
        steps: int,
        every: int,
        pixel_steps: int,
        latent_steps: int,
        pixel_lr: float,
        latent_lr: float,
        gamma: float,
    ) -> None:
        self.steps, self.every, self.gamma = steps, every, gamma
        self.pixel_steps, self.latent_steps = pixel_steps, latent_steps
        self.pixel_lr, self.latent_lr = pixel_lr, latent_lr

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        prior = problem.prior
        ts = times(self.steps, prior.sigma_range)
        z_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            z0hat = problem.denoise(z_t, t)
            z0y, z_s = z0hat, ddim(z_t, z0hat, t, s, 0.0, torch.zeros_like(z_t))
            left = len(ts) - 1 - i
            if s == CLEAN or (3 * left < 2 * len(ts) and left % self.every == 0):
                if 3 * left >= len(ts):
                    x = self._explain(
                        problem, prior.decode(z0hat), lambda x: x, self.pixel_steps, self.pixel_lr
                    )
                    z0y = prior.encode(x)
                else:
                    z0y = self._explain(problem, z0hat, prior.decode, self.latent_steps, self.latent_lr)
                if s != CLEAN:
                    z_s = self._resampled(problem, z0y, z_s, t, s)
            yield problem.level(i, len(ts), t, z_t, z0hat, z0y)
            z_t = z_s

    def _resampled(self, problem: Problem, z0y: Tensor, z_s: Tensor, t: Time, s: Time) -> Tensor:
        nu = self.gamma * (s.s / t.s) ** 2 * (1 - (t.a / s.a) ** 2)
        mean = (nu * s.a * z0y + s.s**2 * z_s) / (nu + s.s**2)
        return mean + math.sqrt(nu * s.s**2 / (nu + s.s**2)) * problem.noise()

    def _explain(
        self, problem: Problem, z: Tensor, decode: Callable[[Tensor], Tensor], steps: int, lr: float
    ) -> Tensor:
        """Return what z becomes on its way down the misfit of its image."""
        operator, y, adam = problem.operator, problem.y, Adam(lr)
        ones = torch.ones_like(y[:1])
        seen = ones if operator.observed is None else operator.project(ones)
        enough = problem.variance * float(seen.sum())
        for _ in range(steps):
            with torch.enable_grad():
                leaf = z.detach().requires_grad_()
                image = decode(leaf)
            misfit, gradient = operator.loss_grad(image.detach(), y)
            (pull,) = torch.autograd.grad(image, leaf, gradient) if image is not leaf else (gradient,)
            over = ~(per_sample(misfit, z) < enough)
            if not bool(over.any()):
                break
            z = torch.where(over, adam.step(z, pull), z)
        return z
