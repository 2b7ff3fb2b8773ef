"""Muon and AdamW as one: matrices by their singular vectors, all else exactly as AdamW does it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from daps_kit.errors import UserError
from daps_priors.training.muon import MuonAdamW, is_matrix
from daps_priors.training.trainer import OUTER

SHAPES = {"unet.stem.weight": (4, 3), "bias": (5,), "inner": (6, 2, 3, 3), "linear": (12, 8)}


def parameters(layout: torch.memory_format = torch.contiguous_format) -> dict[str, nn.Parameter]:
    draw = torch.Generator().manual_seed(1)
    drawn = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    return {n: nn.Parameter(t.to(memory_format=layout) if t.ndim == 4 else t) for n, t in drawn.items()}


def optimiser(of: dict[str, nn.Parameter]) -> MuonAdamW:
    return MuonAdamW(of.items(), (0.9, 0.99), 0.1, ("unet.stem.",))


def take_steps(count: int, by: MuonAdamW, of: dict[str, nn.Parameter], seed: int = 0) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for p in of.values():
            p.grad = torch.randn(p.shape, generator=draw)
        by.step(0.01)


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (24, 24)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weights = nn.Parameter(torch.zeros(shape))
    weights.grad = 3e-4 * gradient
    MuonAdamW([("inner", weights)], (0.9, 0.99), 0.0).step(0.01)
    u, s, v = torch.linalg.svd(gradient, full_matrices=False)
    inner = u.T @ (-weights.detach() / (0.01 * 0.2 * max(shape) ** 0.5)) @ v.T
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
    ours, theirs = parameters(), parameters()
    muon = optimiser(ours)
    adamw = torch.optim.AdamW(
        [
            {"params": [theirs["unet.stem.weight"]], "weight_decay": 0.1},
            {"params": [theirs["bias"]], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.99),
    )
    for step in range(3):
        before = ours["inner"].detach().clone()
        take_steps(1, muon, ours, seed=step)
        for name in ("unet.stem.weight", "bias"):
            gradient = ours[name].grad
            assert gradient is not None
            theirs[name].grad = gradient.clone()
        adamw.step()
        moved = ours["inner"].detach() - before * (1 - 0.01 * 0.1)
        # Singular values near one: a root mean square near lr * 0.2 sqrt(18) * sqrt(6 / (6 * 18)).
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.01 * 0.2, rel=0.2)
    for name in ("unet.stem.weight", "bias"):
        torch.testing.assert_close(ours[name], theirs[name])


def test_a_convolution_moves_alike_in_either_layout() -> None:
    plain, channels_last = parameters(), parameters(torch.channels_last)
    take_steps(3, optimiser(plain), plain)
    take_steps(3, optimiser(channels_last), channels_last)
    assert channels_last["inner"].is_contiguous(memory_format=torch.channels_last)
    start = parameters()["inner"]
    with torch.no_grad():
        moved = (plain["inner"] - start).abs().mean()
        assert float((plain["inner"] - channels_last["inner"]).abs().mean() / moved) < 0.03  # bfloat16
    assert torch.equal(plain["linear"], channels_last["linear"])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_kept_can_be_taken_up_again(layout: torch.memory_format) -> None:
    whole, broken = parameters(layout), parameters(layout)
    first = optimiser(whole)
    take_steps(3, first, whole)
    take_steps(2, first, whole, seed=1)
    second = optimiser(broken)
    assert not any(second.moments(p) for p in broken.values())
    take_steps(3, second, broken)
    kept: dict[str, dict[str, Tensor]] = {name: second.moments(p) for name, p in broken.items()}
    assert kept["inner"].keys() == {"momentum"}
    assert kept["inner"]["momentum"].shape == SHAPES["inner"]
    third = optimiser(broken)
    for name, p in broken.items():
        third.restore(p, {moment: value.contiguous() for moment, value in kept[name].items()})
    take_steps(2, third, broken, seed=1)
    for name, p in whole.items():
        assert torch.equal(p, broken[name]), name


def test_a_torch_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"needs torch 2\.9 or later"):
        optimiser(parameters())
