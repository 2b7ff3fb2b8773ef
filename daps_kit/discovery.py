"""Discovery: which plugins are installed, what they offer, and what is wrong with those that do not work.

A plugin is an entry point of the group `daps_kit`, or a file of Python that is named. Each is loaded in a `try` of its
own, and one that fails is a value with an error and a remedy: it is shown by `daps-kit plugins`, and named when a
recipe asks for a component that it may have offered. It never keeps the host from starting, never writes to the output
of a command, and leaves the host as it was (see `daps_kit.intact`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pluggy
from pydantic import BaseModel

import daps_kit
from daps_kit import hooks
from daps_kit.declare import Declared
from daps_kit.errors import InvalidPluginError, did_you_mean, text_of
from daps_kit.intact import intact
from daps_kit.plugin_file import line_of, load_module, named_files, source_of, version_of
from daps_kit.settings import KINDS, ComponentSettings, Kind, members
from daps_kit.sources import Source
from daps_kit.trackers import OfferedTracker, Tracker

__all__ = [
    "BUILTIN",
    "DISABLE",
    "Component",
    "InvalidPluginError",
    "Plugin",
    "check_settings",
    "discover",
    "load_file",
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

TRACKERS = "daps_trackers"
"""The hook that brings trackers."""

MOST = 1000
"""Components and sources of one plugin."""

KNOWN = (*HOOKS.values(), CHECKPOINTS, TRACKERS)


@dataclass(frozen=True)
class Component:
    """Something a recipe can name by `use:`.

    Attributes:
        distribution, version: what brings it; of a file of Python its name, and the first letters of its hash.
        file: that file.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    settings: type[ComponentSettings]
    file: Path | None = None

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
        trackers: who can be told how a run goes.
        seconds: how long its import took.
        output: what it printed while it was imported.
        file: the file of Python that it is, where it is no distribution.
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
    trackers: tuple[OfferedTracker, ...] = field(default=(), repr=False)
    seconds: float = 0.0
    output: str = ""
    file: Path | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def normal(distribution: str) -> str:
    """Return the name of a distribution as names are compared."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


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


def _remedy(error: BaseException, plugin: Plugin) -> str:
    """Return what a user can do about a plugin that failed."""
    distribution, module = plugin.distribution, plugin.entry_point.partition(":")[0].strip()
    name = str(error.name or "") if isinstance(error, ImportError) else ""
    if isinstance(error, OtherHostError):
        here = daps_kit.__version__
        return f"install a version of {distribution} for daps-kit {here}, or 'daps-kit{error.wanted}'"
    if isinstance(error, ModuleNotFoundError) and name:
        if module == name or module.startswith(f"{name}."):
            return f"its own module is not there: reinstall {distribution}"
        if plugin.file is not None and (plugin.file.parent / f"{name.partition('.')[0]}.py").exists():
            return "a file stands alone: put what it imports into it, or make a package of both"
        if name.partition(".")[0] != "daps_kit":
            return f"install the module '{name}', or {distribution} anew with what it depends on"
    if plugin.file is not None:
        return f"put {plugin.file} right"
    if name.partition(".")[0] == "daps_kit":
        return f"it was written for another daps-kit than {daps_kit.__version__}: upgrade {distribution} or daps-kit"
    return f"report it to the authors of {distribution}; {DISABLE}={distribution} switches it off"


def discover(*, third_parties: bool = True) -> list[Plugin]:
    """Load every installed plugin, in the order of their distributions, and the files that the environment names.

    Without `third_parties` only the built-in ones.
    """
    manager = _manager()
    disabled = _disabled() if third_parties else {"*"}
    found: list[Plugin] = []
    for point in _entry_points():
        distribution, version = _owner(point)
        off = normal(distribution) != BUILTIN and bool({"*", normal(distribution)} & disabled)
        plugin = Plugin(f"{distribution}:{point.name}", distribution, version, point.value, "disabled")
        found.append(plugin if off else _load(manager, point.load, point.dist, plugin, found))
    for file in named_files() if third_parties else ():
        found.append(load_file(file, found))
    return found


def load_file(path: Path, before: Sequence[Plugin] = ()) -> Plugin:
    """Execute a file of Python and return it as a plugin: its hooks, and its functions that are components.

    Args:
        path: absolute.
        before: the plugins whose names are taken.
    """
    plugin = Plugin(str(path), path.name, "", str(path), "disabled", file=path)
    with contextlib.suppress(OSError):
        plugin = replace(plugin, version=version_of(source_of(path)))
    if {"*", normal(path.name)} & _disabled():
        return plugin
    return _load(_manager(), lambda: load_module(path), None, plugin, before)


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hooks.GROUP)
    manager.add_hookspecs(hooks)
    return manager


def _disabled() -> set[str]:
    """Return the distributions that are switched off, `*` for all that are not built in."""
    names = (name.strip() for name in os.environ.get(DISABLE, "").split(","))
    return {"*" if name == "*" else normal(name) for name in names if name}


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    """Return the entry points of the group, in the order of their distributions."""
    try:
        points = list(importlib.metadata.entry_points(group=hooks.GROUP))
    except Exception:  # noqa: BLE001 (some distribution, of whomever, is damaged: ask the others one by one)
        points = []
        for dist in importlib.metadata.distributions():
            with contextlib.suppress(Exception):
                points += dist.entry_points.select(group=hooks.GROUP)
    known = [point for point in points if point.dist is not None]
    return sorted(known, key=lambda point: (normal(_owner(point)[0]), point.name))


def _owner(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Return the name and the version of the distribution of an entry point; a damaged one has none."""
    try:
        assert point.dist is not None
        return str(point.dist.name or point.value), str(point.dist.version or "")
    except Exception:  # noqa: BLE001 (whatever reading its metadata raises)
        return point.value, ""


