"""
A posterior that is known
=========================

Whether a sampler is right can be seen where the answer is known. Here images have two pixels, the prior is a
mixture of Gaussians on a ring, whose denoiser is exact, and the posterior is computed on a grid.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import daps_kit
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.noise import GaussianNoise

# %%
# The prior reads its means from a file, [K, C, H, W]; the measurement is the mean of the two pixels.

angle = torch.arange(16) * (torch.pi / 8)
means = 0.75 * torch.stack([angle.cos(), angle.sin()], 1)
Path("results").mkdir(exist_ok=True)
np.save("results/ring.npy", means.reshape(16, 2, 1, 1).numpy())
prior = daps_kit.build("prior", {"use": "mixture", "means": "results/ring.npy", "std": 0.13}, shape=(2, 1, 1))


class Mean(LinearOperator):
    """y = (x_1 + x_2) / 2."""

    def forward(self, x):
        return x.mean(1, keepdim=True)


operator, value = Mean((2, 1, 1), GaussianNoise(0.08)), 0.1

# %%
# Five hundred chains at once, each with a random stream of its own, level by level. A sampler is an iterator over
# levels: ``x_t`` is the noisy state it began with, ``x0y`` the draw that knows the measurement.

count = 500
sampler = daps_kit.build("sampler", {"use": "daps", "budget": "accurate"})
steps = list(
    sampler.sample(prior, operator, torch.full((count, 1, 1, 1), value), RandomStreams(range(count)))
)

grid = torch.linspace(-1.5, 1.5, 301)
second, first = torch.meshgrid(grid, grid, indexing="ij")
place = torch.stack([first, second], -1)
posterior = (-((place[:, :, None] - means) ** 2).sum(-1) / (2 * 0.13**2)).exp().sum(-1)
posterior *= (-(((first + second) / 2 - value) ** 2) / (2 * 0.08**2)).exp()
posterior /= posterior.sum()

figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained", sharex=True, sharey=True)
for axis, sigma in zip(axes, (1, 0.4, 0.15, 0), strict=True):
    step = min(steps, key=lambda step: abs(step.sigma - sigma))
    axis.contour(
        first, second, posterior / posterior.max(), [0.1, 0.4, 0.8], colors="tab:red", linewidths=0.8
    )
    axis.scatter(*step.x_t.flatten(1).T, s=2, color="lightslategray")
    axis.scatter(*step.x0y.flatten(1).T, s=2, color="tab:blue")
    axis.set(title=rf"$\sigma = {step.sigma:.2g}$", aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
plt.show()

# %%
# Do the draws of the last level have the posterior's distribution? Along the line x_1 - x_2 it has two modes; the
# histogram of the draws lies on the curve, but for a few draws in between that the last levels have not yet
# moved.

difference = steps[-1].x0y.flatten(1) @ torch.tensor([1.0, -1.0])
edges = torch.linspace(-2, 2, 41)
exact, _ = np.histogram((first - second).flatten(), bins=edges, weights=posterior.flatten())
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.hist(
    difference, bins=edges, weights=np.full(count, 1 / count), color="tab:blue", alpha=0.5, label="samples"
)
axis.stairs(exact, edges, color="tab:red", label="posterior")
axis.set(xlabel="$x_1 - x_2$", ylabel="share")
axis.legend()
plt.show()

share = float((difference > 0).float().mean())
print(f"share of the lower mode: {share:.3f}, in the posterior {exact[20:].sum():.3f}")
