"""The command line. What a command needs is imported when it runs: none but those that compute import torch."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

import daps_kit
from daps_kit.errors import RecipeError, UserError
from daps_kit.scaffold.write import new
from daps_kit.settings import KINDS

from .calibrate import calibrate
from .checkpoints import checkpoints
from .table import table
from .terminal import print_json, print_table, print_yaml

__all__ = ["main"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
recipe_arguments = [
    click.argument("recipe"),
    click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
]


class _Group(click.Group):
    """Shows a `UserError` as its line and leaves with 2; other exceptions are bugs and keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RecipeError as error:
            click.echo(str(error), err=True)
            raise click.exceptions.Exit(2) from None
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            raise click.exceptions.Exit(2) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(daps_kit.__version__, prog_name="daps-kit")
@click.option("--no-plugins", is_flag=True, help="Load no plugin but those that ship with daps-kit.")
def main(no_plugins: bool) -> None:
    """Posterior sampling for imaging inverse problems with diffusion priors.

    \b
    daps-kit run quickstart               the first pictures
    daps-kit recipes copy quickstart my.yaml
    daps-kit run my.yaml runs=4           a recipe of your own
    daps-kit list                         what recipes can be made of
    """
    if no_plugins:
        os.environ["DAPS_KIT_DISABLE"] = "*"


def _recipe_command(command: Any) -> Any:
    for argument in reversed(recipe_arguments):
        command = argument(command)
    return command


main.add_command(calibrate)
main.add_command(checkpoints)
main.add_command(new)
main.add_command(table)


@main.command()
@_recipe_command
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder of the results (the setting `output`)."
)
@click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
def run(recipe: str, overrides: tuple[str, ...], output: Path | None, quiet: bool) -> None:
    """Run a RECIPE: a file or the name of an installed one.

    KEY=VALUE changes a setting, such as `runs=4` or `sampler.kernel.steps=50`. The same command again goes on where
    it was broken off.
    """
    if output is not None:
        overrides = (*overrides, f"output={json.dumps(str(output))}")
    from daps_kit.runs.runner import run as run_recipe

    run_recipe(recipe, overrides, quiet=quiet)


@main.command()
@_recipe_command
@click.option("--quiet", "-q", is_flag=True, help="Print errors alone.")
def train(recipe: str, overrides: tuple[str, ...], quiet: bool) -> None:
    """Train a prior, or another network, by a RECIPE with a `trainer`.

    KEY=VALUE changes a setting, such as `trainer.images=photos`. The same command again goes on where it was broken
    off; with a larger `trainer.images_seen` it trains a finished network further.
    """
    from daps_kit.runs.train import train as train_recipe

    train_recipe(recipe, overrides, quiet=quiet)


@main.command()
@_recipe_command
@click.option("--resolved", is_flag=True, help="Print the recipe with every default written out.")
@as_json
def check(recipe: str, overrides: tuple[str, ...], resolved: bool, as_json: bool) -> None:
    """Validate a RECIPE without running it; every problem is listed."""
    from daps_kit.recipe import load_recipe, resolved_yaml
    from daps_kit.recipe.training import is_training, load_training

    training = is_training(recipe)
    found: list[tuple[str, Path, Any]]
    try:
        if training:
            trained = load_training(recipe, overrides)
            found = [(trained.name, trained.trainer.output, trained)]
        else:
            found = [(each.name, each.output, each) for each in load_recipe(recipe, overrides)]
    except RecipeError as error:
        if as_json:
            print_json({"valid": False, "problems": [_problem(problem) for problem in error.problems]})
            raise click.exceptions.Exit(2) from None
        raise
    if as_json:
        names = [{"name": name, "output": output} for name, output, _ in found]
        print_json({"valid": True, "recipes": names, "problems": []})
    elif resolved:
        command = "train" if training else "run"
        print_yaml("---\n".join(resolved_yaml(each, command=command) for *_, each in found))
    else:
        for name, output, _ in found:
            click.echo(f"{name}: valid; results go to {output}")


def _problem(problem: Any) -> dict[str, Any]:
    place = problem.location
    where = {"file": str(place.file), "line": place.line, "column": place.column} if place else {}
    return {"message": problem.message, "path": problem.path, **where}


@main.command("check-prior")
@click.argument("prior", nargs=-1, required=True, metavar="PRIOR|SECTION|RECIPE [KEY=VALUE]...")
@as_json
def check_prior(prior: tuple[str, ...], as_json: bool) -> None:
    """Check a prior on known images: its denoising errors, its data range, and that its weights are not random.

    \b
    daps-kit check-prior embedded
    daps-kit check-prior '{use: trained, path: weights.safetensors}'
    daps-kit check-prior my.yaml          the prior of a recipe, on the recipe's images

    Leaves with 2 if something is wrong.
    """
    from daps_kit.prior_check.choice import choose_priors

    choices = choose_priors(prior)
    from daps_kit.prior_check.report import report_on

    reports = [report_on(choice) for choice in choices]
    if as_json:
        print_json([report.as_json() for report in reports])
    for report in () if as_json else reports:
        print_table(*report.table)
        click.echo(f"\n{report.sentence}")
    if any(report.verdict.problems for report in reports):
        raise click.exceptions.Exit(2)


