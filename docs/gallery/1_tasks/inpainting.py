"""
A face behind a box
===================

A quarter of the picture is hidden. No measurement says what was there; a prior over faces knows what could have
been, and several samples show how much that leaves open.
"""

import matplotlib.pyplot as plt

import daps_kit


def show(columns, **pictures):
    """Show images [3, H, W] in [-1, 1] under their names."""
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2 * columns, 2.2 * rows), layout="constrained")
    for axis, (name, image) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
        axis.set_title(name.replace("_", " "))
        axis.axis("off")


# %%
# ``daps_kit.run`` runs a recipe, here one that comes with the package, and keeps everything in a folder. Keys are
# changed as on the command line.

result = daps_kit.run("embedded/inpainting_box", ["runs=6", "output=results/box"], quiet=True)
truth, y, samples = result.truth[0], result.measurement[0], result.samples[0]

# %%
# Every sample agrees with the pixels that were seen. Behind the box they differ: in the eyes, the nose, the
# mouth.

names = {f"sample_{run}": sample for run, sample in enumerate(samples, 1)}
show(4, truth=truth, measurement=y.nan_to_num(-1), **names)

# %%
# The mean of the samples is the answer with the least error, and smooth where they disagree. Their standard
# deviation draws the box: outside of it there is little left to know.

mean, deviation = result[0].mean, samples.std(0).mean(0)
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5), layout="constrained")
axes[0].imshow((mean.movedim(0, -1) + 1).clamp(0, 2) / 2)
axes[0].set_title("mean")
axes[1].imshow(deviation, cmap="magma", vmin=0, vmax=0.5)
axes[1].set_title("standard deviation")
axes[2].imshow((mean - truth).abs().mean(0), cmap="magma", vmin=0, vmax=0.5)
axes[2].set_title("error of the mean")
for axis in axes:
    axis.axis("off")
plt.show()
