"""`daps-kit show`: a component's parameters, and a section to copy."""

from __future__ import annotations

import click

from daps_kit.recipe import describe
from daps_kit.registry import default_registry

from .list import as_data
from .options import as_json, complete_components, plugin_files
from .terminal import print_json, print_table, print_yaml, say


@click.command("show")
@click.argument("component", metavar="KIND/NAME", shell_complete=complete_components)
@as_json
@plugin_files
def command(component: str, as_json: bool) -> None:
    """Describe a component, such as operator/gaussian_blur: its parameters, and a section to copy."""
    registry = default_registry()
    found = describe.look_up(component, registry)
    settings = describe.parameters(found, registry)
    snippet = describe.snippet(found, registry)
    text = describe.text(found)
    if as_json:
        listed = [vars(parameter) for parameter in settings]
        papers = [{**vars(paper), "bibtex": paper.bibtex()} for paper in found.settings.papers]
        data = {"description": text, "parameters": listed, "papers": papers, "recipe": snippet}
        print_json({**as_data(found), **data})
        return
    say(f"{found.kind}/{found.name}, provided by {found.distribution} {found.version}\n")
    say(f"{text}\n")
    rows = [
        (p.name, p.type, "(required)" if p.default is None else p.default, p.range, p.description)
        for p in settings
    ]
    if rows:
        print_table(("parameter", "type", "default", "range", "description"), rows)
        say()
    print_yaml(snippet)
    if found.settings.papers:
        say("\nto cite:")
        for paper in found.settings.papers:
            say(f"  {paper}")
