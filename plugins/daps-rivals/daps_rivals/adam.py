r"""Adam, as a value: one state a sample, no parameters of a module.

    m = b_1 m + (1 - b_1) g,   v = b_2 v + (1 - b_2) g^2,   x - lr (m / (1 - b_1^k)) / (sqrt(v / (1 - b_2^k)) + eps)

Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv 1412.6980.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Adam"]


class Adam:
    """The state of an optimisation.

    Args:
        lr: step size.
        betas: decay of the two means.
        eps: keeps the quotient finite.
    """

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self._steps = 0
        self._mean = self._square = torch.zeros(())

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return what follows x."""
        self._steps += 1
        one, two = self.betas
        self._mean = one * self._mean.to(gradient) + (1 - one) * gradient
        self._square = two * self._square.to(gradient) + (1 - two) * gradient.square()
        mean, square = self._mean / (1 - one**self._steps), self._square / (1 - two**self._steps)
        return x - self.lr * mean / (square.sqrt() + self.eps)
