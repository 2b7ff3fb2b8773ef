"""Mutants: does any test notice when an operator is turned into another one?

    python tests/mutation.py --count 100 --seed 0 --results mutants.jsonl samplers/daps_samplers daps_kit/runs

Each mutant changes one arithmetic operator or comparison of one file. The tests at the mirrored path run first, and then
the others of the same folder, until one fails or the time is up. Everything happens in a copy of the tracked files in
the working tree, so that work may go on; what has been tried is in the file of results, and the same command goes on
from there. Tests run in forks of a process that has the libraries loaded, so that a mutant costs little more than they
take.

A mutant is dead if a test fails or runs out of time; so the same tests have to pass without any first. Some mutants
change nothing that can be seen (`<` for `<=` between real numbers): who reads the list of survivors has to say which.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.mirror import mirrored, sources  # noqa: E402

ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
}
COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", (">=", "<=")),
    ast.LtE: ("<=", (">", "<")),
    ast.Gt: (">", ("<=", ">=")),
    ast.GtE: (">=", ("<", ">")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
}


@dataclass(frozen=True)
class Mutant:
    """An operator of a file, by its place in the text, and what takes its place."""

    file: str
    line: int
    start: int
    old: str
    new: str
    code: str

    def applied(self, text: str) -> str:
        """Return the text with the change made."""
        assert text[self.start : self.start + len(self.old)] == self.old
        return text[: self.start] + self.new + text[self.start + len(self.old) :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old} -> {self.new}: {self.code}"


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of a file; what only the type checker reads is left alone."""
    lines = [0]
    for line in text.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    encoded = text.encode()

    def place(line: int, column: int) -> int:
        return len(encoded[: lines[line - 1] + column].decode())

    def between(left: ast.expr, right: ast.expr, old: str, news: Sequence[str]) -> Iterator[Mutant]:
        assert left.end_lineno is not None
        assert left.end_col_offset is not None
        low, high = place(left.end_lineno, left.end_col_offset), place(right.lineno, right.col_offset)
        gap = re.sub(r"#.*", lambda comment: " " * len(comment[0]), text[low:high])
        start = low + gap.index(old)
        line = text.count("\n", 0, start)
        for new in news:
            yield Mutant(file, line + 1, start, old, new, text.splitlines()[line].strip())

    def walk(node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            old, new = ARITHMETIC[type(node.op)]
            words = any(isinstance(side, ast.Constant | ast.JoinedStr) and isinstance(getattr(side, "value", ""), str)
                        for side in (node.left, node.right))  # fmt: skip
            if not words:  # text joined to text can only be joined
                yield from between(node.left, node.right, old, (new,))
        elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
            old, new = ARITHMETIC[type(node.op)]
            yield from between(node.target, node.value, old + "=", (new + "=",))
        elif isinstance(node, ast.Compare):
            for left, op, right in zip(
                [node.left, *node.comparators], node.ops, node.comparators, strict=False
            ):
                if type(op) in COMPARISONS:
                    yield from between(left, right, *COMPARISONS[type(op)])
        for name, child in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                for each in child if isinstance(child, list) else [child]:
                    if isinstance(each, ast.AST):
                        yield from walk(each)

    yield from walk(ast.parse(text))


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """Give a copy of the tracked files, installed for this process and those it starts."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        tracked = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
        for file in filter(None, tracked.stdout.split("\0")):
            if (ROOT / file).is_file():
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, copy / file)
        folders = [copy, *(copy / folder for folder in ("operators", "priors", "samplers"))]
        (copy / "daps_recipes").symlink_to("recipes")
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        sys.path[:] = [*map(str, folders), *(entry for entry in sys.path if entry != str(ROOT))]
        yield copy


def survives(copy: Path, tests: Sequence[str], limit: float) -> bool:
    """Return whether all tests pass within so many seconds, in a fork that has imported none of the packages yet."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(copy)
        silent = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(silent, descriptor)
        import pytest

        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        code = 3
        with contextlib.suppress(BaseException):
            code = int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]))
        os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            # 0: all passed; 5: there was nothing to run.
            return os.waitstatus_to_exitcode(status) in (0, 5)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def rounds(file: str) -> list[list[str]]:
    """Return the tests of a file, and then those beside them."""
    own = ROOT / mirrored(file)
    beside = sorted(path.relative_to(ROOT).as_posix() for path in own.parent.glob("test_*.py") if path != own)
    return [[mirrored(file)] if own.exists() else [], beside]


def main() -> None:
    """Try a sample of mutants and print the score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="source files or folders, from the root of the repository")
    parser.add_argument("--count", type=int, default=100, help="how many mutants to try (100)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (0)")
    parser.add_argument(
        "--results", type=Path, default=Path("mutants.jsonl"), help="what has been tried, a line each"
    )
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for the tests of a mutant (180)")
    parser.add_argument(
        "--own", action="store_true", help="run no tests but those at the mirrored path: faster, fewer die"
    )
    options = parser.parse_args()
    files = [
        file
        for folder in options.folders
        for file in ([folder] if folder.endswith(".py") else sources(folder))
    ]
    every = [m for file in files for m in mutants(file, (ROOT / file).read_text(encoding="utf-8"))]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    tried = {}
    if options.results.exists():
        for line in options.results.read_text().splitlines():
            record = json.loads(line)
            survived = record.pop("survived")
            tried[Mutant(**record)] = survived
    import numpy  # noqa: F401
    import pydantic  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    torch.set_num_threads(1)
    sound: set[tuple[str, ...]] = set()
    with copied() as copy, options.results.open("a") as results:
        for number, mutant in enumerate(chosen, 1):
            if mutant not in tried:
                wanted = [tests for tests in rounds(mutant.file)[: 1 if options.own else 2] if tests]
                for tests in map(tuple, wanted):
                    if tests not in sound and not survives(copy, tests, options.limit):
                        sys.exit(f"without any mutant these tests fail or take too long: {' '.join(tests)}")
                    sound.add(tests)
                target = copy / mutant.file
                text = target.read_text(encoding="utf-8")
                target.write_text(mutant.applied(text), encoding="utf-8")
                try:
                    tried[mutant] = all(survives(copy, tests, options.limit) for tests in wanted)
                finally:
                    target.write_text(text, encoding="utf-8")
                results.write(json.dumps(asdict(mutant) | {"survived": tried[mutant]}) + "\n")
                results.flush()
            print(
                f"{number:4d} of {len(chosen)} {'SURVIVED' if tried[mutant] else 'dead    '} {mutant}",
                flush=True,
            )
    survivors = [mutant for mutant in chosen if tried[mutant]]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants died ({len(every)} there are); alive are")
    for mutant in survivors:
        print(f"  {mutant}")


if __name__ == "__main__":
    main()
