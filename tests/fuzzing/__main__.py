"""Fuzz everything: is whatever comes in answered by a right result or by one clear line?

    python -m tests.fuzzing --recipes 1000 --names 100 --files 300 --checkpoints 150 --seed 0

The table has a row for each kind of input; below it is each fault, whose input is kept in its folder.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

from .checkpoints import checkpoint_cases
from .files import file_cases
from .recipes import name_cases, recipe_cases
from .watch import Tally, faulty, watch


def table(tallies: dict[str, Tally]) -> str:
    """Return the tallies as a table."""
    lines = ["| input | cases | of which | slowest | largest | faults |", "|---|---|---|---|---|---|"]
    for kind, tally in tallies.items():
        which = ", ".join(f"{count} {word}" for word, count in tally.outcomes.most_common())
        lines.append(
            f"| {kind} | {tally.cases} | {which} | {tally.seconds:.1f} s | {tally.megabytes:.0f} MB | {len(tally.faults)} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Fuzz as the command line says, and print the table; 1 where anything is at fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipes", type=int, default=1000, metavar="N", help="mutated recipes and overrides"
    )
    parser.add_argument("--names", type=int, default=100, metavar="N", help="runs with strange names")
    parser.add_argument("--files", type=int, default=300, metavar="N", help="files of each format and kind")
    parser.add_argument("--checkpoints", type=int, default=150, metavar="N", help="checkpoints and archives")
    parser.add_argument(
        "--kinds", default="", metavar="TEXT", help="only kinds of input that match, as in 'file.png'"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="home")
    folder = Path(tempfile.mkdtemp(prefix="fuzzing")).resolve()
    good = Path(tempfile.mkdtemp(prefix="good"))
    cases = [*recipe_cases(options.recipes), *name_cases(options.names)]
    cases += [*file_cases(options.files, good), *checkpoint_cases(options.checkpoints)]
    cases = [case for case in cases if re.search(options.kinds, case.kind)]
    tallies = watch(cases, folder, options.seed, lambda text: print(text, file=sys.stderr, flush=True))
    print(table(tallies))
    return bool(faulty(tallies))


if __name__ == "__main__":
    raise SystemExit(main())
