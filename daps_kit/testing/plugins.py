"""The conformance kit for an installed plugin: what `daps-kit plugins --check NAME` shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from daps_kit.discovery import Component
from daps_kit.errors import UserError, did_you_mean
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import Shape

from .base import Outcome, run_checks
from .checks import CHECKS, make_case

__all__ = ["PluginReport", "check_plugin", "in_words"]


@dataclass(frozen=True)
class PluginReport:
    """What the checks found of one component; `skipped` says why none was run, where none was."""

    component: Component
    outcomes: tuple[Outcome, ...] = ()
    skipped: str = ""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The checks that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")


def check_plugin(
    name: str, registry: Registry | None = None, *, shape: Shape | None = None
) -> list[PluginReport]:
    """Run the conformance checks on every component of an installed plugin, with its default settings.

    Args:
        name: a distribution, such as `daps-demosaic`, or `kind/name` for one component.
        registry: where it is looked up; the installed plugins by default.
        shape: (C, H, W) of the images that operators and priors are tried on.

    Raises:
        UserError: there is no such plugin, or it is broken or switched off.
    """
    return [_check(component, shape) for component in _components(name, registry or default_registry())]


def _components(name: str, registry: Registry) -> list[Component]:
    word, _, rest = name.partition("/")
    for kind in CHECKS:
        if rest and word == kind:
            return [registry.find(kind, rest)]
    plugins = [plugin for plugin in registry.plugins if name in (plugin.distribution, plugin.id)]
    if not plugins:
        known = sorted({plugin.distribution for plugin in registry.plugins})
        raise UserError(f"no plugin '{name}'; there are {', '.join(known)}{did_you_mean(name, known)}")
    for plugin in plugins:
        if plugin.status != "ok":
            raise UserError(f"the plugin {plugin} is {plugin.status}: {plugin.error} ({plugin.remedy})")
    return [component for plugin in plugins for component in plugin.provides]


def _check(component: Component, shape: Shape | None) -> PluginReport:
    if component.kind not in CHECKS:
        return PluginReport(component, skipped=f"there are no checks for a {component.kind}")
    try:
        settings = component.settings()
    except ValidationError as error:
        needed = ", ".join(str(e["loc"][0]) for e in error.errors() if e["loc"])
        return PluginReport(
            component, skipped=f"its defaults are not enough ({needed}); its own tests can give more"
        )
    case = make_case(component.kind, settings, shape)
    try:
        getattr(case, component.kind)
    except UserError as error:
        return PluginReport(component, skipped=f"it cannot be built with its defaults: {error}")
    return PluginReport(component, tuple(run_checks(case, CHECKS[component.kind])))


def in_words(reports: Iterable[PluginReport]) -> list[str]:
    """Return the reports as lines: one for each component, and one for each check that failed."""
    lines = []
    for report in reports:
        c = report.component
        if report.skipped:
            lines.append(f"{c.kind}/{c.name}: not checked, {report.skipped}")
            continue
        counts = [outcome.status for outcome in report.outcomes]
        parts = [f"{counts.count(word)} {word}" for word in ("passed", "failed", "skipped") if word in counts]
        lines.append(f"{c.kind}/{c.name}: {', '.join(parts)}")
        lines += [f"  {outcome}" for outcome in report.failed]
    return lines
