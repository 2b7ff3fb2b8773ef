"""
A latent model, from a tiny checkpoint
======================================

A latent prior diffuses a short code in place of the picture, and a decoder makes the picture of it. Any prior
with ``encode`` and ``decode`` is one. This one is small enough to be seen whole: a linear autoencoder of smooth
pictures, and a Gaussian over its codes, kept in a file of 20 kB.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from safetensors.torch import load_file, save_file

import daps_kit
from daps_kit.contracts import Prior, RandomStreams

# %%
# The checkpoint: twelve smooth patterns of 16 x 16 pixels as decoder, and the standard deviations of their
# weights.

place = torch.linspace(0, torch.pi, 16)
waves = [(i, j) for i in range(5) for j in range(5) if 0 < i + j < 5][:12]
patterns = torch.stack([torch.outer((i * place).cos(), (j * place).cos()) for i, j in waves])
decoder = torch.nn.functional.normalize(patterns.flatten(1), dim=1)
Path("results").mkdir(exist_ok=True)
scale = torch.tensor([4.0 / (i + j) for i, j in waves])
save_file({"decoder": decoder, "scale": scale}, "results/latent.safetensors")


class TinyLatent(Prior):
    """z ~ N(0, I), image = decoder^T (scale z), which is squashed into [-1, 1]."""

    shape = (1, 16, 16)

    def __init__(self, path):
        weights = load_file(path)
        self.decoder, self.scale = weights["decoder"], weights["scale"]

    def denoise(self, z, sigma):
        return z / (1 + torch.as_tensor(sigma).reshape(-1, 1, 1, 1) ** 2)  # E[z0 | z0 + sigma n]

    def state_shape(self, image_shape):
        return (len(self.scale), 1, 1)

    def decode(self, z):
        return ((self.scale * z.flatten(1)) @ self.decoder).tanh().reshape(-1, *self.shape)

    def encode(self, x):
        codes = x.clamp(-0.999, 0.999).atanh().flatten(1) @ self.decoder.T / self.scale
        return codes.reshape(-1, *self.state_shape(self.shape))


prior = TinyLatent("results/latent.safetensors")

# %%
# The sampler is the same as for pixels: what differs is that the measurement is seen through the decoder, which
# is not linear.

truth = prior.decode(torch.randn(1, 12, 1, 1, generator=torch.Generator().manual_seed(3)))
section = {"use": "inpainting", "mask": "random", "mask_prob_range": [0.9, 0.91]}
operator = daps_kit.build("operator", section, shape=prior.shape, seed=1)
y = operator.measure(truth, RandomStreams([0]))
samples = daps_kit.sample(prior, operator, y, runs=16, seed=0)[0].samples

figure, axes = plt.subplots(1, 6, figsize=(10.5, 2.1), layout="constrained")
pictures = {
    "truth": truth[0],
    "measurement": operator.to_image(y)[0],
    "a sample": samples[0],
    "another": samples[1],
}
pictures["mean of 16"] = samples.mean(0)
for axis, (title, image) in zip(axes, pictures.items(), strict=False):
    axis.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
    axis.set_title(title)
axes[5].imshow(samples.std(0)[0], cmap="magma", vmin=0)
axes[5].set_title("standard deviation")
for axis in axes:
    axis.axis("off")
plt.show()

print(
    f"error of the mean {(samples.mean(0) - truth[0]).abs().mean():.3f}, deviation {samples.std(0).mean():.3f}"
)

# %%
# Published latent models are priors of the package, once their files are there: ``prior: {use: ldm}`` and ``{use:
# stable_diffusion}``.