@main.command("list")
@click.argument("kind", required=False, type=click.Choice([f"{kind}s" for kind in KINDS]))
@as_json
def list_components(kind: str | None, as_json: bool) -> None:
    """List the components that recipes can be made of."""
    from daps_kit.registry import default_registry

    wanted = next((each for each in KINDS if f"{each}s" == kind), None)
    found = default_registry().components(wanted)
    if as_json:
        print_json([_component(c) for c in found])
        return
    rows = [(c.kind, c.name, c.settings.summary(), f"{c.distribution} {c.version}") for c in found]
    print_table(("kind", "name", "summary", "provided by"), rows)
    _warn_of_broken_plugins()


def _component(component: Any) -> dict[str, Any]:
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.settings.summary(),
        "distribution": component.distribution,
        "version": component.version,
    }


def _warn_of_broken_plugins() -> None:
    from daps_kit.registry import default_registry

    broken = [str(plugin) for plugin in default_registry().plugins if plugin.status == "broken"]
    if broken:
        click.echo(f"not shown, for they are broken: {', '.join(broken)}; see `daps-kit plugins`", err=True)


@main.command()
@click.argument("component", metavar="KIND/NAME")
@as_json
def show(component: str, as_json: bool) -> None:
    """Describe a component, such as operator/gaussian_blur: its parameters, and a section to copy."""
    from daps_kit.recipe import describe
    from daps_kit.registry import default_registry

    registry = default_registry()
    found = describe.look_up(component, registry)
    settings = describe.parameters(found, registry)
    snippet = describe.snippet(found, registry)
    if as_json:
        listed = [vars(parameter) for parameter in settings]
        text = describe.text(found)
        print_json({**_component(found), "description": text, "parameters": listed, "recipe": snippet})
        return
    click.echo(f"{found.kind}/{found.name}, provided by {found.distribution} {found.version}\n")
    click.echo(f"{describe.text(found)}\n")
    rows = [
        (p.name, p.type, "(required)" if p.default is None else p.default, p.range, p.description)
        for p in settings
    ]
    if rows:
        print_table(("parameter", "type", "default", "range", "description"), rows)
        click.echo()
    print_yaml(snippet)


@main.command()
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
def plugins(name: str | None, shape: tuple[int, int, int] | None, as_json: bool) -> None:
    """List the installed plugins, what they provide, and what is wrong with those that do not work."""
    from daps_kit.registry import default_registry

    if name:
        from daps_kit.testing.plugins import check_plugin, in_words

        reports = check_plugin(name, shape=shape)
        click.echo("\n".join(in_words(reports)))
        raise click.exceptions.Exit(1 if any(report.failed for report in reports) else 0)

    found = default_registry().plugins
    if as_json:
        print_json([{**vars(p), "provides": [f"{c.kind}/{c.name}" for c in p.provides]} for p in found])
    else:
        rows = []
        for plugin in found:
            kinds = [c.kind for c in plugin.provides]
            counts = [
                f"{kinds.count(kind)} {kind}{'s' * (kinds.count(kind) > 1)}" for kind in dict.fromkeys(kinds)
            ]
            rows.append(
                (plugin.id, plugin.version, plugin.status, f"{plugin.seconds:.2f} s", ", ".join(counts))
            )
        print_table(("plugin", "version", "status", "import", "provides"), rows)
        for plugin in found:
            for line in _remarks(plugin):
                click.echo(f"{plugin.id}: {line}")
    if name == "" and any(plugin.status == "broken" for plugin in found):
        raise click.exceptions.Exit(1)


def _remarks(plugin: Any) -> list[str]:
    """Return what there is to say about a plugin."""
    lines = [f"{plugin.error}; {plugin.remedy}"] if plugin.error else []
    if plugin.seconds > 1:
        lines.append(
            f"its import takes {plugin.seconds:.1f} s of every command; its authors can import in build()"
        )
    if plugin.output:
        lines.append(f"it printed while it was imported: {' '.join(plugin.output.split())[:200]}")
    return lines


@main.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of recipes, for completion and checks in an editor."""
    from daps_kit.recipe.schema import recipe_schema

    text = json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from None


@main.group(invoke_without_command=True)
@as_json
@click.pass_context
def recipes(context: click.Context, as_json: bool) -> None:
    """List the installed recipes, or copy one."""
    if context.invoked_subcommand:
        return
    from daps_kit.recipe.copy import headline
    from daps_kit.recipe.document import installed_recipes

    found = [(name, headline(file), file) for name, file in installed_recipes().items()]
    if as_json:
        print_json([{"name": name, "summary": first, "path": str(file)} for name, first, file in found])
    else:
        print_table(("recipe", "summary"), [(name, first) for name, first, _ in found])


@recipes.command("copy")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def copy(name: str, file: Path) -> None:
    """Copy the installed recipe NAME to FILE, complete and with its comments, to be edited."""
    from daps_kit.recipe.copy import copy_recipe

    written = copy_recipe(name, file)
    click.echo(f"{written}: edit it, then `daps-kit run {written}`", file=sys.stdout)
