"""How long a step of each kernel takes beyond its operator.

    python -m benchmarks samplers [--size 256] [--repeats 40]

1 image of 3 channels, one thread. The operator hands out a loss and a gradient that it has computed beforehand, so that
what is measured is the kernel's own arithmetic and its random numbers; how long these numbers alone take is shown
beside it. The least time of a step counts, among steps that follow one another as at a level. Exit code 1 if a promise
(`PROMISED`, milliseconds at 256 pixels) is missed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, LinearOperator, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.noise import GaussianNoise
from daps_samplers.langevin import Langevin
from daps_samplers.metropolis import Metropolis
from daps_samplers.target import GaussianTarget
from daps_samplers.underdamped import Underdamped

PROMISED = {"langevin": 1.0}


class Free(LinearOperator):
    """An operator that costs nothing."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, GaussianNoise(0.05))
        self._loss, self._gradient = torch.zeros(1), torch.zeros(1, *shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return zero."""
        return self._loss

    def loss_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stored loss and gradient."""
        return self._loss, self._gradient


def least_time(function: Callable[[], object], repeats: int) -> float:
    """Return the least time of a call in milliseconds."""
    least = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        least = min(least, time.perf_counter() - start)
    return 1000 * least


def step_time(
    kernel: Kernel, target: GaussianTarget, x: Tensor, streams: RandomStreams, repeats: int
) -> float:
    """Return the least time of a step of a chain in milliseconds."""
    state = kernel.init(target, x, streams)

    def step() -> None:
        nonlocal state
        state, _ = kernel.step(target, state, streams)

    return least_time(step, repeats)


def main(arguments: list[str]) -> int:
    """Print the table; return 1 if a promise is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks samplers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", type=int, default=256, help="pixels along a side of the image")
    parser.add_argument("--repeats", type=int, default=1000, help="how many steps are measured")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shape = (3, options.size, options.size)
    operator, streams = Free(shape), RandomStreams([0])
    x = streams.normal(shape)
    covariance = Isotropic(torch.tensor(0.25))
    target = GaussianTarget(x, covariance, operator, x, sigma=0.5, likelihood_variance=0.0025)
    kernels: dict[str, Kernel] = {
        "langevin": Langevin(),
        "underdamped": Underdamped(),
        "metropolis": Metropolis(),
    }
    image = " x ".join(map(str, (1, *shape)))
    print(f"A step beyond the operator, {image}, one thread (torch {torch.__version__})\n")
    print("| kernel | ms a step | of which random numbers |")
    print("|---|---|---|")
    missed = []
    with torch.no_grad():
        numbers = least_time(lambda: streams.normal(shape), options.repeats)
        for name, kernel in kernels.items():
            step = step_time(kernel, target, x, streams, options.repeats)
            print(f"| {name} | {step:.2f} | {numbers:.2f} |")
            if options.size == 256 and step > PROMISED.get(name, float("inf")):
                missed.append(f"{name}: {step:.2f} ms, promised at most {PROMISED[name]:.2f}")
    for line in missed:
        print(f"missed: {line}")
    return int(bool(missed))
