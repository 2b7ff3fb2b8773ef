"""
Physics of deepinv
==================

deepinv has forward models of many instruments. The plugin ``daps-deepinv`` makes any of them an operator: here
tomography, of 20 angles.
"""

from importlib.util import find_spec

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import RandomStreams

# %%
# The plugin is a distribution of its own: ``pip install plugins/daps-deepinv``. Where it is not installed this
# page has no picture.

installed = find_spec("daps_deepinv") is not None
print("daps-deepinv is installed" if installed else "daps-deepinv is not installed: nothing is computed here")

# %%
# Its operators are built, measured and sampled like any other.

if installed:
    shape = (3, 64, 64)
    prior = daps_kit.build("prior", {"use": "embedded"})
    truth = prior.sample(shape, RandomStreams([14]))
    section = {
        "use": "deepinv",
        "physics": "Tomography",
        "arguments": {"angles": 20, "normalize": True},
        "noise": {"use": "GaussianNoise", "sigma": 0.02},
    }
    operator = daps_kit.build("operator", section, shape=shape)
    y = operator.measure(truth, RandomStreams([0]))
    fast = {"use": "daps", "budget": "fast"}
    posterior = daps_kit.sample(prior, operator, y, sampler=fast, runs=3, seed=0)[0]
    samples = posterior.samples

    figure, axes = plt.subplots(1, 5, figsize=(10.5, 2.4), layout="constrained")
    pictures = {
        "truth": truth[0],
        "measurement, back-projected": operator.to_image(y)[0],
        "a sample": samples[0],
    }
    pictures["mean of 3"] = posterior.mean
    for axis, (title, image) in zip(axes, pictures.items(), strict=False):
        axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
        axis.set_title(title, fontsize=9)
    axes[4].imshow(samples.std(0).mean(0), cmap="magma", vmin=0)
    axes[4].set_title("standard deviation", fontsize=9)
    for axis in axes:
        axis.axis("off")
    plt.show()
