"""Network calls, Jacobian products and operator products, counted by what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from daps_kit.contracts import GaussianNoise, LinearOperator, Operator
from daps_kit.runs.cost import Cost, Meter
from daps_priors.exact.gaussian import GaussianPrior

SHAPE = (1, 2, 2)
X = torch.ones(3, *SHAPE)


class Twice(LinearOperator):
    """All but the forward model by default."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Closed(Twice):
    def adjoint(self, y: Tensor) -> Tensor:
        return 2 * y

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        return b / (4 + weight)


class Squared(Operator):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def pull(operator: Operator) -> Tensor:
    return operator.forward_vjp(X)[1](X)


def through(operator: Operator) -> Tensor:
    x = X.clone().requires_grad_()
    return torch.autograd.grad(operator.forward(x).sum(), x)[0]


@pytest.mark.parametrize(
    ("kind", "action", "products"),
    [
        (Twice, lambda o: o.forward(X), 1),
        (Twice, lambda o: o.adjoint(X), 1),
        (Closed, lambda o: o.adjoint(X), 1),
        (Squared, lambda o: o.jvp(X, X), 1),
        (Closed, lambda o: o.solve_normal(X, 1.0), 2),
        (Squared, pull, 2),
        (Closed, pull, 2),
        (Squared, through, 2),
        (Twice, through, 2),
        (Squared, lambda o: o.loss_grad(X, X), 2),
    ],
)  # fmt: skip
def test_products_are_counted_by_the_image(kind: type[Operator], action: Any, products: int) -> None:
    meter, operator = Meter(), kind(SHAPE, GaussianNoise(0.1))
    seen = action(meter.operator(operator))
    wanted = action(operator)
    for one, other in zip(seen, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert meter.cost(1) == Cost(products=3.0 * products)
    assert meter.cost(3) == Cost(products=products)


def test_a_solve_by_conjugate_gradients_counts_as_its_products() -> None:
    asked: list[int] = []

    class Counts(Twice):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return super().forward(x)

        def adjoint(self, y: Tensor) -> Tensor:
            asked.append(len(y))
            return 2 * y

    meter = Meter()
    meter.operator(Counts(SHAPE, GaussianNoise(0.1))).solve_normal(X, 1.0)  # type: ignore[attr-defined]
    assert meter.cost(1).products == sum(asked) > 6


def test_jacobian_products_count_as_two_calls() -> None:
    meter, prior = Meter(), GaussianPrior(torch.zeros(SHAPE), 1.0)
    counted = meter.prior(prior)
    x = X.clone().requires_grad_()
    denoised = counted.denoise(x, 1.0)
    for _ in range(2):
        torch.autograd.grad(denoised, x, X, retain_graph=True)
    counted.denoise(X[:1], 1.0)
    assert meter.cost(1) == Cost(calls=4.0, jacobians=6.0)
    assert meter.cost(1).equivalent == 16.0
    assert "denoise" not in vars(prior)
    assert isinstance(counted, GaussianPrior)


def test_an_operator_that_fails_is_counted_on() -> None:
    class Fails(Twice):
        def forward(self, x: Tensor) -> Tensor:
            if not x.any():
                raise ArithmeticError
            return super().forward(x)

    meter = Meter()
    operator = meter.operator(Fails(SHAPE, GaussianNoise(0.1)))
    with pytest.raises(ArithmeticError):
        operator.forward(torch.zeros_like(X))
    operator.forward(X)
    assert meter.cost(1).products == 3
