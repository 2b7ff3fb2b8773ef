"""What the abstract classes do by themselves, for operators that bring nothing of their own."""

from __future__ import annotations

from itertools import pairwise
from math import log2, sqrt

import pytest
import torch
from torch import Tensor

from daps_kit import testing
from daps_kit.calibration import CalibrationTable
from daps_kit.contracts import GaussianNoise, LinearOperator, Operator, Prior, RandomStreams

SHAPE = (2, 4, 6)


class Power(Operator):
    """x -> (mask x)^power / 2, elementwise."""

    def __init__(self, power: float, mask: Tensor | None = None) -> None:
        super().__init__(SHAPE, GaussianNoise(0.1))
        self.power = power
        self.observed = mask

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x.abs() ** self.power / 2)


class Weighted(LinearOperator):
    """A fixed random matrix on the flattened image."""

    def __init__(self, rows: int) -> None:
        super().__init__(SHAPE, GaussianNoise(0.1))
        self.matrix = torch.randn(
            rows, 48, generator=torch.Generator().manual_seed(rows), dtype=torch.float64
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y)).reshape(-1, *SHAPE)


def images(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count), dtype=dtype)


@pytest.fixture
def mixed() -> list[Operator]:
    row = torch.zeros(4, 6)
    row[1] = 1
    return [Power(2.0), Power(3.0, row), Power(1.5, torch.ones(1, 1, 4, 6))]


def test_stacked_operators_do_what_each_does_alone(mixed: list[Operator]) -> None:
    stacked = Operator.stack(mixed)
    x, direction = images(3), images(3).flip(0)
    y = stacked.measure(x, RandomStreams([1, 2, 3]))
    clean, vjp = stacked.forward_vjp(x)
    for place, operator in enumerate(mixed):
        own = slice(place, place + 1)
        assert torch.equal(y[own], operator.measure(x[own], RandomStreams([place + 1])))
        assert torch.equal(clean[own], operator.forward(x[own]))
        assert torch.allclose(vjp(direction)[own], operator.forward_vjp(x[own])[1](direction[own]))
        assert torch.allclose(stacked.jvp(x, direction)[own], operator.jvp(x[own], direction[own]))
        assert torch.allclose(stacked.residual(x, y)[own], operator.residual(x[own], y[own]))
        assert torch.allclose(stacked.log_likelihood(x, y)[own], operator.log_likelihood(x[own], y[own]))
        assert torch.equal(stacked.to_image(y)[own], operator.to_image(y[own]))


def test_one_operator_for_all_is_not_wrapped(mixed: list[Operator]) -> None:
    assert Operator.stack([mixed[0]] * 3) is mixed[0]


def test_the_residual_counts_what_is_observed(mixed: list[Operator]) -> None:
    x = images(2)
    y = mixed[1].forward(x) + 0.3
    assert mixed[1].residual(x, mixed[1].project(y)).tolist() == pytest.approx([3.0, 3.0])


def test_derivatives_by_autograd_against_the_closed_form(mixed: list[Operator]) -> None:
    x, v = images(2), images(2).flip(0)
    slope = 1.0 * x  # d(x^2 / 2)/dx
    assert torch.allclose(mixed[0].jvp(x, v), slope * v)
    assert torch.allclose(mixed[0].forward_vjp(x)[1](v), slope * v)


@pytest.mark.parametrize("rows", [20, 80])
def test_the_normal_equations_against_a_dense_solver(rows: int) -> None:
    operator, b = Weighted(rows), images(3)
    weight = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    found = operator.solve_normal(b, weight).flatten(1)
    normal = operator.matrix.T @ operator.matrix
    for place in range(3):
        exact = torch.linalg.solve(
            normal + weight[place] * torch.eye(48, dtype=torch.float64), b[place].flatten()
        )
        assert (found[place] - exact).norm() < 1e-5 * exact.norm()


