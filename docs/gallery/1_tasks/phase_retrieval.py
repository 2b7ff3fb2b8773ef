"""
From the modulus of a Fourier transform
=======================================

In diffraction a detector counts the light of a Fourier transform; its phase is lost. Pictures turned by half a
turn give the same measurement, so that there are several answers, far apart.
"""

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import RandomStreams

shape = (3, 64, 64)
prior = daps_kit.build("prior", {"use": "embedded"})
operator = daps_kit.build("operator", {"use": "phase_retrieval", "oversample": 2.0}, shape=shape)
truth = prior.sample(shape, RandomStreams([3]))
y = operator.measure(truth, RandomStreams([0]))

# %%
# The sampler starts each sample four times, and goes on from the start that explains the measurement best.

fast = {"use": "daps", "budget": "fast"}
samples = daps_kit.sample(prior, operator, y, sampler=fast, runs=4, seed=0)[0].samples
residuals = operator.residual(samples, y.expand(4, -1, -1, -1))

figure, axes = plt.subplots(1, 6, figsize=(11.5, 2.4), layout="constrained")
pictures = [("truth", truth[0]), ("measurement", operator.to_image(y)[0])]
pictures += [
    (f"residual {residual:.2f}", sample) for residual, sample in zip(residuals, samples, strict=True)
]
for axis, (title, image) in zip(axes, pictures, strict=True):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# A residual of about 1 is a right answer; a larger one is a wrong mode, and can be told without the truth.
