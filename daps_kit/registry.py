"""Discovery: which plugins are installed, what they offer, and what is wrong with those that do not work.

A plugin is an entry point of the group `daps_kit`. Each is loaded in a `try` of its own, and one that fails is a
value with an error and a remedy: it is shown by `daps-kit plugins`, and named when a recipe asks for a component
that it may have offered. It never keeps the host from starting.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pluggy
from pydantic import BaseModel

import daps_kit
from daps_kit import hooks
from daps_kit.errors import ComponentError, did_you_mean
from daps_kit.settings import KINDS, ComponentSettings, Kind, members

__all__ = ["BUILTIN", "Component", "Plugin", "Registry", "default_registry"]

BUILTIN = "daps-kit"
"""The distribution whose components ship with the host."""

DISABLE = "DAPS_KIT_DISABLE"
"""Environment variable: distributions not to load, separated by commas; `*` for every one but the built-in."""

HOOKS: dict[Kind, str] = {kind: f"daps_{kind}s" for kind in KINDS}
"""The hook of each kind of component."""


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
    seconds: float = 0.0
    output: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def _normal(distribution: str) -> str:
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
        if _normal(wanted.name) == BUILTIN and applies and not fits:
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


class Registry:
    """The components that recipes can name, and the plugins they come from."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self._components: list[Component] = []

    @classmethod
    def discover(cls, *, third_parties: bool = True) -> Registry:
        """Load every installed plugin; without `third_parties` only the built-in ones."""
        registry = cls()
        manager = pluggy.PluginManager(hooks.GROUP)
        manager.add_hookspecs(hooks)
        disabled = {_normal(name.strip()) for name in os.environ.get(DISABLE, "").split(",") if name.strip()}
        found = [
            (p.dist, p) for p in importlib.metadata.entry_points(group=hooks.GROUP) if p.dist is not None
        ]
        for dist, point in sorted(found, key=lambda pair: (_normal(pair[0].name), pair[1].name)):
            name = _normal(dist.name)
            off = name != BUILTIN and (not third_parties or "*" in disabled or name in disabled)
            plugin = Plugin(f"{dist.name}:{point.name}", dist.name, dist.version, point.value, "disabled")
            registry.plugins.append(plugin if off else registry._load(manager, point, plugin))
        return registry

    def _load(
        self, manager: pluggy.PluginManager, point: importlib.metadata.EntryPoint, plugin: Plugin
    ) -> Plugin:
        """Import a plugin and take in its components; return what came of it."""
        printed = io.StringIO()
        components: list[Component] = []
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
                for kind, settings in _offered(manager, plugin.id):
                    component = Component(kind, settings.name, plugin.distribution, plugin.version, settings)
                    components.append(component)
            self._refuse_repeats(components)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:  # noqa: BLE001 (whatever a plugin does, the host goes on)
            error, remedy = _explain(caught), _remedy(caught, plugin.distribution, point.module)
            components = []
            with contextlib.suppress(Exception):
                manager.unregister(name=plugin.id)
        self._components += components
        return replace(
            plugin,
            status="broken" if error else "ok",
            error=error,
            remedy=remedy,
            provides=tuple(components),
            seconds=(imported if imported > start else time.perf_counter()) - start,
            output=printed.getvalue().strip(),
        )

    def _refuse_repeats(self, found: list[Component]) -> None:
        """Refuse a name that the same distribution offers twice: not even `distribution/name` would tell them apart."""
        taken = {(c.kind, c.qualified) for c in self._components}
        for component in found:
            key = (component.kind, component.qualified)
            if key in taken:
                raise InvalidPluginError(
                    f"{component.distribution} offers the {component.kind} '{component.name}' twice"
                )
            taken.add(key)

    def add(self, *classes: type[ComponentSettings], distribution: str = "local", version: str = "0") -> None:
        """Register settings classes directly, as tests and notebooks do.

        Raises:
            InvalidPluginError: a class does not follow the rules, or its name is taken within the distribution.
        """
        found = [
            Component(cls.kind, check_settings(cls.kind, cls).name, distribution, version, cls)
            for cls in classes
        ]
        self._refuse_repeats(found)
        self._components += found

    @contextlib.contextmanager
    def extended(self, *classes: type[ComponentSettings], distribution: str = "local") -> Iterator[Registry]:
        """Register settings classes for the time of a `with` block."""
        before = list(self._components)
        self.add(*classes, distribution=distribution)
        try:
            yield self
        finally:
            self._components = before

    def components(self, kind: Kind | None = None) -> list[Component]:
        """Return the components of a kind (of every kind), sorted by name."""
        chosen = [c for c in self._components if kind in (None, c.kind)]
        return sorted(chosen, key=lambda c: (list(KINDS).index(c.kind), c.name, c.distribution))

    def find(self, kind: Kind, name: str) -> Component:
        """Return the component called `name`, or `distribution/name`.

        Raises:
            ComponentError: there is none, or two plugins offer the name.
        """
        known = self.components(kind)
        distribution, _, bare = name.rpartition("/")
        found = [
            c
            for c in known
            if c.name == bare and (not distribution or _normal(c.distribution) == _normal(distribution))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            owners = ", ".join(f"{c.distribution} {c.version}" for c in found)
            raise ComponentError(
                f"several plugins offer '{name}' ({owners}): write {' or '.join(c.qualified for c in found)}"
            )
        raise ComponentError(self._unknown(kind, name, known))

    def _unknown(self, kind: Kind, name: str, known: list[Component]) -> str:
        names = list(dict.fromkeys(c.name for c in known))
        message = f"unknown {kind} '{name}'; there are {', '.join(names) or 'none'}"
        message += did_you_mean(name.rpartition("/")[2], names)
        other = [c for c in self._components if c.name == name]
        if other:
            message += f"; '{name}' is a {other[0].kind}"
        for plugin in self.plugins:
            if plugin.status == "broken":
                message += (
                    f"; the plugin {plugin} may offer it but is broken: {plugin.error} ({plugin.remedy})"
                )
            elif plugin.status == "disabled":
                message += f"; the plugin {plugin} is switched off and may offer it"
        return message

    def component_of(self, settings: ComponentSettings | type[ComponentSettings]) -> Component:
        """Return the component that a settings object belongs to.

        Raises:
            ComponentError: its class was never registered.
        """
        cls = settings if isinstance(settings, type) else type(settings)
        for component in self._components:
            if component.settings is cls:
                return component
        raise ComponentError(f"{cls.__qualname__} is not offered by any plugin")

    def name_in_recipe(self, settings: ComponentSettings | type[ComponentSettings]) -> str:
        """Return the name for a recipe that is to last: qualified, unless built in and unambiguous."""
        component = self.component_of(settings)
        rivals = [c for c in self.components(component.kind) if c.name == component.name]
        plain = _normal(component.distribution) == BUILTIN and len(rivals) == 1
        return component.name if plain else component.qualified


def _offered(manager: pluggy.PluginManager, plugin_id: str) -> Iterator[tuple[Kind, type[ComponentSettings]]]:
    """Yield what the hooks of a registered plugin return, checked."""
    callers = {caller.name: caller for caller in manager.get_hookcallers(manager.get_plugin(plugin_id)) or []}
    if not callers:
        raise InvalidPluginError(
            f"it has no function marked @hookimpl; those known are {', '.join(HOOKS.values())}"
        )
    for kind, hook in HOOKS.items():
        for implementation in callers[hook].get_hookimpls() if hook in callers else []:
            if implementation.plugin_name == plugin_id:
                offered: Any = implementation.function()
                if not isinstance(offered, Iterable):
                    raise InvalidPluginError(f"{hook} returned {offered!r}, not a list of settings classes")
                for settings in offered:
                    yield kind, check_settings(kind, settings)


def _explain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InvalidPluginError):
        return text
    if isinstance(error, pluggy.PluginValidationError):
        wrong = re.search(r"unknown hook '(\w+)'", text)
        if wrong:
            known = ", ".join(HOOKS.values())
            return f"unknown hook '{wrong[1]}'; there are {known}{did_you_mean(wrong[1], HOOKS.values())}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@functools.cache
def default_registry() -> Registry:
    """Return the registry of the installed plugins, loaded once."""
    return Registry.discover()
