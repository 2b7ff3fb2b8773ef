r"""Muon: steps of a matrix whose singular values are all about the same.

For the weights W [n, m] of a layer (a convolution's: outputs by inputs and places), with gradient G:

    B <- mu B + (1 - mu) G,    W <- (1 - lr decay) W - lr 0.2 sqrt(max(n, m)) O((1 - mu) G + mu B)

where O(M) replaces the singular values of M by numbers near one: five steps X <- a X + (b A + c A A) X with
A = X X^T from M / |M|. The factor gives the step the root mean square that AdamW's has, so one learning rate suits
both. Everything that is not the matrix of an inner layer (biases, norms, maps, first and last layers) is AdamW's.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the factor is that of Liu et
al., "Muon is Scalable for LLM Training", arXiv 2502.16982.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


def is_matrix(name: str, parameter: Tensor, outer: tuple[str, ...]) -> bool:
    """Whether a parameter is the matrix of an inner layer: its name does not begin as those of outer layers do."""
    return parameter.ndim > 1 and not name.startswith(outer)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return the matrix [n, m] with its singular values moved near one (between 0.7 and 1.2)."""
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix.bfloat16() if wide else matrix.bfloat16().T
    x = x / (x.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = (x if wide else x.T).to(matrix.dtype)
    return found


class Muon(torch.optim.AdamW):
    """AdamW, but for the matrices of inner layers.

    Args:
        named_parameters: of the network.
        lr: learning rate.
        betas: of AdamW.
        weight_decay: decoupled, of all that has more than one dimension.
        outer: how the names of parameters of outer layers begin.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        outer: tuple[str, ...] = (),
    ) -> None:
        named = list(named_parameters)
        self.matrices = [p for name, p in named if is_matrix(name, p, outer)]
        others = [p for name, p in named if not is_matrix(name, p, outer)]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self._decay = weight_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step with the gradients that the parameters hold."""
        loss = super().step(closure)
        lr = float(self.param_groups[0]["lr"])
        for p in self.matrices:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            mean = state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
            step = orthogonalised(p.grad.lerp(mean, MOMENTUM).flatten(1))
            rms = 0.2 * math.sqrt(max(step.shape))
            p.mul_(1 - lr * self._decay).add_(step.view(p.shape), alpha=-lr * rms)
        return loss
