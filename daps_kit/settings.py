"""How a component is declared in a recipe: frozen pydantic classes that know how to build it.

One class serves validation, `daps-kit list` and `show`, the JSON Schema and the resolved recipe. Importing this
module, or a plugin's settings, never imports torch: `build` does, when a run really needs the component.

    class Sharpen(OperatorSettings):
        \"\"\"Unsharp masking.\"\"\"           # the first line is the summary

        name = "sharpen"                     # `operator: {use: sharpen}`
        amount: float = Field(1.0, gt=0, description="strength of the mask")

        def build(self, *, shape, seed, device):
            from .sharpen import SharpenOperator

            return SharpenOperator(shape, self.noise.build(), self.amount)
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    Strict,
    field_validator,
    model_validator,
)

from daps_kit.errors import ComponentError
from daps_kit.papers import Paper
from daps_kit.paths import AnyPath, FilePath, readable_file, resolve_path
from daps_kit.shape import Shape
from daps_kit.unknown import Distribution, Jeffreys, Unknown

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from daps_kit.contracts import Kernel, Noise, Operator, Prior, Sampler
    from daps_kit.executor import Executor
    from daps_kit.trainer import Trainer

__all__ = [
    "KINDS",
    "AnyPath",
    "ComponentSettings",
    "DrawnOperatorSettings",
    "ExecutorSettings",
    "FilePath",
    "FloatRange",
    "GaussianNoiseSettings",
    "IntRange",
    "KernelSettings",
    "Kind",
    "NoiseSettings",
    "OperatorSettings",
    "Paper",
    "PriorSettings",
    "SamplerSettings",
    "Settings",
    "Shape",
    "TrainerSettings",
    "members",
    "resolve_path",
]

Kind = Literal["operator", "noise", "prior", "kernel", "sampler", "trainer", "executor"]

IntRange = Annotated[tuple[int, int], Strict(False)]
"""Two whole numbers, written `[low, high]`."""
FloatRange = Annotated[tuple[float, float], Strict(False)]
"""Two numbers, written `[low, high]`."""


SMALLEST, LARGEST = 1e-15, 1e15
"""Sizes of real numbers among settings, other than 0."""


class Settings(BaseModel):
    """A group of settings: immutable, every key known, every value of its exact type and finite.

    Attributes:
        retired: keys of earlier versions and the value they had by default. A recipe that gives that value says
            nothing, as recipes do that were resolved then.
        papers: what to cite where these settings are used.
    """

    retired: ClassVar[Mapping[str, Any]] = {}
    papers: ClassVar[tuple[Paper, ...]] = ()
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _carried(cls, value: Any) -> Any:
        """Refuse real numbers whose squares single precision does not hold."""
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and number and not SMALLEST <= abs(number) <= LARGEST:
                raise ValueError(
                    f"{number:g} is beyond what single precision carries; allowed: 0, and from {SMALLEST:g} to "
                    f"{LARGEST:g} in size"
                )
        return value


def members(annotation: Any) -> list[Any]:
    """Return the alternatives of an annotation: those of a union, or itself, without `Annotated`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    return [annotation]


def _paths(value: Any) -> list[Path]:
    """Return the paths among settings, at any depth."""
    if isinstance(value, BaseModel):
        value = [getattr(value, key) for key in type(value).model_fields]
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [path for item in value for path in _paths(item)]
    return [value] if isinstance(value, Path) else []


def _by_place(key: str, value: Any) -> dict[str, Any]:
    """Return what a field holds by its name, or the entries of a list by theirs, such as `operators.0`."""
    if isinstance(value, list | tuple):
        return {f"{key}.{place}": each for place, each in enumerate(value)}
    return {key: value}


