"""
A blur that is not linear
=========================

Cameras blur in linear light, and saturate: a bright lamp leaves a white stroke. The operator ``nonlinear_blur``
is a network that learnt this. Nothing about it is special to the sampler, which needs no more than derivatives.
"""

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import RandomStreams

shape = (3, 64, 64)
prior = daps_kit.build("prior", {"use": "embedded"})
operator = daps_kit.build("operator", {"use": "nonlinear_blur"}, shape=shape, seed=1)
truth = prior.sample(shape, RandomStreams([5]))
y = operator.measure(truth, RandomStreams([0]))

# %%
# For an operator that is not linear draws are made by *randomise-then-optimise*: the minimiser of a randomly
# perturbed misfit is a sample.

fast = {"use": "daps", "budget": "fast"}
posterior = daps_kit.sample(prior, operator, y, sampler=fast, runs=3, seed=0)[0]
samples = posterior.samples

figure, axes = plt.subplots(1, 6, figsize=(11, 2.2), layout="constrained")
pictures = {
    "truth": truth[0],
    "measurement": y[0],
    "a sample": samples[0],
    "another": samples[1],
    "mean": posterior.mean,
}
for axis, (title, image) in zip(axes, pictures.items(), strict=False):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
axes[5].imshow(samples.std(0).mean(0), cmap="magma", vmin=0)
axes[5].set_title("standard deviation")
for axis in axes:
    axis.axis("off")
plt.show()
print(f"residual {operator.residual(samples, y.expand(3, -1, -1, -1)).mean():.2f}")
