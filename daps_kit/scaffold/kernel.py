"""What `daps-kit new kernel` writes, beside what is common to all kinds: the Metropolis-adjusted Langevin algorithm.

See `templates` for the placeholders.
"""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = {
    "summary": "Langevin dynamics with a Metropolis test, which makes them exact.",
    "about": "As it stands it is the Metropolis-adjusted Langevin algorithm; put your own chain in its place.",
    "trial": "",
    "typing": "",
    "imports": """\
from daps_kit.random import RandomStreams
from daps_kit.testing import parametrize
from daps_kit.testing.problems import GaussianProblem""",
    "$module/__init__.py": '''\
    steps: int = Field(100, ge=1, description="steps at each annealing level")
    lr: float = Field(1.0e-4, gt=0, description="step size, in squared units of x")

    def build(self) -> Kernel:
        """Return the kernel."""
        from .$name import $Class

        return $Class(self.steps, self.lr)


@hookimpl
def daps_kernels() -> list[type[KernelSettings]]:
    """Return the settings of this package's kernels."""
    return [${Class}Settings]
''',
    "$module/$name.py": '''\
r"""The Metropolis-adjusted Langevin algorithm.

    x' = x + eta grad log p(x) + sqrt(2 eta) eps,   eps ~ N(0, I),   taken where log u < log a,   u ~ U(0, 1),
    log a = log p(x') - log p(x) - (|x - x' - eta grad log p(x')|^2 - |x' - x - eta grad log p(x)|^2) / (4 eta).

Source: Roberts and Tweedie, Bernoulli 2 (1996), 341-363.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, RandomStreams, Target
from daps_kit.linalg import per_sample


def _norm(v: Tensor) -> Tensor:
    """Return the squared norm of each sample, [B]."""
    return v.square().flatten(1).sum(1)


class ${Class}State(NamedTuple):
    """A chain at x [B, ...] with its log density there [B] and the gradient of that [B, ...]."""

    x: Tensor
    density: Tensor
    gradient: Tensor


class $Class(Kernel):
    """Langevin dynamics with a Metropolis test.

    Args:
        steps: steps at each level.
        lr: step size eta.
    """

    needs_density = True

    def __init__(self, steps: int, lr: float) -> None:
        self.steps, self.lr = steps, lr
        self.advice = f"take a smaller step size (sampler.kernel.lr, now {lr:g})"

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> ${Class}State:
        """Return chains at x; one that starts where there is no density is lost (NaN)."""
        density, gradient = target.log_density_grad(x)
        lost = ~torch.isfinite(density) | ~torch.isfinite(_norm(gradient))
        return ${Class}State(torch.where(per_sample(lost, x) > 0, torch.nan, x), density, gradient)

    def step(
        self, target: Target, state: ${Class}State, streams: RandomStreams
    ) -> tuple[${Class}State, KernelInfo]:
        """Take one step; draws a normal number an entry of x, then a uniform one a sample."""
        (x, density, gradient), eta = state, self.lr
        proposal = x + eta * gradient + (2 * eta) ** 0.5 * streams.normal(x.shape[1:], x.dtype)
        new_density, new_gradient = target.log_density_grad(proposal)
        back, forth = _norm(x - proposal - eta * new_gradient), _norm(proposal - x - eta * gradient)
        log_a = new_density - density - (back - forth) / (4 * eta)
        accepted = streams.uniform((), x.dtype).log() < log_a  # false where it is NaN
        rows = per_sample(accepted, x) > 0
        state = ${Class}State(
            torch.where(rows, proposal, x),
            torch.where(accepted, new_density, density),
            torch.where(rows, new_gradient, gradient),
        )
        acceptance = torch.nan_to_num(log_a, nan=-torch.inf).clamp_max(0).exp()
        return state, KernelInfo(acceptance=acceptance, step_size=eta)
''',
    "tests/test_$name.py": """\

def test_a_small_step_is_nearly_always_accepted():
    target = GaussianProblem.of(variance=1.0, likelihood_variance=0.01).target(2)
    _, info = $Class(steps=20, lr=1e-3).run(target, target.centre, RandomStreams([1, 2]))
    assert float(info.acceptance.min()) > 0.99
""",
    "recipe.yaml": """\
# The kernel $name in DAPS, with the prior that ships with daps-kit.
# Run it with `daps-kit run recipe.yaml`.
format: 1
extends: [parts/embedded, parts/daps-100]
operator: {use: inpainting, mask: random, noise: {use: gaussian, sigma: 0.05}}
sampler: {kernel: {use: $name}}
output: results/$name
""",
}
