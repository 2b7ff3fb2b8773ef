"""Arrays that are fixed when an operator is built, in the precision and on the device of their images."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Constant"]


class Constant:
    """A fixed tensor, kept in double precision on the CPU and cast once for each dtype and device it meets.

    Args:
        value: the tensor, real or complex, of any dtype.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.to("cpu").to(torch.complex128 if value.is_complex() else torch.float64)
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """Return the tensor in the precision of `x` (complex, if it is complex) and on its device."""
        key = (x.dtype, x.device)
        if key not in self._cast:
            dtype = x.dtype.to_complex() if self._value.is_complex() and not x.is_complex() else x.dtype
            self._cast[key] = self._value.to(dtype=dtype, device=x.device)
        return self._cast[key]
