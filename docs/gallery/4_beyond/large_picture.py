"""
A picture larger than the prior
===============================

The face prior knows images of 64 x 64 pixels and nothing else. Of a larger picture overlapping windows are
denoised, and blended where they overlap: ``tiled`` makes any prior over pixels one of any size. The sampler sees
one picture.
"""

import matplotlib.pyplot as plt
import torch

import daps_kit
from daps_kit.contracts import RandomStreams

# %%
# A wall of four portraits, which are draws of the prior, and a measurement of one pixel in four.

faces = daps_kit.build("prior", {"use": "embedded"})
four = faces.sample((3, 64, 64), RandomStreams(range(30, 34)))
wall = torch.cat([torch.cat(tuple(four[:2]), 2), torch.cat(tuple(four[2:]), 2)], 1)[None]

section = {"use": "inpainting", "mask": "random", "mask_prob_range": [0.75, 0.76]}
operator = daps_kit.build("operator", section, shape=wall.shape[1:], seed=0)
y = operator.measure(wall, RandomStreams([0]))

# %%
# The windows need not know where the portraits are: each denoises what is in it. Without overlap every window is
# by itself, and here happens to meet a portrait; with overlap seams vanish, but windows between portraits see
# what no portrait is like. For photographs of any size there is a prior that takes them whole, ``photos``, whose
# memory grows with the picture; ``tiled`` bounds it.

priors = {
    "faces, windows of 64": {"use": "tiled", "of": {"use": "embedded"}, "overlap": 0},
    "photos, windows of 96": {"use": "tiled", "of": {"use": "photos"}, "window": 96, "overlap": 32},
    "photos, whole": {"use": "photos"},
}
figure, axes = plt.subplots(1, 5, figsize=(12, 2.8), layout="constrained")
pictures = [("truth", wall[0]), ("measurement", operator.to_image(y)[0])]
for name, settings in priors.items():
    prior = daps_kit.build("prior", settings, shape=wall.shape[1:])
    fast = {"use": "daps", "budget": "fast"}
    drawn = daps_kit.sample(prior, operator, y, sampler=fast, runs=1, seed=0)[0].samples
    error = (drawn[0] - wall[0]).square().mean().sqrt()
    pictures.append((f"{name}: {error:.3f}", drawn[0]))
for axis, (title, image) in zip(axes, pictures, strict=True):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title, fontsize=9)
    axis.axis("off")
plt.show()