class ComponentSettings(Settings):
    """Settings of something that a plugin offers and a recipe names by `use:`.

    Attributes:
        unknowable: real fields of an operator or a noise model, or lists of numbers, that a recipe may leave open
            (`unknown`), and the prior of each where none is said; None where one has to be. Such a field, or such an
            entry of a list, is an `Unknown`, a number that is the median of its prior, and the component is built again
            for each value that a sampler tries.
        periods: of those of them that mean the same again after so much, such as angles.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str]
    unknowable: ClassVar[Mapping[str, Distribution | None]] = {}
    periods: ClassVar[Mapping[str, float]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _left_open(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Keep what is left open: fields are made plain numbers."""
        made = handler(data)
        if isinstance(data, Mapping):
            for key, value in data.items():
                several = value if isinstance(value, list | tuple) else ()
                if isinstance(value, Unknown):
                    object.__setattr__(made, key, value)
                elif any(isinstance(each, Unknown) for each in several):
                    object.__setattr__(made, key, tuple(several))
        return made

    @property
    def parts(self) -> dict[str, ComponentSettings]:
        """The components of the same kind that this one is made of, by where its fields hold them."""
        found: dict[str, Any] = {}
        for key in type(self).model_fields:
            found |= _by_place(key, getattr(self, key))
        return {
            place: each
            for place, each in found.items()
            if isinstance(each, ComponentSettings) and each.kind == self.kind
        }

    def _of_all(self, what: Callable[[ComponentSettings], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what is said of its own fields and of those of its parts, by their places."""
        parts = {f"{place}.": part._of_all(what) for place, part in self.parts.items()}
        return {
            **what(self),
            **{f"{place}{key}": value for place, each in parts.items() for key, value in each.items()},
        }

    @property
    def left_open(self) -> dict[str, Unknown]:
        """The numbers that are left open, also those of lists and parts, such as `sigma.0`, `operators.0.length`."""

        def of(settings: ComponentSettings) -> dict[str, Unknown]:
            found: dict[str, Any] = {}
            for key in settings.unknowable:
                found |= _by_place(key, getattr(settings, key))
            return {key: value for key, value in found.items() if isinstance(value, Unknown)}

        return self._of_all(of)

    @property
    def all_periods(self) -> dict[str, float]:
        """The periods of its fields and those of its parts."""
        return self._of_all(lambda settings: settings.periods)

    def at(self, values: Mapping[str, float]) -> Self:
        """Return the same settings with numbers in the place of fields, by the names in `left_open`."""
        changed: dict[str, Any] = {key: value for key, value in values.items() if "." not in key}

        def change(place: str, value: Any) -> None:
            key, _, number = place.partition(".")
            if number:
                several = list(changed.get(key, getattr(self, key)))
                several[int(number)] = value
                value = type(getattr(self, key))(several)
            changed[key] = value

        for name, value in values.items():
            if name.partition(".")[0] in self.unknowable:
                change(name, value)
        for place, part in self.parts.items():
            start = f"{place}."
            own = {
                name.removeprefix(start): value for name, value in values.items() if name.startswith(start)
            }
            change(place, part.at(own))
        return self.model_copy(update=changed)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for key in cls.unknowable:
            said = properties[key]
            about = {word: said.pop(word) for word in ("title", "description", "default") if word in said}
            kinds = said.get("anyOf", [said])
            for kind in kinds:
                if "items" in kind:
                    kind["items"] = {"anyOf": [kind["items"], *Unknown.schema()]}
            properties[key] = {"anyOf": [*kinds, *Unknown.schema()], **about}
        return schema

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]

    def files(self) -> list[Path]:
        """Return the files and folders that the component reads when it is built; a run that goes on must find them as
        they were. By default every path among the settings, at any depth.
        """
        return _paths(self)

    def checkpoints(self) -> tuple[str, ...]:
        """Return the names of the published checkpoints that it takes from the cache, `distribution/name`."""
        return ()

    @classmethod
    def conventions(cls) -> str:
        """Return the rest of the docstring in one line: what a component takes for granted, for messages."""
        return " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n")[2].split())


class NoiseSettings(ComponentSettings):
    """Base of the settings of noise models: each says in `model` what it is; how values are recorded comes on top."""

    kind = "noise"
    quantised: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="bits of the converter that rounds noisy values, to 2^bits levels over the range `clipped`",
    )
    clipped: FloatRange | None = Field(
        default=None,
        description="[low, high] where noisy values saturate; where not given nowhere or, if they are quantised, at "
        "black and white: -1 and 1 for images, 0 and 1 for magnitudes",
    )

    @field_validator("clipped")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"{list(value)} is no range; allowed: [low, high] with low < high")
        return value

    @abstractmethod
    def model(self) -> Noise:
        """Return the noise model, of values before they are quantised or clipped."""

    def build(self) -> Noise:
        """Return the noise model, of recorded values."""
        noise = self.model()
        if self.quantised is None and self.clipped is None:
            return noise
        from daps_kit.noise import RecordedNoise

        return RecordedNoise(noise, bits=self.quantised, clipped=self.clipped)


class GaussianNoiseSettings(NoiseSettings):
    """Gaussian noise, of one standard deviation, or of one for each channel or element of the measurement."""

    name = "gaussian"
    unknowable: ClassVar = {"sigma": Jeffreys()}
    sigma: (
        Annotated[float, Field(ge=0)]
        | Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), Strict(False)]
        | Annotated[Path, BeforeValidator(readable_file)]
    ) = Field(
        default=0.05,
        description="standard deviation, in the units of the measurement (0 for noiseless data: as exact as single "
        "precision carries, 0.00035 on the scale of images), a list of one for each channel of the measurement, "
        "or a file (such as sigma.npy) with one for each element: an array that broadcasts to a measurement",
    )

    def model(self) -> Noise:
        """Return the noise model."""
        from daps_kit.noise import GaussianNoise

        if not isinstance(self.sigma, Path):
            return GaussianNoise(self.sigma)
        from torch import from_numpy

        from daps_kit.arrays import read_map

        try:
            return GaussianNoise(from_numpy(read_map(self.sigma, "sigma")))
        except ValueError as error:
            raise ComponentError(f"operator.noise.sigma: {self.sigma}: {error}") from None


class OperatorSettings(ComponentSettings):
    """Base of the settings of forward models."""

    kind = "operator"
    noise: NoiseSettings = Field(GaussianNoiseSettings(), description="noise model of the measurement")

    @property
    def per_image(self) -> bool:
        """Whether each image has an operator of its own."""
        return False

    @abstractmethod
    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator for images of `shape` (C, H, W); what is random in it is drawn from `seed`.

        Raises:
            daps_kit.errors.UserError: the settings do not fit the shape.
        """


class DrawnOperatorSettings(OperatorSettings):
    """Base of the settings of forward models that draw something, such as a mask, from the recipe's seed."""

    draw: Literal["shared", "per_image"] = Field(
        "shared", description="whether all images share one random draw or each has its own"
    )

    @property
    def per_image(self) -> bool:
        """Whether each image has an operator of its own."""
        return self.draw == "per_image"


class PriorSettings(ComponentSettings):
    """Base of the settings of diffusion priors."""

    kind = "prior"

    @abstractmethod
    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior; `shape` is that of the images of the run, where it is known.

        Raises:
            daps_kit.errors.UserError: weights are missing or damaged, or do not fit the shape.
        """


class KernelSettings(ComponentSettings):
    """Base of the settings of MCMC kernels."""

    kind = "kernel"

    @abstractmethod
    def build(self) -> Kernel:
        """Return the kernel."""


class SamplerSettings(ComponentSettings):
    """Base of the settings of samplers. A field of type `KernelSettings` takes any kernel by `{use: name}`."""

    kind = "sampler"

    @abstractmethod
    def build(self) -> Sampler:
        """Return the sampler."""


class TrainerSettings(ComponentSettings):
    """Base of the settings of what `daps-kit train` trains: priors, or networks inside operators."""

    kind = "trainer"
    output: AnyPath = Field(
        description="folder of checkpoints, log and trained weights, relative to the working folder; "
        "training/<name of the recipe> if not given"
    )

    @abstractmethod
    def build(self) -> Trainer:
        """Return the trainer; nothing is read or written before it runs."""


class ExecutorSettings(ComponentSettings):
    """Base of the settings of executors: where the batches of a run are computed. They change no result."""

    kind = "executor"

    @abstractmethod
    def build(self) -> Executor:
        """Return the executor; no worker is started before it opens a pool.

        Raises:
            daps_kit.errors.UserError: something that it needs is not installed.
        """


KINDS: dict[Kind, type[ComponentSettings]] = {
    "operator": OperatorSettings,
    "noise": NoiseSettings,
    "prior": PriorSettings,
    "kernel": KernelSettings,
    "sampler": SamplerSettings,
    "trainer": TrainerSettings,
    "executor": ExecutorSettings,
}
"""The kinds of component and the base class of the settings of each."""
