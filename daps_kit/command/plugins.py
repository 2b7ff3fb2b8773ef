"""`daps-kit plugins`: what is installed, what is wrong with it, and whether it does what its contract says."""

from __future__ import annotations

from typing import Any

import click

from daps_kit.discovery import BUILTIN, DISABLE, Plugin, normal
from daps_kit.registry import default_registry

from .options import as_json, plugin_files
from .terminal import print_json, print_table, say


@click.command("plugins")
@click.option(
    "--check",
    "name",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[NAME]",
    help="Leave with 1 if a plugin is broken; with NAME (a distribution or KIND/NAME) try whether it does what its "
    "contract says.",
)
@click.option(
    "--shape", nargs=3, type=click.IntRange(1), default=None, metavar="C H W", help="Images to try it on."
)
@as_json
@plugin_files
def command(name: str | None, shape: tuple[int, int, int] | None, as_json: bool) -> None:
    """List the installed plugins, what they provide, and what is wrong with those that do not work."""
    if name:
        from daps_kit.testing.plugins import check_plugin, in_words  # which imports torch

        reports = check_plugin(name, shape=shape)
        say("\n".join(in_words(reports)))
        raise click.exceptions.Exit(1 if any(report.failed for report in reports) else 0)

    found = default_registry().plugins
    if as_json:
        print_json([_as_data(plugin) for plugin in found])
    else:
        print_table(("plugin", "version", "status", "import", "provides"), [_row(plugin) for plugin in found])
        for plugin in found:
            for line in _remarks(plugin):
                say(f"{plugin.id}: {line}")
    if name == "" and any(plugin.status == "broken" for plugin in found):
        raise click.exceptions.Exit(1)


def _as_data(plugin: Plugin) -> dict[str, Any]:
    components = [f"{component.kind}/{component.name}" for component in plugin.provides]
    checkpoints = [source.name for source in plugin.sources]
    trackers = [offered.name for offered in plugin.trackers]
    return {**vars(plugin), "provides": components, "sources": checkpoints, "trackers": trackers}


def _row(plugin: Plugin) -> tuple[str, ...]:
    kinds: list[str] = [component.kind for component in plugin.provides]
    kinds += ["checkpoint"] * len(plugin.sources) + ["tracker"] * len(plugin.trackers)
    counts = [f"{kinds.count(kind)} {kind}{'s' * (kinds.count(kind) > 1)}" for kind in dict.fromkeys(kinds)]
    return plugin.id, plugin.version, plugin.status, f"{plugin.seconds:.2f} s", ", ".join(counts)


def _remarks(plugin: Plugin) -> list[str]:
    """Return what there is to say about a plugin."""
    lines = [f"{plugin.error}; {plugin.remedy}"] if plugin.error else []
    if plugin.seconds > 1:
        lines.append(
            f"its import takes {plugin.seconds:.1f} s of every command; its authors can import in build()"
        )
    own = {(c.kind, c.name) for c in default_registry().components() if normal(c.distribution) == BUILTIN}
    shadows = [c for c in plugin.provides if (c.kind, c.name) in own and normal(c.distribution) != BUILTIN]
    lines += [
        f"its {c.kind} {c.name} has the name of a built-in one: recipes write {BUILTIN}/{c.name} or {c.qualified}; "
        f"{DISABLE}={c.distribution} switches it off"
        for c in shadows
    ]
    if plugin.output:
        lines.append(f"it printed while it was imported: {' '.join(plugin.output.split())[:200]}")
    return lines
