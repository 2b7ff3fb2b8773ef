"""The first stage: rounding to codes, derivatives, digits."""

from __future__ import annotations

import pytest
import torch

import daps_kit
from daps_priors.published.vq import VQ
from daps_samplers.target import DecodedOperator
from tests.priors.published.small import noise
from tests.priors.published.tiny_ldm import FIRST_STAGE, build, filled, lightning, relative, weights


@pytest.fixture
def checkpoint(tmp_path):
    return lightning(weights(), tmp_path / "tiny.ckpt")


def test_decoding_rounds_to_the_nearest_code(checkpoint):
    prior = build(checkpoint)
    z = noise(2, 3, 8, 8)
    codes = prior.first_stage.quantize.embedding.weight
    flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
    nearest = codes[torch.cdist(flat, codes).argmin(1)].view(2, 8, 8, 3).permute(0, 3, 1, 2)
    smooth = build(checkpoint, quantize=False)
    with torch.no_grad():
        torch.testing.assert_close(prior.decode(z), smooth.decode(nearest), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(prior.decode(z), smooth.decode(z), atol=1e-2)
        scaled = build(checkpoint, scale_factor=0.5)
        torch.testing.assert_close(scaled.decode(z * 0.5), prior.decode(z), rtol=1e-4, atol=1e-4)
        image = noise(1, 3, 16, 16, seed=3)
        torch.testing.assert_close(scaled.encode(image), 0.5 * prior.encode(image))
    # The identity stands in for the derivative of rounding.
    leaf, rounded = z.clone().requires_grad_(), nearest.clone().requires_grad_()
    (through,) = torch.autograd.grad(prior.decode(leaf).square().sum(), leaf)
    (direct,) = torch.autograd.grad(smooth.decode(rounded).square().sum(), rounded)
    torch.testing.assert_close(through, direct, rtol=1e-4, atol=1e-3)


def test_the_decoder_has_a_directional_derivative(checkpoint):
    prior = build(checkpoint, quantize=False)
    z, v = noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1)
    operator = daps_kit.build("operator", {"use": "identity"}, shape=(3, 16, 16))
    push = DecodedOperator(operator, prior, (3, 8, 8)).jvp(z, v)
    h = 1e-2
    with torch.no_grad():
        change = (prior.decode(z + h * v) - prior.decode(z - h * v)) / (2 * h)
    assert relative(push, change) < 0.02


def test_activations_far_from_zero_keep_their_digits():
    stage = VQ(FIRST_STAGE)
    stage.load_state_dict(filled(stage, "A"))  # means are 20 times the spread in its last layers
    stage.requires_grad_(False)
    z = noise(1, 3, 8, 8)
    exact = VQ(FIRST_STAGE).double()
    exact.load_state_dict(filled(stage, "A"))
    with torch.no_grad():
        expected = exact.decode(z.double(), quantize=False)
        stage.to(memory_format=torch.channels_last)
        found = stage.decode(z.contiguous(memory_format=torch.channels_last), quantize=False)
    assert relative(found.double(), expected) < 1e-5
