"""
A shaken camera
===============

Each point of the picture became a short stroke. Whoever knows the stroke, from a star or a lamp in the picture,
say, can undo it.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import daps_kit
from daps_kit.contracts import RandomStreams

# %%
# A stroke of one's own, as a file: the picture of a point. Its grey values are scaled to sum 1.

t = np.linspace(0, 1, 400)
stroke, _, _ = np.histogram2d(7 + 5 * np.sin(3 * t), 7 + 6 * (t - 0.5) * 2, bins=15, range=[[0, 15], [0, 15]])
Path("results").mkdir(exist_ok=True)
np.save("results/stroke.npy", stroke)

shape = (3, 64, 64)
prior = daps_kit.build("prior", {"use": "embedded"})
section = {"use": "motion_blur", "kernel": "results/stroke.npy", "noise": {"use": "gaussian", "sigma": 0.03}}
operator = daps_kit.build("operator", section, shape=shape)
truth = prior.sample(shape, RandomStreams([11]))
y = operator.measure(truth, RandomStreams([0]))

# %%
fast = {"use": "daps", "budget": "fast"}
posterior = daps_kit.sample(prior, operator, y, sampler=fast, runs=6, seed=0)[0]
samples = posterior.samples

figure, axes = plt.subplots(1, 6, figsize=(11, 2.2), layout="constrained")
axes[0].imshow(stroke, cmap="gray")
axes[0].set_title("the stroke")
pictures = {"truth": truth[0], "measurement": y[0], "a sample": samples[0], "mean of 6": posterior.mean}
for axis, (title, image) in zip(axes[1:], pictures.items(), strict=False):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
axes[5].imshow(samples.std(0).mean(0), cmap="magma", vmin=0)
axes[5].set_title("standard deviation")
for axis in axes:
    axis.axis("off")
plt.show()

# %%
# A kernel may be the picture of a point or its mirror image, by another custom. The wrong one leaves a residual
# that no noise explains.

section["kernel_is"] = "correlation"
mirrored = daps_kit.build("operator", section, shape=shape)
wrong = daps_kit.sample(prior, mirrored, y, sampler=fast, runs=1, seed=0)[0].samples
print(f"residual with the stroke {operator.residual(samples[:1], y).item():.2f}", end=", ")
print(f"with its mirror image {mirrored.residual(wrong, y).item():.2f}")
