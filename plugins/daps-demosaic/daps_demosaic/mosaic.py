"""y = sum_c m_c x_c with masks m_c of 0 and 1 that sum to 1 (Bayer, US patent 3971065).

A^T A = diag(m), so (A^T A + w I)^{-1} b = b / (m + w)."""

import torch

from daps_kit.contracts import LinearOperator
from daps_kit.errors import UserError
from daps_kit.linalg import per_sample


class Mosaic(LinearOperator):
    """A colour filter array over images [B, 3, H, W]; the measurement is [B, 1, H, W]."""

    def __init__(self, shape, noise, pattern):
        if shape[0] != 3:
            raise UserError(f"demosaic needs images of 3 channels (red, green, blue), got {shape[0]}")
        super().__init__(shape, noise)
        cell = torch.tensor(["RGB".index(letter) for letter in pattern]).reshape(2, 2)
        colour = cell.repeat(shape[1] // 2 + 1, shape[2] // 2 + 1)[: shape[1], : shape[2]]
        self.mask = colour == torch.arange(3)[:, None, None]

    def forward(self, x):
        return (x * self.mask.to(x)).sum(1, keepdim=True)

    def adjoint(self, y):
        return y * self.mask.to(y)

    def solve_normal(self, b, weight):
        return b / (self.mask.to(b) + per_sample(weight, b))

    def to_image(self, y):
        return torch.where(self.mask.to(y.device), y, -1).clamp(-1, 1)  # each pixel in its colour
