"""Components made of functions: a function's typed arguments are its settings, its docstring says what it is.

    @daps_kit.operator(linear=True)
    def vignette(x, strength: float = 0.5):
        \"\"\"Darker corners.

        Args:
            strength: how much light is lost in the corners, from 0 to 1
        \"\"\"
        ...
        return x * (1 - strength * distance)

In a file that a recipe names under `plugins` this is `operator: {use: vignette, strength: 0.3}`. The function stays one
to be called, and `vignette.settings(strength=0.3)` are its settings. Importing this module does not import torch.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Generic,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from daps_kit.errors import InvalidPluginError, UserError
from daps_kit.paths import FilePath
from daps_kit.settings import (
    ComponentSettings,
    NoiseSettings,
    OperatorSettings,
    PriorSettings,
    members,
)

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Noise, Operator, Prior
    from daps_kit.shape import Shape

__all__ = ["Declared", "noise", "operator", "prior"]

P = ParamSpec("P")
R = TypeVar("R")


class Declared(Generic[P, R]):
    """A function that is a component.

    Attributes:
        settings: the class of its settings.
    """

    def __init__(self, function: Callable[P, R], settings: type[ComponentSettings]) -> None:
        functools.update_wrapper(self, function)
        self.function, self.settings = function, settings

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def of(self, **values: Any) -> ComponentSettings:
        """Return its settings with some of their values, the others at their defaults.

        Raises:
            UserError: a value is wrong or missing, or there is no such setting.
        """
        try:
            return self.settings(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join([self.settings.name, *map(str, first["loc"])])
            raise UserError(f"{place}: {first['msg']}") from None

    def __repr__(self) -> str:
        return f"<{self.settings.kind} {self.settings.name}>"


@dataclass(frozen=True)
class _Declaration:
    """What a decorator was told: the function, which of its arguments are settings, and its options."""

    function: Callable[..., Any]
    arguments: tuple[str, ...]
    options: Mapping[str, Any]


class _Function(ComponentSettings):
    """What the settings of functions share."""

    declaration: ClassVar[_Declaration]


def _bound(settings: _Function, function: Callable[..., Any], **known: Any) -> Callable[..., Any]:
    """Return a function with its settings filled in, and what it wants to know of the run."""
    values = {key: getattr(settings, key) for key in settings.declaration.arguments} | known
    taken = inspect.signature(function).parameters
    return functools.partial(function, **{key: value for key, value in values.items() if key in taken})


class _FunctionOperator(_Function, OperatorSettings):
    """A forward model that is a function."""

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from daps_kit.functions import make_operator

        forward = _bound(self, self.declaration.function, shape=shape, seed=seed)
        options = dict(self.declaration.options)
        if options["adjoint"] is not None:
            options["adjoint"] = _bound(self, options["adjoint"], shape=shape, seed=seed)
        return make_operator(forward, shape, self.noise.build(), label=self.name, device=device, **options)


class _FunctionPrior(_Function, PriorSettings):
    """A prior whose denoiser is a function."""

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior."""
        from daps_kit.functions import FunctionPrior

        denoiser = _bound(self, self.declaration.function, shape=shape)
        return FunctionPrior(denoiser, label=self.name, **self.declaration.options)


class _FunctionNoise(_Function, NoiseSettings):
    """A noise model whose distribution a function returns."""

    def model(self) -> Noise:
        """Return the noise model."""
        from daps_kit.functions import DistributionNoise

        return DistributionNoise(_bound(self, self.declaration.function), label=self.name)


