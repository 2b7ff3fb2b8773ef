"""`daps-kit calibrate`: measure how wrong a prior's denoiser is, for the sampler to know."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from daps_kit.prior_check.choice import choose_priors

from .options import plugin_files, prior_argument
from .terminal import say


@click.command("calibrate")
@prior_argument
@click.option("--images", metavar="PATH", help="A folder or glob of images the prior was not trained on.")
@click.option("--count", type=click.IntRange(2), default=16, show_default=True, help="How many images.")
@click.option(
    "--draws", type=click.IntRange(1), default=1, show_default=True, help="Draws of noise for each."
)
@click.option(
    "--chunk", type=click.IntRange(1), default=4, show_default=True, help="Images in a network call."
)
@click.option(
    "--head",
    is_flag=True,
    help="Fit a small network, too, that tells at which places of a picture the denoiser is unsure.",
)
@click.option("--steps", type=click.IntRange(20), default=600, show_default=True, help="Steps of that fit.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("calibration.safetensors"),
    show_default=True,
    help="The file that is written.",
)
@plugin_files
def command(
    prior: tuple[str, ...],
    images: str | None,
    count: int,
    draws: int,
    chunk: int,
    head: bool,
    steps: int,
    output: Path,
) -> None:
    """Measure the errors of a prior's denoiser by noise level, frequency and colour.

    \b
    daps-kit calibrate '{use: ddpm}' --images photos --output faces.safetensors
    prior: {use: ddpm, calibration: faces.safetensors}           # in the recipe

    With it the sampler knows what the network's guess of x0 leaves open, and needs one network call a level and no step
    sizes. Without --images the images of the recipe serve, and without a recipe the prior's own samples, which take
    some 80 calls each. Takes 17 calls for each image (and draw); once for a prior.

    With --head the sampler also learns where in a picture the denoiser is unsure: at edges more than in flat places.
    The head is fitted to the errors of the frozen denoiser, 16 calls a step, on as many images as there are; give some
    hundreds (--count 500). The same command goes on where a fit was broken off.
    """
    from rich.console import Console
    from rich.progress import Progress

    from daps_kit.fit_head import Fit  # which imports torch
    from daps_kit.prior_check.measure import measure_prior

    def tell(text: str) -> None:
        say(text, err=True)

    choice = choose_priors(prior)[0]
    fit = Fit(steps=steps, chunk=chunk) if head else None
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("head", total=steps, visible=head)
        said = measure_prior(
            choice,
            images,
            count=count,
            draws=draws,
            chunk=chunk,
            output=output,
            tell=tell,
            head=fit,
            watch=lambda fit: bar.update(task, completed=fit.step),
        )
    say(f"{output}: measured on {said}")
