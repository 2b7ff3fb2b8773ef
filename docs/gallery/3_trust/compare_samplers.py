"""
Two samplers, side by side
==========================

The published settings of DAPS make a hundred network calls a sample or more, with a step size for each task. This
package's own budget makes 21 and has none. Which is nearer to the truth, and which says better how uncertain it
is?
"""

import matplotlib.pyplot as plt
import torch

import daps_kit
from daps_kit.contracts import RandomStreams

# %%
# Three faces that are draws of the prior, a fair test of samplers, blurred by the same operator with the same
# noise.

shape = (3, 64, 64)
prior = daps_kit.build("prior", {"use": "embedded"})
operator = daps_kit.build(
    "operator", {"use": "gaussian_blur", "kernel_size": 15, "intensity": 2.0}, shape=shape
)
truth = prior.sample(shape, RandomStreams(range(3)))
y = operator.measure(truth, RandomStreams(range(3)))

samplers = {
    "published, 100 calls": {
        "use": "daps",
        "annealing": {
            "use": "edm",
            "levels": 50,
            "sigma_max": 100,
            "sigma_min": 0.1,
            "reach_sigma_min": False,
        },
        "ode": {"steps": 2, "sigma_min": 0.01},
        "spread": "sigma",
        "final_denoise": False,
        "kernel": {
            "use": "langevin",
            "steps": 100,
            "lr": 1e-4,
            "lr_min_ratio": 0.01,
            "reach_lr_min": False,
            "tau": 0.01 / 2**0.5,
        },
    },
    "budget: fast": {"use": "daps", "budget": "fast"},
    "budget: balanced": {"use": "daps", "budget": "balanced"},
}
samples = {
    name: daps_kit.sample(prior, operator, y, sampler=section, runs=2, seed=1).samples
    for name, section in samplers.items()
}

# %%
# Three numbers: the error of the mean, the error of a single sample, and the share of pixels whose truth lies
# between two samples, which for the right posterior is 1 / 3.

errors = {}
print(f"{'':22} PSNR of mean   of a sample   covered (due {1 / 3:.2f})")
for name, drawn in samples.items():
    errors[name] = (drawn.mean(1) - truth).square().mean((1, 2, 3))
    single = (drawn - truth[:, None]).square().mean((2, 3, 4)).mean(1)
    covered = ((drawn.amin(1) <= truth) & (truth <= drawn.amax(1))).float().mean()
    of_mean, of_sample = (10 * torch.log10(4 / e).mean() for e in (errors[name], single))
    print(f"{name:22} {of_mean:8.2f} dB {of_sample:10.2f} dB {covered:10.2f}")

# %%
# The faces are the same for all, so that differences are paired, with a standard error far smaller than that of
# either mean.

gain = 10 * torch.log10(errors["published, 100 calls"] / errors["budget: balanced"])
print(
    f"balanced against published: {gain.mean():+.2f} dB, standard error {gain.std() / len(gain) ** 0.5:.2f}"
)

figure, axes = plt.subplots(3, 5, figsize=(9, 5.6), layout="constrained")
for row, (name, drawn) in zip(axes, samples.items(), strict=True):
    pictures = (truth[0], y[0], drawn[0, 0], drawn[0, 1])
    for axis, image, title in zip(row, pictures, ("truth", "measurement", "sample", "sample"), strict=False):
        axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
        axis.set_title(title if row is axes[0] else "")
    row[4].imshow(drawn[0].std(0).mean(0), cmap="magma", vmin=0, vmax=0.3)
    row[4].set_title("std" if row is axes[0] else "")
    row[0].set_ylabel(name, fontsize=8)
    for axis in row:
        axis.set_xticks([])
        axis.set_yticks([])
plt.show()