def test_the_adjoint_by_autograd_is_the_transpose() -> None:
    class ForwardAlone(Weighted):
        adjoint = LinearOperator.adjoint

    operator, given = ForwardAlone(20), Weighted(20)
    y = torch.randn(3, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(operator.adjoint(y), given.adjoint(y))
    assert not operator.adjoint(y).requires_grad
    leaf = y.clone().requires_grad_()
    weights = images(3)
    (gradient,) = torch.autograd.grad((operator.adjoint(leaf) * weights).sum(), leaf)
    torch.testing.assert_close(gradient, given.forward(weights))  # the adjoint of the adjoint
    b, weight = images(3), torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    torch.testing.assert_close(operator.solve_normal(b, weight), given.solve_normal(b, weight))


def test_a_forward_model_alone_passes_the_conformance_kit() -> None:
    class Roll(LinearOperator):
        """y(i, j) = x(i, j) + x(i, j - 1) / 2, round the edge."""

        def forward(self, x: Tensor) -> Tensor:
            return x + x.roll(1, -1) / 2

    outcomes = testing.check("operator", Roll((3, 5, 6), GaussianNoise(0.1)))
    assert {o.check for o in outcomes if o.status == "passed"} >= {"dot_test", "vjp", "solve_normal"}
    assert [o for o in outcomes if o.status == "failed"] == []


def test_a_solve_that_does_not_converge_is_an_error() -> None:
    operator = Weighted(80)
    operator.matrix = operator.matrix * torch.logspace(-6, 6, 48, dtype=torch.float64)
    with pytest.raises(ArithmeticError, match="relative residual"):
        operator.solve_normal(images(1, torch.float32), 1e-12)


class Shrinks(Prior):
    """A prior of any size that may have a calibration."""

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return 0.5 * x


def test_a_prior_of_any_size_knows_its_error_for_the_size_that_it_is_told() -> None:
    prior, x = Shrinks(), torch.zeros(2, 3, 8, 12)
    assert prior.sized((3, 8, 12)) is prior
    assert prior.conditional_covariance(x, 0.5) is None
    prior.calibration = CalibrationTable(
        torch.tensor([0.1, 1.0]), torch.tensor([0.01, 0.1]), torch.ones(2, 3, 9), torch.eye(3), 4
    )
    assert prior.denoising_covariance(1.0) is None
    told = prior.sized((3, 8, 12))
    assert (told.shape, prior.shape) == ((3, 8, 12), None)
    assert told.sized((3, 4, 4)) is told
    for covariance in (told.denoising_covariance(1.0), prior.conditional_covariance(x, 1.0)):
        assert covariance is not None
        torch.testing.assert_close(covariance.multiply(x + 1), 0.1 * (x + 1))


class Normal(Prior):
    """Every number is N(0.3, 0.5^2), known by the denoiser alone."""

    def __init__(self, low: float = 0.0, high: float = float("inf")) -> None:
        self.sigma_range = (low, high)
        self.asked: list[float] = []

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        assert isinstance(sigma, float)
        self.asked.append(sigma)
        return 0.3 + 0.25 / (0.25 + sigma**2) * (x - 0.3)


def test_draws_from_a_prior_follow_its_flow_to_second_order() -> None:
    """The flow of N(m, s^2) keeps (x - m) / sqrt(s^2 + sigma^2); halving the steps leaves a quarter of the error."""
    streams = [RandomStreams([0, 1]) for _ in range(3)]
    start = 80.0 * RandomStreams([0, 1]).normal((1, 4, 4)).double()
    low = 0.25 + 0.002**2
    expected = 0.3 + 0.25 / low * sqrt(low / (0.25 + 80.0**2)) * (start - 0.3)
    errors = [
        float((Normal().sample((1, 4, 4), each, steps=steps).double() - expected).abs().max())
        for each, steps in zip(streams, (20, 40, 80), strict=True)
    ]
    for coarse, fine in pairwise(errors):
        assert log2(coarse / fine) == pytest.approx(2, abs=0.25)
    assert errors[-1] < 0.003


def test_draws_from_a_prior_stay_where_it_is_valid() -> None:
    prior = Normal(0.01, 50.0)
    prior.sample((1, 4, 4), RandomStreams([0]), steps=12)
    assert (max(prior.asked), min(prior.asked)) == (pytest.approx(50.0), pytest.approx(0.01))
    assert len(prior.asked) == 2 * 11 + 1
