"""Discovery: which plugins are installed, what they offer, and what is wrong with those that do not work.

A plugin is an entry point of the group `daps_kit`. Each is loaded in a `try` of its own, and one that fails is a
value with an error and a remedy: it is shown by `daps-kit plugins`, and named when a recipe asks for a component
that it may have offered. It never keeps the host from starting.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pluggy
from pydantic import BaseModel

import daps_kit
from daps_kit import hooks
from daps_kit.errors import did_you_mean
from daps_kit.settings import KINDS, ComponentSettings, Kind, members
from daps_kit.sources import Source

__all__ = [
    "BUILTIN",
    "Component",
    "InvalidPluginError",
    "Plugin",
    "check_settings",
    "discover",
    "normal",
    "refuse_repeats",
]

BUILTIN = "daps-kit"
"""The distribution whose components ship with the host."""

DISABLE = "DAPS_KIT_DISABLE"
"""Environment variable: distributions not to load, separated by commas; `*` for every one but the built-in."""

HOOKS: dict[Kind, str] = {kind: f"daps_{kind}s" for kind in KINDS}
"""The hook of each kind of component."""

CHECKPOINTS = "daps_checkpoints"
"""The hook that brings no components, but sources of checkpoints."""

KNOWN = (*HOOKS.values(), CHECKPOINTS)


@dataclass(frozen=True)
class Component:
    """Something a recipe can name by `use:`."""

    kind: Kind
    name: str
    distribution: str
    version: str
    settings: type[ComponentSettings]

    @property
    def qualified(self) -> str:
        """The name that is never ambiguous, `distribution/name`."""
        return f"{self.distribution}/{self.name}"


@dataclass(frozen=True)
class Plugin:
    """An entry point of the group, and what came of loading it.

    Attributes:
        id: `distribution:entry point`.
        entry_point: the object that it names, such as `my_package.plugin`.
        error, remedy: what is wrong and what helps; empty where nothing is.
        provides: its components.
        sources: the checkpoints that it knows where to fetch.
        seconds: how long its import took.
        output: what it printed while it was imported.
    """

    id: str
    distribution: str
    version: str
    entry_point: str
    status: Literal["ok", "broken", "disabled"]
    error: str = ""
    remedy: str = ""
    provides: tuple[Component, ...] = field(default=(), repr=False)
    sources: tuple[Source, ...] = field(default=(), repr=False)
    seconds: float = 0.0
    output: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def normal(distribution: str) -> str:
    """Return the name of a distribution as names are compared."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


class InvalidPluginError(Exception):
    """What a plugin offers does not follow the rules; the text says which."""


class OtherHostError(InvalidPluginError):
    """A plugin asks for another version of daps-kit than this one.

    Args:
        plugin: its distribution and version.
        wanted: the versions it asks for, such as `>=2`.
    """

    def __init__(self, plugin: str, wanted: str) -> None:
        super().__init__(f"{plugin} asks for daps-kit {wanted}, this is daps-kit {daps_kit.__version__}")
        self.wanted = wanted


