"""State dicts, and whether two are the same."""

from __future__ import annotations

import torch

STATE = {"out.bias": torch.zeros(3), "out.weight": torch.full((3,), 2.0), "time.0.weight": torch.ones(2)}


AVERAGE = {name: tensor + 5 for name, tensor in STATE.items()}


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
