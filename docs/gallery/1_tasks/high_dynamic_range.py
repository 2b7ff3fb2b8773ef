"""
Over-exposed
============

All that was brighter than half of white is white. The prior knows how light falls on a face; the standard
deviation shows that it does so only up to a point.
"""

import matplotlib.pyplot as plt

import daps_kit

result = daps_kit.run(
    "embedded/high_dynamic_range", ["runs=4", "sampler.budget=fast", "output=results/hdr"], quiet=True
)
truth, y, samples = result.truth[0], result.measurement[0], result.samples[0]

figure, axes = plt.subplots(1, 5, figsize=(10.5, 2.4), layout="constrained")
pictures = {"truth": truth, "measurement": y, "a sample": samples[0], "mean of 4": result[0].mean}
for axis, (title, image) in zip(axes, pictures.items(), strict=False):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
axes[4].imshow(samples.std(0).mean(0), cmap="magma", vmin=0)
axes[4].set_title("standard deviation")
for axis in axes:
    axis.axis("off")
plt.show()

# %%
# The samples are spread most where the measurement is clipped, bright or dark, and least where it is not.

clipped = (y.abs() > 0.9).all(0)
spread = samples.std(0).mean(0)
print(f"clipped in all colours: {clipped.float().mean():.0%} of the pixels")
print(f"standard deviation there {spread[clipped].mean():.3f}, elsewhere {spread[~clipped].mean():.3f}")
