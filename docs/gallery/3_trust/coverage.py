"""
Do intervals hold the truth?
============================

A sample of the posterior is an answer like others that the measurement allows; so the truth must look like one
more sample. Its rank among nine samples is then uniform, at every pixel. That can be counted where the truth is
known.
"""

import matplotlib.pyplot as plt
import torch

import daps_kit
from daps_kit.contracts import RandomStreams

# %%
# Four faces drawn from the prior, nine samples of each. For a recipe, ``daps-kit coverage my.yaml`` does the same
# and more.

shape, count, runs = (3, 64, 64), 4, 9
prior = daps_kit.build("prior", {"use": "embedded"})
section = {"use": "inpainting", "mask": "random", "mask_prob_range": [0.9, 0.91]}
operator = daps_kit.build("operator", section, shape=shape, seed=0)
truth = prior.sample(shape, RandomStreams(range(20, 20 + count)))
y = operator.measure(truth, RandomStreams(range(count)))
fast = {"use": "daps", "budget": "fast"}
samples = daps_kit.sample(prior, operator, y, sampler=fast, runs=runs, seed=0).samples

# %%
# The ranks, 0 to 9, and the share of truths between the smallest and the largest of the samples, which is due to
# be 8 / 10.

rank = (samples < truth[:, None]).sum(1)
share = torch.bincount(rank.flatten(), minlength=runs + 1) / rank.numel()
covered = ((samples.amin(1) <= truth) & (truth <= samples.amax(1))).float()
each = covered.mean((1, 2, 3))
print(
    f"covered {each.mean():.3f}, standard error {each.std() / count**0.5:.3f}, due {(runs - 1) / (runs + 1)}"
)

figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained", width_ratios=[1, 1, 1, 1.6])
axes[0].imshow((operator.to_image(y)[0].movedim(0, -1) + 1).clamp(0, 2) / 2)
axes[0].set_title("measurement")
axes[1].imshow((samples[0].mean(0).movedim(0, -1) + 1).clamp(0, 2) / 2)
axes[1].set_title("mean")
axes[2].imshow(1 - covered[0].mean(0), cmap="Reds", vmin=0, vmax=1)
axes[2].set_title("truth out of range")
axes[3].bar(range(runs + 1), share)
axes[3].axhline(1 / (runs + 1), color="tab:red")
axes[3].set(xlabel="rank of the truth", title="a flat histogram is right")
for axis in axes[:3]:
    axis.axis("off")
plt.show()

# %%
# A pile at both ends would be samples that are too alike, a hill in the middle samples that are too different.
