"""The components that recipes can name, and the checkpoints that can be fetched, looked up by name."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from daps_kit.discovery import (
    BUILTIN,
    DISABLE,
    Component,
    Plugin,
    check_settings,
    discover,
    load_file,
    normal,
    refuse_repeats,
)
from daps_kit.errors import ComponentError, UserError, did_you_mean
from daps_kit.settings import KINDS, ComponentSettings, Kind
from daps_kit.sources import Source
from daps_kit.trackers import OfferedTracker, Tracker

__all__ = ["Registry", "default_registry"]

Offered = TypeVar("Offered", Component, Source, OfferedTracker)


class Registry:
    """What the plugins offer."""

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self.plugins = list(plugins)
        self.sources = [source for plugin in plugins for source in plugin.sources]
        self.trackers = [tracker for plugin in plugins for tracker in plugin.trackers]
        self._components = [component for plugin in plugins for component in plugin.provides]

    @classmethod
    def discover(cls, *, third_parties: bool = True) -> Registry:
        """Load every installed plugin; without `third_parties` only the built-in ones."""
        return cls(discover(third_parties=third_parties))

    def add(self, *classes: type[ComponentSettings], distribution: str = "local", version: str = "0") -> None:
        """Register settings classes directly, as tests and notebooks do.

        Raises:
            InvalidPluginError: a class does not follow the rules, or its name is taken within the distribution.
        """
        found = [
            Component(cls.kind, check_settings(cls.kind, cls).name, distribution, version, cls)
            for cls in classes
        ]
        refuse_repeats(found, self._components)
        self._components += found

    def add_files(self, files: Iterable[Path]) -> None:
        """Execute files of Python, which are plugins without a package; one that is known already is not loaded again.

        Raises:
            ComponentError: a file does not work; the text says why.
        """
        for file in files:
            if any(plugin.file == file for plugin in self.plugins):
                continue
            plugin = load_file(file, self.plugins)
            if plugin.status == "broken":
                raise ComponentError(f"{file}: {plugin.error} ({plugin.remedy})")
            self.plugins.append(plugin)
            self.sources += plugin.sources
            self.trackers += plugin.trackers
            self._components += plugin.provides

    def with_files(self, files: Iterable[Path]) -> Registry:
        """Return a registry that knows files of Python, too; itself where there are none.

        Raises:
            ComponentError: a file does not work.
        """
        files = list(files)
        if not files:
            return self
        other = copy.copy(self)
        other.plugins, other.sources = list(self.plugins), list(self.sources)
        other.trackers = list(self.trackers)
        other._components = list(self._components)
        other.add_files(files)
        return other

    @contextlib.contextmanager
    def extended(
        self, *classes: type[ComponentSettings], distribution: str = "local", files: Iterable[Path] = ()
    ) -> Iterator[Registry]:
        """Register settings classes, or files of Python, for the time of a `with` block."""
        before = (list(self.plugins), list(self.sources), list(self.trackers), list(self._components))
        try:
            self.add(*classes, distribution=distribution)
            self.add_files(files)
            yield self
        finally:
            self.plugins, self.sources, self.trackers, self._components = before

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
        found = _called(name, known)
        if found is not None:
            return found
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
        plain = normal(component.distribution) == BUILTIN and len(rivals) == 1
        return component.name if plain else component.qualified

    def source(self, name: str) -> Source:
        """Return the source of the checkpoint called `name`, or `distribution/name`.

        Raises:
            UserError: there is none, or two plugins offer the name.
        """
        found = _called(name, self.sources)
        if found is not None:
            return found
        known = [source.name for source in self.sources]
        raise UserError(f"no checkpoint '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")

    def tracker(self, name: str) -> type[Tracker]:
        """Return the tracker called `name`, or `distribution/name`.

        Raises:
            ComponentError: there is none, or two plugins offer the name.
        """
        found = _called(name, self.trackers)
        if found is not None:
            return found.tracker
        known = sorted({tracker.name for tracker in self.trackers})
        there = (
            f"there are {', '.join(known)}"
            if known
            else "none is installed (daps-trackers is a plugin with some)"
        )
        raise ComponentError(f"unknown tracker '{name}'; {there}{did_you_mean(name, known)}")


def _called(name: str, offered: Sequence[Offered]) -> Offered | None:
    """Return the one that is called `name`, or `distribution/name`.

    Raises:
        ComponentError: two plugins offer the name.
    """
    distribution, _, bare = name.rpartition("/")
    found = [
        each
        for each in offered
        if each.name == bare and (not distribution or normal(each.distribution) == normal(distribution))
    ]
    if len(found) > 1:
        owners = ", ".join(_owner(each) for each in found)
        strangers = {each.distribution for each in found if normal(each.distribution) != BUILTIN}
        shadow = len(strangers) < len(found)
        off = f"; {DISABLE}={','.join(sorted(strangers))} switches off what is not built in" if shadow else ""
        raise ComponentError(
            f"several plugins offer '{name}' ({owners}): write {' or '.join(each.qualified for each in found)}{off}"
        )
    return found[0] if found else None


def _owner(offered: Component | Source | OfferedTracker) -> str:
    version = offered.version if isinstance(offered, Component) else ""
    return f"{offered.distribution} {version}".strip()


@functools.cache
def default_registry() -> Registry:
    """Return the registry of the installed plugins, loaded once."""
    return Registry.discover()