@typing.overload
def operator(function: Callable[P, R], /) -> Declared[P, R]: ...
@typing.overload
def operator(
    *,
    name: str | None = None,
    linear: bool = False,
    adjoint: Callable[..., Any] | None = None,
    multimodal: bool = False,
    black: float = -1.0,
    unknowable: Sequence[str] = (),
) -> Callable[[Callable[P, R]], Declared[P, R]]: ...
def operator(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    linear: bool = False,
    adjoint: Callable[..., Any] | None = None,
    multimodal: bool = False,
    black: float = -1.0,
    unknowable: Sequence[str] = (),
) -> Any:
    """Make a forward model of a function of images x [B, C, H, W] in [-1, 1], which returns measurements [B, ...].

    It is differentiable by torch and draws nothing. Its other arguments are settings: each has a type, a default or
    both; `Annotated[float, Field(gt=0)]` bounds it. Those called `shape` and `seed` are none: they get (C, H, W) and
    the number from which something may be drawn, always the same. The noise is the setting `noise`, as of any operator.

    Args:
        function: the forward model.
        name: of the component; the function's where not given.
        linear: whether it is linear in x, by which samples are drawn exactly; tried on random images.
        adjoint: A^T, a function of y [B, ...] and of any of the settings; by autograd where not given.
        multimodal: whether images quite unlike the true one explain y nearly as well.
        black: value of a measurement that means no light.
        unknowable: arguments, real numbers, that a recipe may leave open, with a prior: `{unknown: [low, high]}`.

    Raises:
        InvalidPluginError: an argument has neither type nor default, or cannot be a setting.
    """
    options = {"linear": linear, "adjoint": adjoint, "multimodal": multimodal, "black": black}
    return _decorated(
        function, _FunctionOperator, name, ("x",), ("shape", "seed"), options, tuple(unknowable)
    )


@typing.overload
def prior(function: Callable[P, R], /) -> Declared[P, R]: ...
@typing.overload
def prior(
    *,
    name: str | None = None,
    shape: Sequence[int] | None = None,
    channels: int | None = None,
    sigma_range: tuple[float, float] = ...,
) -> Callable[[Callable[P, R]], Declared[P, R]]: ...
def prior(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    shape: Sequence[int] | None = None,
    channels: int | None = None,
    sigma_range: tuple[float, float] = (0.0, float("inf")),
) -> Any:
    """Make a prior of a denoiser, a function of x_t [B, C, H, W] and of sigma that returns E[x0 | x0 + sigma n = x_t].

    sigma is a positive 0-d tensor. Other arguments are settings, as those of `operator`; one called `shape` gets (C, H,
    W) of the images, or None.

    Args:
        function: the denoiser.
        name: of the component; the function's where not given.
        shape: (C, H, W) of the images that it knows; any where not given.
        channels: of the images, where any size serves but not any number of channels.
        sigma_range: noise levels at which it is valid.

    Raises:
        InvalidPluginError: an argument has neither type nor default, or cannot be a setting.
    """
    options = {"shape": shape, "channels": channels, "sigma_range": sigma_range}
    return _decorated(function, _FunctionPrior, name, ("x", "sigma"), ("shape",), options)


