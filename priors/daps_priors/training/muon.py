r"""Muon for the matrices of inner layers, AdamW for everything else.

Muon's step of a matrix has singular values that are all about the same. For the weights W [n, m] of a layer (a
convolution's: outputs by inputs and places), with gradient G:

    B <- mu B + (1 - mu) G,    W <- (1 - lr decay) W - lr 0.2 sqrt(max(n, m)) O((1 - mu) G + mu B)

where O(M) replaces the singular values of M by numbers near one, by five steps of Newton and Schulz. The factor gives
the step the root mean square that AdamW's has, so one learning rate suits both. torch does it (`torch.optim.Muon`, from
2.9 on) for parameters that are matrices; a convolution's weights are shown to it as one, in the order of the memory, so
that nothing is copied. Biases, norms, and first and last layers are AdamW's.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the factor is that of Liu et
al., "Muon is Scalable for LLM Training", arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from daps_kit.errors import UserError

__all__ = ["MuonAdamW", "is_matrix"]

MOMENTUM = 0.95


def is_matrix(name: str, parameter: Tensor, outer: tuple[str, ...]) -> bool:
    """Whether a parameter is the matrix of an inner layer: its name does not begin as those of outer layers do."""
    return parameter.ndim > 1 and not name.startswith(outer)


class MuonAdamW:
    """The two optimisers of a network, as one.

    Args:
        named_parameters: of the network, on their device and in their layout.
        betas: of AdamW.
        weight_decay: decoupled, of all that has more than one dimension.
        outer: how the names of parameters of outer layers begin.

    Raises:
        UserError: torch is older than 2.9.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        betas: tuple[float, float],
        weight_decay: float,
        outer: tuple[str, ...] = (),
    ) -> None:
        named = list(named_parameters)
        others = [p for name, p in named if not is_matrix(name, p, outer)]
        self._views = {p: nn.Parameter(_matrix(p)) for name, p in named if is_matrix(name, p, outer)}
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, betas=betas, fused=True)
        self._optimisers: list[torch.optim.Optimizer] = [self._adamw]
        if self._views:
            self._optimisers.append(_muon(list(self._views.values()), weight_decay))

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Make one step of this learning rate with the gradients that the parameters hold."""
        for parameter, view in self._views.items():
            assert parameter.grad is not None
            view.grad = _matrix(parameter.grad, like=parameter)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return what is kept of a parameter, of its shape or a number of steps; nothing before the first step."""
        if parameter not in self._views:
            return dict(self._adamw.state.get(parameter, {}))
        kept = self._optimisers[1].state.get(self._views[parameter], {})
        if "momentum_buffer" not in kept:
            return {}
        momentum = torch.empty_like(parameter, requires_grad=False)
        _matrix(momentum).copy_(kept["momentum_buffer"])
        return {"momentum": momentum}

    def restore(self, parameter: nn.Parameter, moments: Mapping[str, Tensor]) -> None:
        """Take over what `moments` returned.

        Raises:
            KeyError: it is not that of such a parameter.
        """
        if not moments:
            return
        if parameter in self._views:
            momentum = torch.empty_like(parameter, requires_grad=False).copy_(moments["momentum"])
            self._optimisers[1].state[self._views[parameter]]["momentum_buffer"] = _matrix(momentum)
            return
        state = self._adamw.state[parameter]
        state["step"] = moments["step"].to(parameter.device, copy=True)
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.empty_like(parameter, requires_grad=False).copy_(moments[name])


def _matrix(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """Return weights [n, ...] as a matrix [n, m] in the order of the memory of `like`: a view, if that is the same."""
    strides = (tensor if like is None else like).stride()
    order = sorted(range(1, tensor.ndim), key=lambda axis: -strides[axis])
    return tensor.detach().permute(0, *order).reshape(len(tensor), -1)


def _muon(matrices: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UserError(
            f"training a denoiser needs torch 2.9 or later, for its optimiser Muon; this is torch {torch.__version__}"
        )
    return torch.optim.Muon(
        matrices, weight_decay=weight_decay, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
