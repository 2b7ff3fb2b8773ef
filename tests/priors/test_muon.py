"""Muon: matrices by their singular vectors, all else exactly as AdamW does it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from daps_priors.training.muon import Muon, is_matrix, orthogonalised
from daps_priors.training.trainer import OUTER


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (24, 24)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalised(3e-4 * matrix) @ v.T
    values = inner.diagonal()
    assert values[s > 0.05 * s[0]].min() > 0.6
    assert values.max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 0.05  # bfloat16


def test_inner_matrices_are_told_from_the_rest() -> None:
    matrix, vector = torch.zeros(4, 4), torch.zeros(4)
    assert is_matrix("unet.middle.0.conv1.weight", matrix, OUTER)
    assert not is_matrix("unet.middle.0.conv1.bias", vector, OUTER)
    for outer in ("stem.weight", "out.weight", "maps.0", "embed.0.weight"):
        assert not is_matrix(f"unet.{outer}", matrix, OUTER)


def test_the_rest_moves_as_by_adamw_and_a_matrix_by_a_step_of_the_stated_size() -> None:
    draw = torch.Generator().manual_seed(0)

    def parameters() -> dict[str, nn.Parameter]:
        again = torch.Generator().manual_seed(1)
        return {
            name: nn.Parameter(torch.randn(shape, generator=again))
            for name, shape in {"unet.stem.weight": (4, 3), "bias": (5,), "inner": (6, 2, 3, 3)}.items()
        }

    ours, theirs = parameters(), parameters()
    muon = Muon(ours.items(), 0.01, (0.9, 0.99), 0.1, ("unet.stem.",))
    adamw = torch.optim.AdamW(
        [
            {"params": [theirs["unet.stem.weight"]], "weight_decay": 0.1},
            {"params": [theirs["bias"]], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.99),
    )
    for _ in range(3):
        before = ours["inner"].detach().clone()
        for name, p in ours.items():
            p.grad = torch.randn(p.shape, generator=draw)
            theirs[name].grad = p.grad.clone()
        muon.step()
        adamw.step()
        step = ours["inner"].detach() - before * (1 - 0.01 * 0.1)
        # Singular values near one: a root mean square near lr * 0.2 sqrt(18) * sqrt(6 / (6 * 18)).
        assert float(step.square().mean().sqrt()) == pytest.approx(0.01 * 0.2, rel=0.2)
    for name in ("unet.stem.weight", "bias"):
        torch.testing.assert_close(ours[name], theirs[name])
