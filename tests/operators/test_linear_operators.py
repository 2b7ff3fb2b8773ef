"""Adjoint, inverse, derivatives, batches and precision of the linear operators, at all kinds of size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_kit.contracts import Operator
from daps_kit.noise import GaussianNoise
from daps_operators.down_sampling import DownSampling
from daps_operators.gaussian_blur import GaussianBlur
from daps_operators.mask import Identity, Inpainting
from daps_operators.motion_blur import MotionBlur

NOISE = GaussianNoise(0.05)


def kernel(h, w, seed=0):
    k = np.random.default_rng(seed).random((h, w)) ** 6
    return torch.from_numpy(k / k.sum())[None, None]


def mask(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((1, 1, *shape[1:])) < 0.6)


OPERATORS = {
    "identity": lambda shape: Identity(shape, NOISE),
    "inpainting": lambda shape: Inpainting(shape, NOISE, mask(shape)),
    "down_sampling_4": lambda shape: DownSampling(shape, NOISE, 4),
    "down_sampling_2.7_lanczos3": lambda shape: DownSampling(shape, NOISE, 2.7, "lanczos3"),
    "down_sampling_3_aliased": lambda shape: DownSampling(shape, NOISE, 3, "linear", False),
    "gaussian_blur_61": lambda shape: GaussianBlur(shape, NOISE, 61, 3.0),
    "gaussian_blur_5": lambda shape: GaussianBlur(shape, NOISE, 5, 0.8),
    "motion_blur_15": lambda shape: MotionBlur(shape, NOISE, kernel(15, 15)),
    "motion_blur_61": lambda shape: MotionBlur(shape, NOISE, kernel(61, 61)),
    "motion_blur_4x7": lambda shape: MotionBlur(shape, NOISE, kernel(4, 7)),
}
SHAPES = [(3, 32, 32), (1, 33, 20), (5, 17, 64), (3, 7, 5), (1, 1, 9), (2, 1, 1), (3, 70, 81)]

each_operator = pytest.mark.parametrize("name", OPERATORS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dense(operator, shape):
    """The matrix of A, row by row of the identity through `forward` alone."""
    n = int(np.prod(shape))
    return operator.forward(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, -1).T


@each_operator
@each_shape
def test_adjoint(name, shape):
    operator = OPERATORS[name](shape)
    x = normal(2, *shape)
    kept = x.clone()
    ax = operator.forward(x)
    y = normal(*ax.shape, seed=1)
    aty = operator.adjoint(y)
    assert torch.equal(x, kept)
    assert aty.shape == x.shape
    assert aty.dtype == ax.dtype == torch.float32
    left, right = (ax.double() * y).flatten(1).sum(1), (x.double() * aty).flatten(1).sum(1)
    scale = ax.double().flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
    assert ((left - right).abs() <= 1e-6 * scale).all()


@each_operator
@pytest.mark.parametrize("shape", [(1, 9, 6), (2, 5, 8), (1, 1, 5)], ids=str)
def test_adjoint_and_inverse_are_those_of_the_dense_matrix(name, shape):
    operator = OPERATORS[name](shape)
    matrix = dense(operator, shape)
    y = normal(2, matrix.shape[0], dtype=torch.float64)
    image_y = y.reshape(2, *operator.forward(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])
    torch.testing.assert_close(operator.adjoint(image_y).flatten(1), y @ matrix, rtol=0, atol=1e-12)
    b = normal(2, *shape, dtype=torch.float64, seed=2)
    weight = torch.tensor([0.3, 0.01], dtype=torch.float64)
    solution = operator.solve_normal(b, weight)
    for row in range(2):
        system = matrix.T @ matrix + weight[row] * torch.eye(matrix.shape[1], dtype=torch.float64)
        expected = torch.linalg.solve(system, b[row].flatten())
        error = (solution[row].flatten() - expected).norm() / expected.norm()
        assert error < (1e-4 if name.startswith("motion") else 1e-11)


@each_operator
@each_shape
@pytest.mark.parametrize("weight", [1.0, 0.0025])
def test_solve_normal(name, shape, weight):
    operator = OPERATORS[name](shape)
    b = normal(2, *shape)
    x = operator.solve_normal(b, weight)
    residual = operator.adjoint(operator.forward(x)) + weight * x - b
    assert (residual.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).max() < 2e-5


@pytest.mark.parametrize("weight", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_motion_blur_is_inverted_to_the_bound_or_fails(weight, dtype):
    operator = MotionBlur((1, 16, 16), NOISE, kernel(9, 9))
    b = normal(2, 1, 16, 16).to(dtype)
    if dtype == torch.float32 and weight < 1e-4:  # more than single precision can hold
        with pytest.raises(ArithmeticError, match="relative residual"):
            operator.solve_normal(b, weight)
        return
    x = operator.solve_normal(b, weight)
    residual = operator.adjoint(operator.forward(x)) + weight * x - b
    bound = 1e-3 if dtype == torch.float32 else 1.01e-6
    assert float((residual.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).max()) <= bound


@each_operator
def test_derivatives_against_autograd(name):
    operator = OPERATORS[name]((2, 9, 12))
    x = normal(2, 2, 9, 12, dtype=torch.float64)
    assert torch.autograd.gradcheck(operator.forward, (x.requires_grad_(),))
    y, vjp = operator.forward_vjp(x.detach())
    v = normal(*y.shape, seed=1, dtype=torch.float64)
    by_autograd = Operator.forward_vjp(operator, x.detach())
    torch.testing.assert_close(y, by_autograd[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(vjp(v), by_autograd[1](v), rtol=0, atol=1e-12)
    direction = normal(*x.shape, seed=2, dtype=torch.float64)
    product = Operator.jvp(operator, x.detach(), direction)
    torch.testing.assert_close(operator.jvp(x.detach(), direction), product, rtol=0, atol=1e-12)
    loss, gradient = operator.loss_grad(x.detach(), v)
    total = operator.loss(x, v)
    torch.testing.assert_close(loss, total.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(total.sum(), x)[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("different", [True, False], ids=["different", "one"])
def test_stacked_operators_act_one_by_one(different):
    shape = (3, 20, 24)
    families = [
        lambda seed: Inpainting(shape, NOISE, mask(shape, seed)),
        lambda seed: MotionBlur(shape, NOISE, kernel(9, 9, seed)),
        lambda seed: MotionBlur(shape, NOISE, kernel(3 + 2 * seed, 5, seed)),
    ]
    for family in families:
        operators = [family(seed) for seed in range(3)] if different else [family(0)] * 3
        stacked = type(operators[0]).stack(operators)
        x, y = normal(3, *shape), normal(3, *shape, seed=1)
        alone = [op.loss_grad(x[b : b + 1], y[b : b + 1]) for b, op in enumerate(operators)]
        loss, gradient = stacked.loss_grad(x, y)
        torch.testing.assert_close(loss, torch.cat([pair[0] for pair in alone]), rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient, torch.cat([pair[1] for pair in alone]), rtol=0, atol=2e-5)
        likelihoods = [op.log_likelihood(x[b : b + 1], y[b : b + 1]) for b, op in enumerate(operators)]
        torch.testing.assert_close(stacked.log_likelihood(x, y), torch.cat(likelihoods), rtol=1e-5, atol=0)


def test_stacked_operators_stay_linear():
    shape = (1, 12, 10)
    for operators in (
        [Inpainting(shape, NOISE, mask(shape, seed)) for seed in range(2)],
        [MotionBlur(shape, NOISE, kernel(5, 5, seed)) for seed in range(2)],
    ):
        stacked = type(operators[0]).stack(operators)
        b = normal(2, *shape, dtype=torch.float64)
        alone = torch.cat([op.solve_normal(b[i : i + 1], 0.5) for i, op in enumerate(operators)])
        torch.testing.assert_close(stacked.solve_normal(b, 0.5), alone, rtol=0, atol=1e-6)
        (state,) = stacked.state().values()
        assert torch.equal(state, torch.cat([next(iter(op.state().values())) for op in operators]))


def test_a_sample_does_not_depend_on_the_others():
    shape = (3, 40, 28)
    for name, make in OPERATORS.items():
        operator = make(shape)
        x = normal(4, *shape)
        together = operator.forward(x)
        torch.testing.assert_close(together[2:3], operator.forward(x[2:3]), rtol=0, atol=1e-6, msg=name)
