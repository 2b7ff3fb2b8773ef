"""Conjugate gradients against dense solutions, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_kit.linalg import CAUTION, conjugate_gradients, inner, least_squares, per_sample


def systems(batch=3, n=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn((batch, n, n), dtype=dtype, generator=generator)
    matrix = factor @ factor.mT + torch.eye(n, dtype=dtype)
    b = torch.randn((batch, n, 1), dtype=dtype, generator=generator)
    return matrix, b


def test_solves_each_sample():
    matrix, b = systems()
    x, residual = conjugate_gradients(lambda v: matrix @ v, b, tolerance=1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=0, atol=1e-9)
    assert (residual <= 1e-12).all()


def test_ends_in_n_steps():
    matrix, b = systems(n=8)
    calls = []
    conjugate_gradients(lambda v: calls.append(1) or matrix @ v, b, tolerance=1e-8)
    assert len(calls) <= 10


def test_the_residual_is_the_true_one():
    matrix, b = systems()
    x, residual = conjugate_gradients(lambda v: matrix @ v, b, max_steps=4)
    true = (b - matrix @ x).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    torch.testing.assert_close(residual, true, rtol=1e-8, atol=0)
    assert (residual > 1e-3).any()


def test_samples_do_not_depend_on_each_other():
    matrix, b = systems()
    matrix[1] = torch.eye(12, dtype=matrix.dtype)  # solved at the first step
    together, _ = conjugate_gradients(lambda v: matrix @ v, b)
    for i in range(3):
        alone, _ = conjugate_gradients(lambda v, i=i: matrix[i : i + 1] @ v, b[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-13)


def test_an_exact_preconditioner_and_an_exact_start_need_no_search():
    matrix, b = systems()
    calls = []

    def apply(v):
        calls.append(1)
        return matrix @ v

    x, _ = conjugate_gradients(apply, b, precondition=lambda r: torch.linalg.solve(matrix, r))
    assert len(calls) == 1
    again, _ = conjugate_gradients(apply, b, start=x)
    assert len(calls) == 2
    assert torch.equal(again, x)


def test_a_preconditioner_helps():
    generator = torch.Generator().manual_seed(0)
    diagonal = torch.logspace(0, 4, 100, dtype=torch.float64)[None, :, None]
    b = torch.randn((1, 100, 1), dtype=torch.float64, generator=generator)
    counts = []
    for precondition in (None, lambda r: r / diagonal * 1.5):
        calls = []
        x, _ = conjugate_gradients(
            lambda v, calls=calls: calls.append(1) or diagonal * v, b, precondition=precondition
        )
        torch.testing.assert_close(x, b / diagonal, rtol=0, atol=1e-5)
        counts.append(len(calls))
    assert counts[1] < counts[0] / 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_lost_samples_are_not_a_number_and_alone(bad):
    matrix, b = systems()
    clean, _ = conjugate_gradients(lambda v: matrix @ v, b)
    b[1, 0] = bad
    x, residual = conjugate_gradients(lambda v: matrix @ v, b)
    assert x[1].isnan().all()
    assert residual.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(x[[0, 2]], clean[[0, 2]], rtol=0, atol=1e-13)


def test_zero_and_indefinite_systems():
    matrix, b = systems()
    b[0] = 0
    matrix[1] = -matrix[1]
    x, residual = conjugate_gradients(lambda v: matrix @ v, b)
    assert (x[0] == 0).all()
    assert residual[0] == 0
    assert residual[1] == 1  # not moved
    assert residual[2] < 1e-6


def test_inner_and_per_sample():
    a = torch.arange(12.0).reshape(2, 2, 3)
    assert inner(a, a).tolist() == [55.0, 451.0]
    assert per_sample(2, a).item() == 2
    scaled = per_sample(torch.tensor([1.0, 10.0], dtype=torch.float64), a) * a
    assert scaled.dtype == torch.float32
    assert scaled[1, 1, 2] == 110


def least(batch=3, rows=20, n=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    a = torch.randn((batch, rows, n), dtype=dtype, generator=generator)
    weight = torch.rand((batch, rows, 1), dtype=dtype, generator=generator) + 0.1
    diagonal = torch.rand((batch, n, 1), dtype=dtype, generator=generator) + 0.5
    b = torch.randn((batch, rows, 1), dtype=dtype, generator=generator)
    return a, weight, diagonal, b


def solved(a, weight, diagonal, b, **settings):
    settings = {"precondition": lambda r: r, "tolerance": 1e-12, "max_steps": 200} | settings
    return least_squares(lambda x: a @ x, lambda r: a.mT @ r, weight, lambda x: diagonal * x, b, **settings)


def test_least_squares_as_numpy_has_them():
    a, weight, diagonal, b = least()
    x, error = solved(a, weight, diagonal, b)
    for i in range(3):
        rows = np.vstack((weight[i].sqrt().numpy() * a[i].numpy(), np.diag(diagonal[i, :, 0].sqrt())))
        right = np.concatenate((weight[i].sqrt().numpy() * b[i].numpy(), np.zeros((12, 1))))
        expected = np.linalg.lstsq(rows, right, rcond=None)[0]
        np.testing.assert_allclose(x[i], expected, atol=1e-10)
    assert bool((error <= 1e-12).all())


def test_what_least_squares_leave_is_told_in_the_norm_of_the_matrix():
    """Beside an exact preconditioner it is the error itself, but for `CAUTION`."""
    a, weight, diagonal, b = least()
    m = a.mT @ (weight * a) + torch.diag_embed(diagonal[..., 0])
    scaled = torch.linalg.inv(m) * torch.tensor([0.5, 1.0, 2.0], dtype=m.dtype)[:, None, None]
    x, error = solved(a, weight, diagonal, b, precondition=lambda r: scaled @ r, max_steps=0)
    left = torch.linalg.solve(m, a.mT @ (weight * b)) - x
    true = ((left * (m @ left)).sum(1)[:, 0] / 12).sqrt()
    torch.testing.assert_close(error, CAUTION * true * torch.tensor([0.5, 1.0, 2.0], dtype=m.dtype).sqrt())


def test_least_squares_of_a_sample_do_not_depend_on_the_others():
    a, weight, diagonal, b = least()
    clean, _ = solved(a, weight, diagonal, b, tolerance=1e-3)
    b[1] *= 1e-6  # ends sooner
    b[2, 0] = torch.nan
    x, error = solved(a, weight, diagonal, b, tolerance=1e-3)
    torch.testing.assert_close(x[0], clean[0], rtol=0, atol=1e-13)
    assert x[2].isnan().all()
    assert error.isnan().tolist() == [False, False, True]


def test_a_large_weight_is_not_lost_in_single_precision():
    """Conjugate gradients for the normal equations lose the difference of A^T W b and A^T W A x."""
    draw = torch.Generator().manual_seed(4)
    left, right = (torch.linalg.qr(torch.randn(60, 60, generator=draw).double())[0] for _ in range(2))
    a, weight = (left * torch.logspace(0, -5, 60, dtype=torch.float64)) @ right.T, 1e6
    b = a @ torch.randn(1, 60, 1, generator=draw).double() + torch.randn(1, 60, 1, generator=draw) / 1e3
    m = weight * a.T @ a + torch.eye(60, dtype=torch.float64)
    exact, inverse = torch.linalg.solve(m, weight * a.T @ b), torch.linalg.inv(m).float()
    a, b = a.float(), b.float()
    x, _ = solved(a, weight, 1.0, b, precondition=lambda r: inverse @ r, tolerance=1e-9, max_steps=15)
    plain, _ = conjugate_gradients(
        lambda x: weight * (a.mT @ (a @ x)) + x,
        weight * a.mT @ b,
        precondition=lambda r: inverse @ r,
        tolerance=1e-9,
        max_steps=15,
    )

    def error(x):
        return float(((x - exact) * (m @ (x - exact))).mean().sqrt())

    assert error(x) < 2e-3
    assert error(plain) > 5 * error(x)
