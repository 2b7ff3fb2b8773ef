"""
A plugin in a file
==================

An operator that recipes can name needs no package: a function with typed, defaulted arguments, in a file that the
recipe names. Its arguments are the settings, known to ``check``, ``show`` and the schema like those of any
component.
"""

from pathlib import Path

import matplotlib.pyplot as plt

import daps_kit

# %%
# The file: corners that fade, as in an old lens.

Path("results").mkdir(exist_ok=True)
Path("results/vignette.py").write_text('''
from typing import Annotated

import torch
from pydantic import Field

import daps_kit


@daps_kit.operator(linear=True)
def vignette(x, strength: Annotated[float, Field(ge=0, le=1)] = 0.5):
    """Corners that fade to grey.

    Args:
        strength: share of the contrast that is lost in the corners
    """
    rows, columns = (torch.linspace(-1, 1, n, dtype=x.dtype, device=x.device) for n in x.shape[-2:])
    return x * (1 - strength * (rows[:, None] ** 2 + columns**2) / 2)
''')

# %%
# The recipe names the file, and then the operator like any other. A file of Python is executed: read those of
# others first.

Path("results/vignette.yaml").write_text("""
format: 1
plugins: [vignette.py]
extends: parts/embedded
operator: {use: vignette, strength: 1, noise: {use: gaussian, sigma: 0.1}}
sampler: {use: daps, budget: fast}
runs: 6
output: results/vignette
""")
result = daps_kit.run("results/vignette.yaml", quiet=True)
truth, y, samples = result.truth[0], result.measurement[0], result.samples[0]

# %%
# The corners were measured with the same noise and less contrast: the samples differ there.

figure, axes = plt.subplots(1, 5, figsize=(10.5, 2.4), layout="constrained")
pictures = {"truth": truth, "measurement": y, "a sample": samples[0], "mean of 6": result[0].mean}
for axis, (title, image) in zip(axes, pictures.items(), strict=False):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(title)
axes[4].imshow(samples.std(0).mean(0), cmap="magma", vmin=0)
axes[4].set_title("standard deviation")
for axis in axes:
    axis.axis("off")
plt.show()
