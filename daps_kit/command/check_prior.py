"""`daps-kit check-prior`: is a prior what it should be?"""

from __future__ import annotations

import click

from daps_kit.prior_check.choice import choose_priors

from .options import as_json, plugin_files, prior_argument
from .terminal import print_json, print_table, say


@click.command("check-prior")
@prior_argument
@as_json
@plugin_files
def command(prior: tuple[str, ...], as_json: bool) -> None:
    """Check a prior on known images: its denoising errors, its data range, and that its weights are not random.

    \b
    daps-kit check-prior embedded
    daps-kit check-prior '{use: trained, path: weights.safetensors}'
    daps-kit check-prior my.yaml          the prior of a recipe, on the recipe's images

    Leaves with 2 if something is wrong.
    """
    choices = choose_priors(prior)
    from daps_kit.prior_check.report import report_on  # which imports torch

    reports = [report_on(choice) for choice in choices]
    if as_json:
        print_json([report.as_json() for report in reports])
    for report in () if as_json else reports:
        print_table(*report.table)
        say(f"\n{report.sentence}")
    if any(report.verdict.problems for report in reports):
        raise click.exceptions.Exit(2)
