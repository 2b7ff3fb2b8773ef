"""
Noise of photons, and outliers
==============================

The noise model says how far to trust each number. With few photons dark places are measured better than bright
ones; with dead pixels a few numbers are far off, and a Gaussian would believe them.
"""

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import RandomStreams

shape = (3, 64, 64)
prior = daps_kit.build("prior", {"use": "embedded"})
truth = prior.sample(shape, RandomStreams([2]))

# %%
# The same measurement, twice: with the noise model that it was made by, and with a Gaussian of the same standard
# deviation.

noises = {
    "twenty photons": {"use": "poisson", "peak": 20},
    "outliers": {"use": "student_t", "scale": 0.1, "dof": 1.5},
}
figure, axes = plt.subplots(2, 4, figsize=(8.4, 4.6), layout="constrained")
for row, (name, noise) in zip(axes, noises.items(), strict=True):
    own = daps_kit.build("operator", {"use": "identity", "noise": noise}, shape=shape)
    y = own.measure(truth, RandomStreams([1]))
    sigma = float((y - truth).std())
    gaussian = {"use": "identity", "noise": {"use": "gaussian", "sigma": sigma}}
    as_gaussian = daps_kit.build("operator", gaussian, shape=shape)
    pictures = [("truth", truth[0]), (name, y[0])]
    for operator, title in ((as_gaussian, "as Gaussian"), (own, "as it is")):
        fast = {"use": "daps", "budget": "fast"}
        posterior = daps_kit.sample(prior, operator, y, sampler=fast, runs=2, seed=0)[0]
        error = (posterior.mean - truth[0]).square().mean().sqrt()
        pictures.append((f"{title}: error {error:.3f}", posterior.mean))
    for axis, (title, image) in zip(row, pictures, strict=True):
        axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
plt.show()
