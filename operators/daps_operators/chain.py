"""Operators one after the other: A = A_n ... A_2 A_1, the first of the image, the others of what the one before gives.

Where all are linear the chain is, with A^T = A_1^T A_2^T ... A_n^T. Where each keeps a covariance about diagonal in the
cosine basis, so does the chain: the spectrum of the first is the covariance that the second sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, LinearOperator, Noise, Operator, Shape
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import UserError

__all__ = ["Chain", "LinearChain", "build_chain"]


class Chain(Operator):
    """A_n ... A_2 A_1.

    Args:
        noise: the noise model of what the last gives; that of the others is of no account.
        operators: A_1, A_2, ..., at least one.
    """

    def __init__(self, noise: Noise, operators: Sequence[Operator]) -> None:
        self.operators = list(operators)
        last = self.operators[-1]
        self.multimodal = any(operator.multimodal for operator in operators)
        self.elementwise = all(operator.elementwise for operator in operators)
        self.black, self.scale = last.black, 1.0
        for operator in operators:
            self.scale *= operator.scale
        super().__init__(self.operators[0].shape, noise)
        self.observed = last.observed

    @property
    def linear_part(self) -> LinearOperator | None:
        """The chain of the linear parts."""
        parts = [part for operator in self.operators if (part := operator.linear_part) is not None]
        return LinearChain(self.noise, parts) if len(parts) == len(self.operators) else None

    def forward(self, x: Tensor) -> Tensor:
        """Return A_n ... A_1(x)."""
        for operator in self.operators:
            x = operator.forward(x)
        return x

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return A(x) and v -> J_1^T ... J_n^T v."""
        vjps = []
        for operator in self.operators:
            x, vjp = operator.forward_vjp(x)
            vjps.append(vjp)

        def back(v: Tensor) -> Tensor:
            for vjp in reversed(vjps):
                v = vjp(v)
            return v

        return x, back

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J_n ... J_1 v."""
        for operator in self.operators:
            x, v = operator.forward(x), operator.jvp(x, v)
        return v

    def continued(self, y: Tensor) -> Operator:
        """Return the chain with the last operator continued."""
        last = self.operators[-1]
        last = copy.copy(last)
        last.noise = self.noise
        found = copy.copy(self)
        found.operators = [*self.operators[:-1], last.continued(y)]
        return found

    def state(self) -> dict[str, Tensor]:
        """Return what was drawn or read for each, its name behind the operator's number."""
        return {
            f"{place}-{name}": value
            for place, operator in enumerate(self.operators)
            for name, value in operator.state().items()
        }

    def to_image(self, y: Tensor) -> Tensor:
        """Return the last operator's picture of y."""
        return self.operators[-1].to_image(y)


class LinearChain(Chain, LinearOperator):
    """A chain of linear operators."""

    operators: list[LinearOperator]  # type: ignore[assignment]

    def __init__(self, noise: Noise, operators: Sequence[LinearOperator]) -> None:
        super().__init__(noise, operators)

    @property
    def linear_part(self) -> LinearOperator:
        """Itself."""
        return self

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A_1^T ... A_n^T y."""
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y

    def spectrum(self, covariance: Covariance) -> Tensor | None:
        """Return the spectrum of the last, of the covariance that those before give."""
        found: Tensor | None = None
        for operator in self.operators:
            found = operator.spectrum(covariance)
            if found is None or not isinstance(covariance, CosineCovariance):
                return None
            covariance = CosineCovariance(found, covariance.colours)
        return found

    def waves(self, covariance: Covariance) -> Tensor | None:
        """Return the waves of the last; what those before it leave of the two directions is kept where sizes are."""
        found: Tensor | None = None
        for operator in self.operators:
            own = operator.waves(covariance)
            if own is None or not isinstance(covariance, CosineCovariance):
                return None
            if found is not None and found.shape == own.shape:
                own = own * (found / found.mean(0).clamp_min(torch.finfo(found.dtype).tiny))
            found = own
            covariance = CosineCovariance(found.mean(0), covariance.colours)
        return found

    def preconditioner(
        self, covariance: Covariance, variance: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Return the inverse of the `spectrum` and the noise."""
        spectrum = self.spectrum(covariance)
        if spectrum is None or not isinstance(covariance, CosineCovariance):
            return None
        return covariance.inverse(spectrum, variance)


def build_chain(
    shape: Shape, noise: Noise, builds: Sequence[Callable[[Shape], Operator]], device: torch.device
) -> Chain:
    """Return the chain of operators.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model of what the last gives.
        builds: give each operator for the shape of what it takes.
        device: where the operators are.

    Raises:
        UserError: one gives what is no image, and another follows.
    """
    operators: list[Operator] = []
    for place, build in enumerate(builds):
        operators.append(build(shape))
        given = operators[-1].forward(torch.zeros(1, *shape, device=device)).shape[1:]
        if len(given) != 3 and place + 1 < len(builds):
            raise UserError(
                f"operators.{place} gives {list(given)}, which is no image that operators.{place + 1} could take"
            )
        if len(given) == 3:
            shape = (given[0], given[1], given[2])
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    return LinearChain(noise, linear) if len(linear) == len(operators) else Chain(noise, operators)
