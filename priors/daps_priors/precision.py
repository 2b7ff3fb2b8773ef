"""What networks compute in. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["Dtype", "chosen"]

Dtype = Literal["auto", "float32", "bfloat16"]
"""`auto` is bfloat16 where the device computes with it, else float32."""


def chosen(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Return the type that a setting means on a device."""
    import torch

    if dtype != "auto":
        return torch.bfloat16 if dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # Without these the processor emulates it, and is slower.
        kinds = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        has = any(kinds.get(kind, False) for kind in ("avx512_bf16", "amx_bf16"))
    else:
        has = False
    return torch.bfloat16 if has else torch.float32
