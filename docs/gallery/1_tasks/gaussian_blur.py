"""
Out of focus
============

A blur takes fine structure below the noise, never quite away. How much of it comes back depends on the noise: the
same blur is undone at three levels of it.
"""

from importlib.resources import files

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import RandomStreams
from daps_kit.images import load_image

truth = load_image(files("daps_recipes") / "images" / "cat.png")[None, :, 40:136, 20:116]
prior = daps_kit.build("prior", {"use": "photos"})

# %%
# With ``boundary: periodic`` the blur is a product in the Fourier domain and draws are exact at once; with
# ``reflect``, which photographs need, they are found by iteration.

figure, axes = plt.subplots(2, 4, figsize=(9, 4.8), layout="constrained")
axes[0, 0].imshow((truth[0].movedim(0, -1) + 1) / 2)
axes[0, 0].set_title("truth")
for column, sigma in zip(axes.T[1:], (0.03, 0.1, 0.3), strict=True):
    section = {"use": "gaussian_blur", "kernel_size": 15, "intensity": 2.0, "boundary": "periodic"}
    section["noise"] = {"use": "gaussian", "sigma": sigma}
    operator = daps_kit.build("operator", section, shape=truth.shape[1:])
    y = operator.measure(truth, RandomStreams([0]))
    fast = {"use": "daps", "budget": "fast"}
    posterior = daps_kit.sample(prior, operator, y, sampler=fast, runs=3, seed=0)[0]
    error = (posterior.mean - truth[0]).square().mean().sqrt()
    for axis, image in zip(column, (y[0], posterior.mean), strict=True):
        axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    column[0].set_title(rf"blurred, $\sigma = {sigma}$")
    column[1].set_title(f"error {error:.3f}")
for axis in axes.flat:
    axis.axis("off")
plt.show()
