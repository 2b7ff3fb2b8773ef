"""
An operator of your own, in five lines
======================================

A picture is measured through stripes: of each pair of columns only the sum is known. There is no component for
that, and none is needed: a class with ``forward`` is an operator. Since it is linear, the adjoint comes by
itself.
"""

import matplotlib.pyplot as plt

import daps_kit
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.noise import GaussianNoise
from daps_kit.testing import check_operator

# %%
# The five lines:


class Pairs(LinearOperator):
    """y[i] = x[2 i] + x[2 i + 1], along each row."""

    def forward(self, x):
        return x[..., 0::2] + x[..., 1::2]


# %%
# A prior, a face to measure, and its measurement with noise. In earnest ``y`` would be yours.

shape = (3, 64, 64)
prior = daps_kit.build("prior", {"use": "embedded"})
operator = Pairs(shape, GaussianNoise(0.05))
truth = prior.sample(shape, RandomStreams([4]))
y = operator.measure(truth, RandomStreams([0]))

# %%
# Is the adjoint right? ``daps_kit.testing`` asks that, and twenty other questions, of any operator.

for outcome in check_operator(operator):
    print(f"{outcome.status:8} {outcome.check}")

# %%
# And sample. The sampler needs no settings: the operator is linear, so that the draws at each level are exact.

posterior = daps_kit.sample(prior, operator, y, runs=4, seed=0)[0]
samples, mean = posterior.samples, posterior.mean

figure, axes = plt.subplots(1, 5, figsize=(10, 2.4), layout="constrained")
pictures = {
    "truth": truth[0],
    "y": y[0] / 2,
    "a sample": samples[0],
    "another": samples[1],
    "mean of 4": mean,
}
for axis, (title, image) in zip(axes, pictures.items(), strict=True):
    axis.imshow((image.movedim(0, -1) + 1).clamp(0, 2) / 2, aspect="auto")
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# The samples explain the measurement as the truth does, up to the noise: the residual, in standard deviations of
# it, is about 1.

print(f"residual of the samples {posterior.residuals.mean():.2f}")
