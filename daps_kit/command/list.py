"""`daps-kit list`: what recipes can be made of."""

from __future__ import annotations

from typing import Any

import click

from daps_kit.discovery import Component
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import KINDS, Kind

from .options import as_json, plugin_files
from .terminal import print_json, print_table, say

__all__ = ["as_data", "command"]


@click.command("list")
@click.argument("kind", required=False, type=click.Choice([f"{kind}s" for kind in KINDS]))
@as_json
@plugin_files
def command(kind: str | None, as_json: bool) -> None:
    """List the components that recipes can be made of."""
    wanted: Kind | None = next((each for each in KINDS if f"{each}s" == kind), None)
    registry = default_registry()
    found = registry.components(wanted)
    if as_json:
        print_json([as_data(c) for c in found])
        return
    rows = [(c.kind, c.name, c.settings.summary(), f"{c.distribution} {c.version}") for c in found]
    print_table(("kind", "name", "summary", "provided by"), rows)
    _warn_of_broken_plugins(registry)


def as_data(component: Component) -> dict[str, Any]:
    """Return what `--json` says of a component."""
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.settings.summary(),
        "distribution": component.distribution,
        "version": component.version,
    }


def _warn_of_broken_plugins(registry: Registry) -> None:
    broken = [str(plugin) for plugin in registry.plugins if plugin.status == "broken"]
    if broken:
        say(f"not shown, for they are broken: {', '.join(broken)}; see `daps-kit plugins`", err=True)
