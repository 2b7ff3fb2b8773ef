"""The U-Net over latents."""

from __future__ import annotations

import torch
from torch import nn

from daps_priors.published.latent_unet import Attention
from tests.priors.published.small import noise
from tests.priors.published.tiny_ldm import filled


def test_attention_to_a_condition_is_multi_head_attention():
    attention = Attention(24, 10, 3)
    attention.load_state_dict(filled(attention))
    reference = nn.MultiheadAttention(24, 3, kdim=10, vdim=10, bias=False, batch_first=True)
    reference.load_state_dict(
        {
            "q_proj_weight": attention.to_q.weight,
            "k_proj_weight": attention.to_k.weight,
            "v_proj_weight": attention.to_v.weight,
            "out_proj.weight": attention.to_out[0].weight,
        }
    )
    x, contexts = noise(6, 5, 24), noise(2, 4, 10, seed=1)
    with torch.no_grad():
        attention.condition(contexts)
        expected, _ = reference(x, *(2 * [contexts.repeat_interleave(3, 0)]))
        torch.testing.assert_close(attention(x), expected + attention.to_out[0].bias, rtol=1e-4, atol=1e-5)
