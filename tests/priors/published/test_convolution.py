"""Convolutions by other ways than torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from daps_priors.published.convolution import add_projection, convolve, double_and_convolve
from tests.priors.published.small import error, noise


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 72), (66, 64), (62, 70)])
def test_winograd_convolves(height, width):
    conv = nn.Conv2d(64, 96, 3, padding=1).requires_grad_(False)
    with torch.no_grad():
        x = noise(2, 64, height, width)
        expected = functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
        assert error(convolve(last(x), conv).double(), expected) < 2e-6


def test_winograd_is_taken_only_where_it_may_be(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "daps_priors.published.convolution._winograd", lambda *arguments: calls.append(arguments)
    )
    conv = nn.Conv2d(64, 64, 3, padding=1)
    convolve(last(noise(1, 64, 64, 64)), conv)
    with torch.no_grad():
        for x in (noise(1, 64, 64, 64), last(noise(1, 64, 63, 66)), last(noise(1, 64, 32, 32))):
            convolve(x, conv)
        assert not calls
        convolve(last(noise(3, 64, 64, 64)), conv)
    assert len(calls) == 3


@pytest.mark.parametrize("size", [(16, 20), (4, 4)])
def test_doubling_and_convolving_in_one(size):
    conv = nn.Conv2d(8, 12, 3, padding=1)
    x = noise(2, 8, *size)
    expected = conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert error(double_and_convolve(x, conv), expected) < 1e-5
    assert error(double_and_convolve(last(x), conv), expected) < 1e-5


def test_a_projection_accumulates():
    conv = nn.Conv2d(8, 12, 1)
    h, x = noise(2, 12, 6, 6), noise(2, 8, 6, 6, seed=1)
    expected = h + conv(x)
    assert torch.equal(add_projection(h, x, conv), expected)
    with torch.no_grad():
        owned = last(h.clone())
        found = add_projection(owned, last(x), conv)
    assert found is owned
    assert error(found, expected) < 1e-5
