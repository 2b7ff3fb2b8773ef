"""Photographs restored by the prior that ships, beside what one would take instead: fourteen tasks, one table a size.

    python -m benchmarks photos --photos FOLDER [--small] [--full-size] [--tasks ...] [--methods ...] [--pictures N]

FOLDER holds photographs and `photos.csv` with the columns file and split. Those of the split `validation` are restored
and reported on: their central 256 x 256, by the default sampler, four samples; with `--small` the central 128 x 128 of
five; with `--full-size` two as they are. What a method leaves open was chosen among the candidates that `rivals` lists,
by least error on two photographs of the split `train`; nothing is tuned on validation pictures.

Every task, method and picture is a cell, kept as a JSON file in the work folder: the same command goes on where it was
broken off. Tables and plot are written anew into docs after each picture, from all cells there are; `--report` only
writes them; `--show` draws the photographs of the split `test`, damaged and restored. Seconds are the processor's, of
one thread, so that other work on the machine counts little.

cases    the tasks: an operator and a measurement for a picture
rivals   the other methods
run      a cell
report   cells -> the tables and the plot
show     the picture of test photographs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from daps_kit.errors import UserError

from .cases import TASKS, Form, load
from .report import write
from .run import methods_for, perceptual, run_cell
from .show import show

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str]) -> int:
    """Fill the cells that are missing and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--photos", type=Path, help="folder of photographs with photos.csv")
    parser.add_argument("--small", action="store_true", help="five pictures of 128 x 128")
    parser.add_argument("--full-size", action="store_true", help="two pictures as they are")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--methods", nargs="+", help="names of methods; all by default")
    parser.add_argument("--pictures", type=int, help="how many at most")
    parser.add_argument("--work", type=Path, default=Path("results/photos"), help="where cells are kept")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page photos.md")
    parser.add_argument("--report", action="store_true", help="run nothing, write the tables")
    parser.add_argument("--show", action="store_true", help="only draw the test photographs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    form = Form.named("small" if options.small else "whole" if options.full_size else "central")
    try:
        if not options.report:
            if options.photos is None:
                parser.error("--photos FOLDER is needed, unless --report")
            pictures = load(options.photos, "validation", form)[: options.pictures]
            if options.show:
                show(options.photos, options.docs / "pictures" / "photos-test.webp", Form.named("shown"))
                return 0
            training = load(options.photos, "train", Form.named("tuning"))
            judges = perceptual()
            for picture in pictures:
                for task in options.tasks:
                    for method in methods_for(task):
                        if options.methods is None or method.name in options.methods:
                            run_cell(options.work, form, task, method, picture, training, judges)
                write(options.work, options.docs)
        write(options.work, options.docs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