def _load(
    manager: pluggy.PluginManager,
    load: Callable[[], Any],
    dist: importlib.metadata.Distribution | None,
    plugin: Plugin,
    before: Sequence[Plugin],
) -> Plugin:
    """Import a plugin by calling `load`, after those before it, and return what came of it."""
    printed = io.StringIO()
    stranger = normal(plugin.distribution) != BUILTIN
    components: list[Component] = []
    sources: list[Source] = []
    trackers: list[OfferedTracker] = []
    error = remedy = ""
    start = imported = time.perf_counter()
    pressed: list[int] = []
    changed: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            if stranger:
                pressed = stack.enter_context(_interrupts())
                changed = stack.enter_context(intact())
                stack.enter_context(_no_output(printed))
            stack.enter_context(contextlib.redirect_stdout(printed))
            if dist is not None:
                _require_this_host(dist)
            module = load()
            imported = time.perf_counter()
            manager.register(module, plugin.id)
            manager.check_pending()
            for hook, item in _offered(manager, plugin.id):
                if len(components) + len(sources) + len(trackers) >= MOST:
                    raise InvalidPluginError(f"{hook} returned more than {MOST} things")
                if hook == CHECKPOINTS:
                    sources.append(replace(_check_source(item), distribution=plugin.distribution))
                elif hook == TRACKERS:
                    tracker = _check_tracker(item)
                    trackers.append(OfferedTracker(tracker.name, plugin.distribution, tracker))
                else:
                    kind: Kind = next(kind for kind in KINDS if HOOKS[kind] == hook)
                    name = check_settings(kind, item).name
                    component = Component(kind, name, plugin.distribution, plugin.version, item, plugin.file)
                    components.append(component)
        if changed:
            raise InvalidPluginError(_changes(changed))
        refuse_repeats(components, [c for other in before for c in other.provides])
        refuse_repeats(sources, [source for other in before for source in other.sources])
        refuse_repeats(trackers, [tracker for other in before for tracker in other.trackers])
    except BaseException as caught:
        error, remedy = _explain(caught), _remedy(caught, plugin)
        if plugin.file is not None and (line := line_of(caught, plugin.file)):
            error = f"line {line}: {error}"
        if changed and not isinstance(caught, InvalidPluginError):
            error += f"; {_changes(changed)}"
        components, sources, trackers = [], [], []
        with contextlib.suppress(Exception):
            manager.unregister(name=plugin.id)
        if isinstance(caught, KeyboardInterrupt) and not stranger:
            raise
    if pressed:
        raise KeyboardInterrupt(
            f"stopped while the plugin {plugin.id} was loaded; {DISABLE}={plugin.distribution} switches it off"
        )
    return replace(
        plugin,
        status="broken" if error else "ok",
        error=error,
        remedy=remedy,
        provides=tuple(components),
        sources=tuple(sources),
        trackers=tuple(trackers),
        seconds=(imported if imported > start else time.perf_counter()) - start,
        output=printed.getvalue().strip(),
    )


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect what the user presses, and go on with the handler that there was; a plugin may swallow the exception."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if callable(before):
            before(number, frame)

    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _no_output(printed: io.StringIO) -> Iterator[None]:
    """Keep what is written to the standard output of the process, also by C or by a child, from whoever reads it."""
    import tempfile

    with contextlib.ExitStack() as stack:
        try:
            kept = os.dup(1)
        except OSError:  # it is closed
            yield
            return
        stack.callback(os.close, kept)
        file = stack.enter_context(tempfile.TemporaryFile())
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            file.seek(0)
            printed.write(file.read(1 << 20).decode(errors="replace"))


