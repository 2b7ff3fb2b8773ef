"""
A measurement of your own, from a file
======================================

There is no true image, only what an instrument gave: here a detector of 12 bits with dead pixels, as arrays in
files. The recipe says how it came about.
"""

import subprocess
from importlib.resources import files
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import daps_kit

# %%
# Two files, as they may come from an instrument: counts from 0 to 4095, and a mask of the pixels that work.

folder = Path("results/instrument")
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
scene = np.asarray(Image.open(files("daps_recipes") / "images" / "cat.png").convert("L"), float)[
    40:136, 20:116
]
counts = scene / 255 * 4095 + 120 * rng.standard_normal(scene.shape)
works = rng.random(scene.shape) > 0.3
np.save(folder / "counts.npy", np.where(works, counts, 0).clip(0, 4095).round().astype(np.uint16))
np.save(folder / "works.npy", works)

# %%
# ``white_level`` says which number is white, so that black is -1 and white 1; on that scale the noise is 2 x 120
# / 4095.

Path("results/instrument.yaml").write_text("""
format: 1
data: {use: measurement, path: instrument/counts.npy, white_level: 4095, image_shape: [1, 96, 96]}
prior: {use: photos_grey}
operator: {use: inpainting, mask: instrument/works.npy, noise: {use: gaussian, sigma: 0.0586}}
sampler: {use: daps, budget: fast}
runs: 4
output: results/instrument-run
""")

# %%
# ``check`` holds the file against what the operator gives, before anything is sampled.

print(subprocess.run(["daps-kit", "check", "results/instrument.yaml"], capture_output=True, text=True).stdout)

# %%
result = daps_kit.run("results/instrument.yaml", quiet=True)
samples = result.samples[0]

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
axes[0].imshow(np.load(folder / "counts.npy"), cmap="gray")
axes[0].set_title("counts")
axes[1].imshow(samples[0, 0], cmap="gray")
axes[1].set_title("a sample")
axes[2].imshow(result[0].mean[0], cmap="gray")
axes[2].set_title("mean of 4")
axes[3].imshow(samples.std(0)[0], cmap="magma", vmin=0)
axes[3].set_title("standard deviation")
for axis in axes:
    axis.axis("off")
plt.show()

# %%
# Without a truth, the residual tells whether the samples explain the measurement, and the samples themselves
# which noise it has, beside the one that was stated:

item = next(iter(result.metrics["images"].values()))
print(f"residual {item['samples'][0]['residual']:.2f}", item.get("noise"))
