"""
Four times the resolution
=========================

A photograph comes in at a sixteenth of its pixels. What its edges were like is mostly decided by what is left;
what its fur was like is not, so that each sample has fur of its own.
"""

from importlib.resources import files

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import RandomStreams
from daps_kit.images import load_image

# %%
# A crop of a photograph, and its measurement: coarser pixels, and a little noise.

truth = load_image(files("daps_recipes") / "images" / "cat.png")[None, :, 40:136, 20:116]
prior = daps_kit.build("prior", {"use": "photos"})
section = {"use": "down_sampling", "scale_factor": 4, "noise": {"use": "gaussian", "sigma": 0.02}}
operator = daps_kit.build("operator", section, shape=truth.shape[1:])
y = operator.measure(truth, RandomStreams([0]))

# %%
# The prior of photographs takes pictures of any size.

fast = {"use": "daps", "budget": "fast"}
posterior = daps_kit.sample(prior, operator, y, sampler=fast, runs=6, seed=0)[0]
samples = posterior.samples

figure, axes = plt.subplots(2, 3, figsize=(7.5, 5.2), layout="constrained")
pictures = {"truth": truth[0], "measurement": y[0], "mean of 6": posterior.mean}
pictures |= {f"sample {place}": sample for place, sample in enumerate(samples[:3], 1)}
for axis, (title, image) in zip(axes.flat, pictures.items(), strict=True):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# The mean is nearer to the truth than any sample, and has less of the texture.

error = [(image - truth[0]).square().mean().sqrt() for image in (posterior.mean, *samples)]
print(f"error of the mean {error[0]:.3f}, of the samples {min(error[1:]):.3f} to {max(error[1:]):.3f}")
