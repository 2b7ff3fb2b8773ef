r"""A number that a recipe leaves open, and what was known of it before anything was measured.

    noise: {use: gaussian, sigma: unknown}               the field's own prior, here Jeffreys'
    intensity: {unknown: [0.5, 5.0]}                     uniform
    intensity: {unknown: {use: lognormal, median: 2, factor: 1.5}}
    intensity: {unknown: [0.5, 5.0], truth: 2.0}          a simulated measurement has the value 2

A prior is known by its quantile function F^{-1}: u uniform in (0, 1) gives the value F^{-1}(u), so that whatever the
prior is, a sampler moves in u, where it is flat. Jeffreys' prior of a scale, p(s) proportional to 1 / s, has no
integral; it is cut where no measurement reaches.

Importing this module does not import torch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from statistics import NormalDist
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = [
    "DISTRIBUTIONS",
    "Distribution",
    "Jeffreys",
    "LogNormal",
    "LogUniform",
    "Normal",
    "Uniform",
    "Unknown",
]

ENDS = 1e-6
"""The probability beyond which a prior's values need not be allowed."""

SCALES = (1e-4, 1e2)
"""Where Jeffreys' prior is cut: measurements are numbers near 1."""


class Distribution(BaseModel):
    """The prior of an unknown number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @abstractmethod
    def quantile(self, u: float) -> float:
        """Return the value below which the number lies with probability u, 0 < u < 1."""

    @abstractmethod
    def cdf(self, value: float) -> float:
        """Return the probability of being below a value."""

    def written(self) -> Any:
        """Return it as a recipe has it."""
        return self.model_dump()


class _Between(Distribution):
    """A distribution between two values."""

    low: float = Field(description="least value")
    high: float = Field(description="largest value")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"[{self.low:g}, {self.high:g}] is no range; allowed: low < high")
        return self


class Uniform(_Between):
    """Every value between two ends is as likely."""

    use: Literal["uniform"] = Field(
        default="uniform", description="every value from low to high is as likely"
    )

    def quantile(self, u: float) -> float:
        """Return low + u (high - low)."""
        return self.low + u * (self.high - self.low)

    def cdf(self, value: float) -> float:
        """Return the share of the range below a value."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def written(self) -> Any:
        """Return [low, high]."""
        return [self.low, self.high]


class LogUniform(_Between):
    """Every order of magnitude between two positive ends is as likely."""

    use: Literal["log_uniform"] = Field(
        default="log_uniform", description="every order of magnitude from low to high is as likely"
    )
    low: float = Field(gt=0, description="least value")

    def quantile(self, u: float) -> float:
        """Return low (high / low)^u."""
        return float(self.low * (self.high / self.low) ** u)

    def cdf(self, value: float) -> float:
        """Return the share of the range below a value, on a logarithmic scale."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return min(share, 1.0)


class Jeffreys(Distribution):
    """Nothing is known of a scale: p(s) is proportional to 1 / s, from 0.0001 to 100."""

    use: Literal["jeffreys"] = Field(default="jeffreys", description="nothing is known of a scale")

    def quantile(self, u: float) -> float:
        """Return that of the range in which it is not cut."""
        return float(SCALES[0] * (SCALES[1] / SCALES[0]) ** u)

    def cdf(self, value: float) -> float:
        """Return that of the range in which it is not cut."""
        return LogUniform(low=SCALES[0], high=SCALES[1]).cdf(value)


class Normal(Distribution):
    """A normal distribution."""

    use: Literal["normal"] = Field("normal", description="near the mean, within a standard deviation or two")
    mean: float = Field(description="its mean")
    std: float = Field(gt=0, description="its standard deviation")

    def quantile(self, u: float) -> float:
        """Return mean + std times the quantile of N(0, 1)."""
        return self.mean + self.std * _STANDARD.inv_cdf(_open(u))

    def cdf(self, value: float) -> float:
        """Return the probability of being below a value."""
        return _STANDARD.cdf((value - self.mean) / self.std)


class LogNormal(Distribution):
    """A positive number that is known up to a factor."""

    use: Literal["lognormal"] = Field(
        "lognormal", description="near the median, with probability 0.68 within the factor"
    )
    median: float = Field(gt=0, description="its median")
    factor: float = Field(gt=1, description="within which it lies with probability 0.68")

    def quantile(self, u: float) -> float:
        """Return median factor^n, n the quantile of N(0, 1)."""
        return float(self.median * self.factor ** _STANDARD.inv_cdf(_open(u)))

    def cdf(self, value: float) -> float:
        """Return the probability of being below a value."""
        return _STANDARD.cdf(math.log(value / self.median) / math.log(self.factor)) if value > 0 else 0.0


_STANDARD = NormalDist()


def _open(u: float) -> float:
    return min(max(u, 1e-12), 1 - 1e-12)


DISTRIBUTIONS: list[type[BaseModel]] = [Uniform, LogUniform, LogNormal, Normal, Jeffreys]
"""The priors that a recipe names."""


class Unknown(float):
    """A number that is left open: where a number is needed it is the median of its prior, which it carries.

    Attributes:
        prior: what is known of it.
        truth: the value that a simulated measurement has; None where that is drawn from the prior.
    """

    prior: Distribution
    truth: float | None

    def __new__(cls, prior: Distribution, truth: float | None = None) -> Self:
        """Leave a number open."""
        made = super().__new__(cls, prior.quantile(0.5))
        made.prior, made.truth = prior, truth
        return made

    def __getnewargs__(self) -> Any:
        return self.prior, self.truth

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown) and (self.prior, self.truth) == (other.prior, other.truth)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.prior, self.truth))

    def __repr__(self) -> str:
        return f"Unknown({self.prior!r}, {self.truth!r})"

    @property
    def ends(self) -> tuple[float, float]:
        """Values that it hardly lies beyond."""
        return self.prior.quantile(ENDS), self.prior.quantile(1 - ENDS)

    def written(self) -> dict[str, Any]:
        """Return it as a recipe has it."""
        truth = {} if self.truth is None else {"truth": self.truth}
        return {"unknown": self.prior.written(), **truth}

    @classmethod
    def schema(cls) -> list[dict[str, Any]]:
        """Return the JSON Schemas of what a recipe may say in the place of a number."""
        number = {"type": "number"}
        pair = {"type": "array", "prefixItems": [number, number], "minItems": 2, "maxItems": 2}
        named = {
            "type": "object",
            "properties": {"use": {"enum": [m.model_fields["use"].default for m in DISTRIBUTIONS]}}
            | {key: number for m in DISTRIBUTIONS for key in m.model_fields if key != "use"},
            "additionalProperties": False,
        }
        section = {
            "type": "object",
            "description": "a number that is left open: its prior, [low, high] or named, and the value that a "
            "simulated measurement has",
            "properties": {"unknown": {"anyOf": [pair, named]}, "truth": number},
            "additionalProperties": False,
        }
        return [{"const": "unknown"}, section]
