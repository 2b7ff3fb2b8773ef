"""Conjugate gradients against dense solutions, sample by sample."""

from __future__ import annotations

import pytest
import torch

from daps_kit.linalg import conjugate_gradients, inner, per_sample


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