def _require_this_host(dist: importlib.metadata.Distribution) -> None:
    """Raise `OtherHostError` where what a distribution requires excludes this daps-kit.

    pip sees to that when it installs, but not when daps-kit is replaced later.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    for line in dist.requires or []:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        fits = wanted.specifier.contains(daps_kit.__version__, prereleases=True)
        if normal(wanted.name) == BUILTIN and applies and not fits:
            raise OtherHostError(f"{dist.name} {dist.version}", str(wanted.specifier))


def check_settings(kind: Kind, cls: Any) -> type[ComponentSettings]:
    """Return `cls` if it is a valid settings class of the kind; raise `InvalidPluginError` if not."""
    base = KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise InvalidPluginError(
            f"{HOOKS[kind]} returned {cls!r}, which is not a subclass of {base.__name__}"
        )
    label = f"{kind} {cls.__qualname__}"
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)):
        raise InvalidPluginError(f"{label} needs a `name` of letters, digits, '_', '-' and '.', not {name!r}")
    if not (cls.__doc__ or "").strip():
        raise InvalidPluginError(f"{label} has no docstring; its first line is the summary that users see")
    if "use" in cls.model_fields:
        raise InvalidPluginError(
            f"{label} has a field `use`, which is the recipe's own word for the component"
        )
    if not (cls.model_config.get("frozen") and cls.model_config.get("extra") == "forbid"):
        raise InvalidPluginError(f"{label} must keep frozen=True and extra='forbid' of its base class")
    bare = [
        key for key, info in cls.model_fields.items() if not (info.description or _sections(info.annotation))
    ]
    if bare:
        raise InvalidPluginError(f"{label} has fields without a description: {', '.join(bare)}")
    if getattr(cls, "__abstractmethods__", None):
        raise InvalidPluginError(f"{label} does not define {', '.join(sorted(cls.__abstractmethods__))}")
    return cls


def _sections(annotation: Any) -> bool:
    """Whether a field is a section with a docstring, which describes it well enough."""
    return any(isinstance(m, type) and issubclass(m, BaseModel) and m.__doc__ for m in members(annotation))


def _remedy(error: BaseException, distribution: str, module: str) -> str:
    """Return what a user can do about a plugin that failed."""
    if isinstance(error, OtherHostError):
        here = daps_kit.__version__
        return f"install a version of {distribution} for daps-kit {here}, or 'daps-kit{error.wanted}'"
    if isinstance(error, ModuleNotFoundError) and error.name:
        if module == error.name or module.startswith(f"{error.name}."):
            return f"its own module is not there: reinstall {distribution}"
        if error.name.partition(".")[0] != "daps_kit":
            return f"install the module '{error.name}', or {distribution} anew with what it depends on"
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "daps_kit":
        return f"it was written for another daps-kit than {daps_kit.__version__}: upgrade {distribution} or daps-kit"
    return f"report it to the authors of {distribution}; {DISABLE}={distribution} switches it off"


def discover(*, third_parties: bool = True) -> list[Plugin]:
    """Load every installed plugin, in the order of their distributions; without `third_parties` only the built-in."""
    manager = pluggy.PluginManager(hooks.GROUP)
    manager.add_hookspecs(hooks)
    disabled = {normal(name.strip()) for name in os.environ.get(DISABLE, "").split(",") if name.strip()}
    points = [(p.dist, p) for p in importlib.metadata.entry_points(group=hooks.GROUP) if p.dist is not None]
    found: list[Plugin] = []
    for dist, point in sorted(points, key=lambda pair: (normal(pair[0].name), pair[1].name)):
        name = normal(dist.name)
        off = name != BUILTIN and (not third_parties or "*" in disabled or name in disabled)
        plugin = Plugin(f"{dist.name}:{point.name}", dist.name, dist.version, point.value, "disabled")
        found.append(plugin if off else _load(manager, point, plugin, found))
    return found


def _load(
    manager: pluggy.PluginManager,
    point: importlib.metadata.EntryPoint,
    plugin: Plugin,
    before: Sequence[Plugin],
) -> Plugin:
    """Import a plugin, after those before it, and return what came of it."""
    printed = io.StringIO()
    components: list[Component] = []
    sources: list[Source] = []
    error = remedy = ""
    start = imported = time.perf_counter()
    try:
        with contextlib.redirect_stdout(printed):
            if point.dist is not None:
                _require_this_host(point.dist)
            module = point.load()
            imported = time.perf_counter()
            manager.register(module, plugin.id)
            manager.check_pending()
            for hook, item in _offered(manager, plugin.id):
                if hook == CHECKPOINTS:
                    sources.append(replace(_check_source(item), distribution=plugin.distribution))
                else:
                    kind: Kind = next(kind for kind in KINDS if HOOKS[kind] == hook)
                    name = check_settings(kind, item).name
                    components.append(Component(kind, name, plugin.distribution, plugin.version, item))
        refuse_repeats(components, [c for other in before for c in other.provides])
        refuse_repeats(sources, [source for other in before for source in other.sources])
    except KeyboardInterrupt:
        raise
    except BaseException as caught:  # noqa: BLE001 (whatever a plugin does, the host goes on)
        error, remedy = _explain(caught), _remedy(caught, plugin.distribution, point.module)
        components, sources = [], []
        with contextlib.suppress(Exception):
            manager.unregister(name=plugin.id)
    return replace(
        plugin,
        status="broken" if error else "ok",
        error=error,
        remedy=remedy,
        provides=tuple(components),
        sources=tuple(sources),
        seconds=(imported if imported > start else time.perf_counter()) - start,
        output=printed.getvalue().strip(),
    )


def _offered(manager: pluggy.PluginManager, plugin_id: str) -> Iterator[tuple[str, Any]]:
    """Yield what the hooks of a registered plugin return, each with the name of its hook."""
    callers = {caller.name: caller for caller in manager.get_hookcallers(manager.get_plugin(plugin_id)) or []}
    if not callers:
        raise InvalidPluginError(f"it has no function marked @hookimpl; those known are {', '.join(KNOWN)}")
    for hook in KNOWN:
        for implementation in callers[hook].get_hookimpls() if hook in callers else []:
            if implementation.plugin_name == plugin_id:
                offered: Any = implementation.function()
                if not isinstance(offered, Iterable):
                    what = "sources" if hook == CHECKPOINTS else "settings classes"
                    raise InvalidPluginError(f"{hook} returned {offered!r}, not a list of {what}")
                for item in offered:
                    yield hook, item


def _check_source(source: Any) -> Source:
    if not isinstance(source, Source):
        raise InvalidPluginError(f"{CHECKPOINTS} returned {source!r}, which is not a Source")
    return source


def refuse_repeats(found: Sequence[Component | Source], before: Sequence[Component | Source]) -> None:
    """Refuse a name that a distribution offers twice: not even `distribution/name` would tell them apart.

    Raises:
        InvalidPluginError: the name.
    """

    def kind(item: Component | Source) -> str:
        return item.kind if isinstance(item, Component) else "checkpoint"

    taken = {(kind(item), item.qualified) for item in before}
    for item in found:
        if (kind(item), item.qualified) in taken:
            raise InvalidPluginError(f"{item.distribution} offers the {kind(item)} '{item.name}' twice")
        taken.add((kind(item), item.qualified))


def _explain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InvalidPluginError):
        return text
    if isinstance(error, pluggy.PluginValidationError):
        wrong = re.search(r"unknown hook '(\w+)'", text)
        if wrong:
            known = ", ".join(HOOKS.values())
            return f"unknown hook '{wrong[1]}'; there are {known}{did_you_mean(wrong[1], KNOWN)}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
