"""
A denoiser of your own
======================

All that is asked of a prior is E[x0 | x0 + sigma n = x]. A network that was trained otherwise, to predict the
noise of a variance-preserving process, say, becomes one by two lines.
"""

import matplotlib.pyplot as plt
import torch

import daps_kit
from daps_kit.contracts import Prior, RandomStreams

# %%
# Stand-in for a network of yours: it is given x_t = sqrt(a) x0 + sqrt(1 - a) n and a, and predicts n. (Here it
# asks the prior that ships.)

inner = daps_kit.build("prior", {"use": "embedded"})


def epsilon_network(x_t, a):
    """Predict the noise in x_t."""
    sigma = ((1 - a) / a) ** 0.5
    return (x_t / a**0.5 - inner.denoise(x_t / a**0.5, sigma.flatten())) / sigma


# %%
# The prior around it. A noise level sigma, of x0 + sigma n, belongs to a = 1 / (1 + sigma^2), and x0 is what is
# left of x when the predicted noise is taken out.


class MyPrior(Prior):
    """Any epsilon network as a prior."""

    shape = (3, 64, 64)
    sigma_range = (0.01, 80.0)

    def denoise(self, x, sigma):
        sigma = torch.as_tensor(sigma).reshape(-1, 1, 1, 1)
        a = 1 / (1 + sigma**2)
        return x - sigma * epsilon_network(a.sqrt() * x, a)


prior = MyPrior()

# %%
# Is it a denoiser? Its error must fall with the noise and stay below it.

truth = inner.sample((3, 64, 64), RandomStreams(range(4)))
for sigma in (0.1, 0.5, 2.0):
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    error = (prior.denoise(truth + sigma * noise, sigma) - truth).square().mean().sqrt()
    print(f"noise {sigma}: error {error:.3f}")

# %%
# It does not know how large its own error is, and so the sampler takes sigma^2 and says so. ``daps-kit
# calibrate`` measures it on images, for shipped and trained priors, and then samples spread as they should.

operator = daps_kit.build("operator", {"use": "down_sampling", "scale_factor": 4}, shape=(3, 64, 64))
y = operator.measure(truth[:1], RandomStreams([0]))
samples = daps_kit.sample(prior, operator, y, runs=3, seed=0)[0].samples

figure, axes = plt.subplots(1, 5, figsize=(9.5, 2.3), layout="constrained")
for axis, image, title in zip(axes, (truth[0], y[0], *samples), ("truth", "y", *["sample"] * 3), strict=True):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
    axis.axis("off")
plt.show()
