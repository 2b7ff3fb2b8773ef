"""Attention whose derivative has a derivative.

Samplers need J v of a decoder as well as J^T u, and take it as a derivative of J^T u by u. PyTorch's fused attention
has no second derivative; its plain one has, and costs little beside a decoder's convolutions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["twice_differentiable"]


def twice_differentiable() -> AbstractContextManager[None]:
    """Return a context in which attention can be differentiated twice, where gradients are taken at all."""
    return sdpa_kernel(SDPBackend.MATH) if torch.is_grad_enabled() else nullcontext()
