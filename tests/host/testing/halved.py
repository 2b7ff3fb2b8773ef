"""An operator that is right, or wrong where asked."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from daps_kit.contracts import GaussianNoise, LinearOperator
from daps_kit.errors import UserError
from daps_kit.settings import OperatorSettings


class Halved(LinearOperator):
    """y = x / 2, with an adjoint that is wrong where asked."""

    def __init__(self, shape, wrong=False):
        super().__init__(shape, GaussianNoise(0.1))
        self.wrong = wrong

    def forward(self, x):
        return x / 2

    def adjoint(self, y):
        return y if self.wrong else y / 2


class HalvedSettings(OperatorSettings):
    """Half of the image is measured."""

    name = "halved"
    wrong: bool = Field(False, description="whether the adjoint is wrong")

    def build(self, *, shape: Any, seed: int, device: torch.device) -> Halved:
        if shape[0] == 2:
            raise UserError("halved needs 1 or 3 channels")
        return Halved(shape, self.wrong)


LIGHT = {"settings_import_is_light": "this file imports torch"}
