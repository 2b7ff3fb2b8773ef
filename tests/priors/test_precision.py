"""What networks compute in, where the setting is `auto`."""

from __future__ import annotations

import pytest
import torch

from daps_priors.precision import chosen

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512": True, "avx512_bf16": True}, torch.bfloat16),
        ({"avx2": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx512": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_is_what_the_processor_has(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert chosen("auto", CPU) == dtype
    assert chosen("float32", CPU) == torch.float32
    assert chosen("bfloat16", CPU) == torch.bfloat16


def test_auto_is_single_precision_on_a_device_that_is_not_known():
    assert chosen("auto", torch.device("meta")) == torch.float32
