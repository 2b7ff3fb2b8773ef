"""Settings that show how a section was read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from daps_kit.errors import ComponentError
from daps_kit.settings import FilePath, KernelSettings, SamplerSettings


class Anything(KernelSettings):
    """Takes whatever is written, to see how it was read."""

    name = "anything"
    x: object = Field(None, description="anything")

    def build(self): ...


class Holder(SamplerSettings):
    """Has a default kernel with values of its own, kernels in lists, and a rule for all of it."""

    name = "holder"
    kernel: KernelSettings = Field(Anything(x=3), description="a kernel")
    others: tuple[KernelSettings, ...] = Field((), description="more kernels")
    table: dict[str, KernelSettings] = Field({}, description="kernels by name")
    file: FilePath | None = Field(None, description="a file")
    spare: KernelSettings | None = Field(None, description="a kernel, if any")
    word: str = Field("a", pattern="^[a-z]+$", description="a word")
    low: int = Field(0, description="low")
    mode: Literal["box", "random"] | FilePath = Field("box", description="a word or a file")
    numbers: int | tuple[int, int] = Field(1, description="one or two")

    @model_validator(mode="after")
    def _rule(self) -> Holder:
        if self.low > 5:
            raise ValueError("low must not be above 5")
        if self.low < -5:
            raise ComponentError("low must not be below -5")
        return self

    def build(self): ...
