"""
Phase retrieval of a measurement of your own
============================================

A detector counted photons of a diffraction pattern: intensities, not moduli, with frequency 0 in the corner, as
``numpy.fft`` has it. All of these are conventions of the operator, and its noise is that of photons.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import daps_kit
from daps_kit.contracts import RandomStreams

# %%
# The measurement as it may come: the intensity of the transform of a picture on [0, 1], in the corner of a frame
# of twice its size. Only the file is used from here on.

prior = daps_kit.build("prior", {"use": "embedded"})
face = (prior.sample((3, 64, 64), RandomStreams([8]))[0].numpy().clip(-1, 1) + 1) / 2
wave = np.fft.fft2(face, s=(128, 128), norm="ortho")
rng = np.random.default_rng(0)
modulus = abs(wave) + 0.05 * rng.standard_normal(wave.shape)
Path("results").mkdir(exist_ok=True)
np.save("results/diffraction.npy", modulus.astype(np.float32))

# %%
# ``oversample: 4`` pads by half of the picture on each side, which is twice its size; ``centred: false`` is
# frequency 0 in the corner.

Path("results/diffraction.yaml").write_text("""
format: 1
data: {use: measurement, path: diffraction.npy}
prior: {use: embedded}
operator: {use: phase_retrieval, oversample: 4, centred: false, noise: {use: gaussian, sigma: 0.05}}
sampler: {use: daps, budget: fast}
runs: 4
output: results/diffraction
""")
result = daps_kit.run("results/diffraction.yaml", quiet=True)
samples = result.samples[0]

# %%
# The file knows nothing of left and right: a picture and its half-turn give the same counts. Upright faces are
# far more probable under the prior.

figure, axes = plt.subplots(1, 6, figsize=(11.5, 2.4), layout="constrained")
axes[0].imshow(np.log(np.fft.fftshift(np.load("results/diffraction.npy").mean(0)).clip(1e-2)), cmap="gray")
axes[0].set_title("measured (log)")
scores = next(iter(result.metrics["images"].values()))["samples"]
for axis, sample, score in zip(axes[1:5], samples, scores, strict=True):
    axis.imshow((sample.movedim(0, -1) + 1).clamp(0, 2) / 2)
    axis.set_title(f"residual {score['residual']:.2f}")
axes[5].imshow(face.transpose(1, 2, 0))
axes[5].set_title("what was there")
for axis in axes:
    axis.axis("off")
plt.show()