@typing.overload
def noise(function: Callable[P, R], /) -> Declared[P, R]: ...
@typing.overload
def noise(*, name: str | None = None) -> Callable[[Callable[P, R]], Declared[P, R]]: ...
def noise(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make a noise model of a function of clean measurements [B, ...], which returns the distribution of y.

    That is a `torch.distributions.Distribution`, independent in each element, such as `Laplace(clean, scale)`, whose
    `log_prob` is differentiable by `clean`. Other arguments are settings, as those of `operator`.

    Args:
        function: the noise model.
        name: of the component; the function's where not given.

    Raises:
        InvalidPluginError: an argument has neither type nor default, or cannot be a setting.
    """
    return _decorated(function, _FunctionNoise, name, ("clean",), (), {})


def _decorated(
    function: Callable[..., Any] | None,
    base: type[_Function],
    name: str | None,
    data: tuple[str, ...],
    known: tuple[str, ...],
    options: Mapping[str, Any],
    unknowable: tuple[str, ...] = (),
) -> Any:
    """Return the function as a component; without a function the decorator that does so."""
    if function is None:
        how: dict[str, Any] = {"base": base, "name": name, "data": data, "known": known, "options": options}
        return functools.partial(_decorated, **how, unknowable=unknowable)
    if isinstance(function, Declared) or not callable(function) or not hasattr(function, "__name__"):
        raise InvalidPluginError(f"{function!r} is no function, of which a {base.kind} could be made")
    text = inspect.cleandoc(function.__doc__ or f"The function {function.__name__}.")
    fields = _fields(function, base, data, known, _described(text))
    made: Any
    try:
        made = create_model(
            function.__name__,
            __base__=base,
            __module__=function.__module__,
            __doc__=_SECTION.split(text, maxsplit=1)[0].strip() or text,
            **fields,
        )
    except PydanticUserError as error:
        raise InvalidPluginError(
            f"{function.__name__}: a type of its arguments cannot be written in a recipe ({_first(error)})"
        ) from None
    for argument in unknowable:
        if argument not in fields or float not in members(made.model_fields[argument].annotation):
            raise InvalidPluginError(
                f"{function.__name__}: unknowable '{argument}' is no argument of type float"
            )
    made.unknowable = dict.fromkeys(unknowable)
    made.name, made.declaration = name or function.__name__, _Declaration(function, tuple(fields), options)
    return Declared(function, made)


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _fields(
    function: Callable[..., Any],
    base: type[ComponentSettings],
    data: tuple[str, ...],
    known: tuple[str, ...],
    described: Mapping[str, str],
) -> dict[str, Any]:
    """Return the fields that the arguments of a function are."""
    label = function.__name__
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) < len(data) or any(p.kind not in positional for p in parameters[: len(data)]):
        raise InvalidPluginError(f"{label} needs the argument{'s' * (len(data) > 1)} {', '.join(data)} first")
    taken = {"use", *base.model_fields, *base.__class_vars__}
    found: dict[str, Any] = {}
    for parameter in parameters[len(data) :]:
        name = parameter.name
        if name in known:
            continue
        if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise InvalidPluginError(f"{label}: '{parameter}' is no setting; give each argument a name")
        if name in taken or hasattr(base, name) or name.startswith("_"):
            raise InvalidPluginError(
                f"{label}: no setting can be called '{name}'; call the argument otherwise"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        annotation = _annotation(function, parameter)
        texts = [a.description for a in get_args(annotation)[1:] if isinstance(a, FieldInfo)]
        about = next(filter(None, texts), None) or described.get(name) or f"the argument {name} of {label}"
        found[name] = (Annotated[annotation, Field(description=about, validate_default=True)], default)
    return found


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the type of an argument: as it is written, or that of its default."""
    place = f"{function.__name__}: the argument '{parameter.name}'"
    written = parameter.annotation
    if written is parameter.empty:
        if parameter.default is parameter.empty or not isinstance(
            parameter.default, bool | int | float | str | Path
        ):
            raise InvalidPluginError(f"{place} needs a type, such as {parameter.name}: float")
        written = type(parameter.default)
    holder = SimpleNamespace(__annotations__={"it": written})
    try:
        found = typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise InvalidPluginError(f"{place}: its type {written!r} is not known ({error})") from None
    return _with_files(found)


def _with_files(annotation: Any) -> Any:
    """Return a type in which paths are those of existing files, relative to the recipe."""
    if annotation is Path:
        return FilePath
    if get_origin(annotation) is not Annotated and Path in members(annotation):
        return Union[tuple(_with_files(member) for member in members(annotation))]  # noqa: UP007 (of a tuple)
    return annotation


_SECTION = re.compile(
    r"^(?:Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?|References?):?\s*$.*",
    re.MULTILINE | re.DOTALL,
)


def _described(text: str) -> dict[str, str]:
    """Return what a docstring says of arguments, by their names."""
    section = re.search(
        r"^(?:Args|Arguments|Parameters):\s*\n((?:[ \t]+.*(?:\n|$)|\s*\n)+)", text, re.MULTILINE
    )
    if section is None:
        return {}
    found: dict[str, str] = {}
    last = ""
    lines = inspect.cleandoc(section[1]).splitlines()
    for line in lines:
        entry = re.match(r"(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
        if entry:
            last = entry[1]
            found[last] = entry[2]
        elif last and line.strip():
            found[last] += f" {line.strip()}"
    return {name: about.strip().rstrip(".") for name, about in found.items() if about.strip()}