def _offered(manager: pluggy.PluginManager, plugin_id: str) -> Iterator[tuple[str, Any]]:
    """Yield what the hooks of a registered plugin return, each with the name of its hook."""
    module = manager.get_plugin(plugin_id)
    callers = {caller.name: caller for caller in manager.get_hookcallers(module) or []}
    declared = [item for item in vars(module).values() if isinstance(item, Declared) and _own(item, module)]
    if not callers and not declared:
        raise InvalidPluginError(
            f"it has no function marked @hookimpl; those known are {', '.join(KNOWN)}; nor one that "
            "@daps_kit.operator, @daps_kit.prior or @daps_kit.noise makes a component"
        )
    for item in dict.fromkeys(declared):
        yield HOOKS[item.settings.kind], item.settings
    for hook in KNOWN:
        for implementation in callers[hook].get_hookimpls() if hook in callers else []:
            if implementation.plugin_name == plugin_id:
                offered: Any = implementation.function()
                if not isinstance(offered, Iterable):
                    what = {CHECKPOINTS: "sources", TRACKERS: "trackers"}.get(hook, "settings classes")
                    raise InvalidPluginError(f"{hook} returned {offered!r}, not a list of {what}")
                for item in offered:
                    if not (isinstance(item, Declared) and item in declared):
                        yield hook, item.settings if isinstance(item, Declared) else item


def _own(item: Declared[..., Any], module: Any) -> bool:
    """Whether a function was written in a module (or a package's), and not imported from elsewhere."""
    home, name = str(item.settings.__module__), getattr(module, "__name__", "")
    return home == name or home.startswith(f"{name}.")


def _check_source(source: Any) -> Source:
    if not isinstance(source, Source):
        raise InvalidPluginError(f"{CHECKPOINTS} returned {source!r}, which is not a Source")
    return source


def _check_tracker(tracker: Any) -> type[Tracker]:
    if not (isinstance(tracker, type) and issubclass(tracker, Tracker)):
        raise InvalidPluginError(f"{TRACKERS} returned {tracker!r}, which is no class of trackers")
    name = getattr(tracker, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InvalidPluginError(
            f"the name of the tracker {tracker.__qualname__} has letters, digits, '_', '-' and '.', unlike {name!r}"
        )
    return tracker


def refuse_repeats(
    found: Sequence[Component | Source | OfferedTracker],
    before: Sequence[Component | Source | OfferedTracker],
) -> None:
    """Refuse a name that a distribution offers twice: not even `distribution/name` would tell them apart.

    Raises:
        InvalidPluginError: the name.
    """

    def kind(item: Component | Source | OfferedTracker) -> str:
        if isinstance(item, Component):
            return item.kind
        return "checkpoint" if isinstance(item, Source) else "tracker"

    taken = {(kind(item), item.qualified) for item in before}
    for item in found:
        if (kind(item), item.qualified) in taken:
            raise InvalidPluginError(f"{item.distribution} offers the {kind(item)} '{item.name}' twice")
        taken.add((kind(item), item.qualified))


def _changes(changed: Sequence[str]) -> str:
    return f"it changes {', '.join(changed)}, which is not its own; it was put back"


def _explain(error: BaseException) -> str:
    text = text_of(error)
    if isinstance(error, InvalidPluginError):
        return text
    if isinstance(error, pluggy.PluginValidationError):
        wrong = re.search(r"unknown hook '(\w+)'", text)
        if wrong:
            known = ", ".join(HOOKS.values())
            return f"unknown hook '{wrong[1]}'; there are {known}{did_you_mean(wrong[1], KNOWN)}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
