"""
A scratched photograph, by one command
======================================

``daps-kit restore`` needs no recipe: a photograph, and a picture of what covers it. What was not covered stays as
it is, to the last bit.
"""

import subprocess
from importlib.resources import files
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

# %%
# Scratches, drawn over a photograph. The mask is white where they are.

photo = Image.open(files("daps_recipes") / "images" / "cat.png").convert("RGB").crop((16, 24, 144, 152))
mask = Image.new("L", photo.size)
pen, rng = ImageDraw.Draw(mask), np.random.default_rng(4)
for _ in range(6):
    points = np.cumsum(rng.normal(0, 22, (7, 2)), 0) + rng.uniform(20, 108, 2)
    pen.line([tuple(point) for point in points], fill=255, width=3)
Path("results").mkdir(exist_ok=True)
mask.save("results/scratches.png")
scratched = Image.composite(Image.new("RGB", photo.size, "white"), photo, mask)
scratched.save("results/scratched.png")

# %%
command = "daps-kit restore scratched.png --mask scratches.png --samples 3 --budget fast --output repaired"
subprocess.run(command.split(), cwd="results", check=True, capture_output=True)

repaired = Image.open("results/repaired/scratched.png")
figure, axes = plt.subplots(1, 4, figsize=(10.5, 2.8), layout="constrained")
uncertainty = Image.open("results/repaired/scratched/uncertainty.png")
pictures = {"before": scratched, "after": repaired, "never scratched": photo, "uncertainty": uncertainty}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(title)
    axis.axis("off")
plt.show()

covered = np.asarray(mask) > 0
changed = (np.asarray(repaired) != np.asarray(scratched)).any(-1)
print(f"pixels changed outside of the scratches: {(changed & ~covered).sum()}")
