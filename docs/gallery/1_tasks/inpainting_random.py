"""
Three pixels of ten
===================

Seven of ten pixels were never measured, here and there. What lies between the others is nearly decided by them, far
more than behind a box; how nearly, the interval of each pixel says.
"""

import matplotlib.pyplot as plt

import daps_kit

result = daps_kit.run("embedded/inpainting_random", ["runs=8", "output=results/random"], quiet=True)
posterior = result[0]
truth, y = result.truth[0], result.measurement[0]
low, high = posterior.quantile(0.05), posterior.quantile(0.95)

# %%
# What was measured has noise, and what was not is 0. The mean of the samples has neither noise nor holes.

pictures = {
    "truth": truth,
    "measurement": y,
    "a sample": posterior.samples[0],
    "mean": posterior.mean,
}
figure, axes = plt.subplots(1, 5, figsize=(10.4, 2.4), layout="constrained")
for axis, (name, image) in zip(axes, pictures.items(), strict=False):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(name)
drawn = axes[-1].imshow((high - low).mean(0), cmap="magma", vmin=0)
axes[-1].set_title("width of the interval")
figure.colorbar(drawn, ax=axes[-1], shrink=0.8)
for axis in axes:
    axis.axis("off")
plt.show()

# %%
# The samples along a row through the eyes, and the truth: the interval is narrow where a neighbour was measured, and
# wide where edges may lie here or there.

row, green = 28, 1
seen = y[green, row].nonzero().flatten()
figure, axis = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
axis.fill_between(range(64), low[green, row], high[green, row], alpha=0.35, label="5 to 95 %")
axis.plot(truth[green, row], "k", lw=1, label="truth")
axis.plot(seen, y[green, row, seen], "o", ms=3, label="measured")
axis.set(xlabel="column", ylabel="green", xlim=(0, 63))
axis.legend(ncols=3, fontsize=8, frameon=False)
plt.show()
