"""The plan of the house: rooms, the imports between them, floors and circles, and how often a run comes back to a room.

    python -m tests.house [CHECKOUT] [--recipe NAME]      # of this checkout, or of another, such as an older one

A room is a file of the ground floor (`daps_kit/*.py`) or a wing (a sub-package). An import is an arrow from one room
to another, counted once; one inside a function is late, one under TYPE_CHECKING is for types alone. Floors are the
rooms of the longest chain of arrows at module level, those of a circle being one.

The walk is what a reader meets who follows `daps-kit run`: the functions of the host in the order in which they are
first called. A visit is a stretch of the walk in one room, a return any visit to a room but the first.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Import(NamedTuple):
    """Module `source` imports module `target`, when: `module`, `types` or `late`."""

    source: str
    target: str
    when: str


def modules(package: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = file
    return found


def imports(package: Path) -> list[Import]:
    """Return the imports among the modules of a package."""
    known = modules(package)
    found = []
    for source, file in known.items():
        home = source if file.name == "__init__.py" else source.rpartition(".")[0]
        for node, when in _statements(ast.parse(file.read_text(encoding="utf-8")), "module"):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                up = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*up, *([node.module] if node.module else [])])
                targets = [
                    f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
                    for alias in node.names
                ]
            found += [Import(source, t, when) for t in dict.fromkeys(targets) if t in known and t != source]
    return found


def _statements(node: ast.AST, when: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Yield the import statements below a node, and when each is run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, when
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _statements(child, "late")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _statements(child, "types" if when == "module" else when)
        else:
            yield from _statements(child, when)


def room(module: str) -> str:
    """Return the room of a module of the host: itself, or its wing."""
    return ".".join(module.split(".")[:2])


def circles(arrows: set[tuple[str, str]]) -> list[set[str]]:
    """Return the sets of names that lead to each other."""

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        ahead = {name}
        while ahead:
            ahead = {target for source, target in arrows if source in ahead} - seen
            seen |= ahead
        return seen

    names = {name for arrow in arrows for name in arrow}
    after = {name: reached(name) for name in names}
    found = {frozenset(b for b in after[a] if a in after[b]) for a in names}
    return [set(each) for each in found if each]


def floors(names: set[str], arrows: set[tuple[str, str]]) -> int:
    """Return the length of the longest chain of arrows, those in a circle being one."""
    together = {name: min(circle) for circle in circles(arrows) for name in circle}
    merged = {(together.get(a, a), together.get(b, b)) for a, b in arrows}

    @cache
    def height(name: str) -> int:
        return 1 + max((height(b) for a, b in merged if a == name != b), default=0)

    return max(height(together.get(name, name)) for name in names)


WALK = """
import importlib
import sys
seen = []
known = set()
def note(frame, event, argument):
    if event == "call":
        name = frame.f_globals.get("__name__", "")
        code = frame.f_code
        function = code.co_flags & 1 and not code.co_name.startswith("<")
        if name.partition(".")[0] == "daps_kit" and function and code not in known:
            known.add(code)
            seen.append(name)
try:
    main = importlib.import_module(sys.argv[1]).main
    sys.setprofile(note)
    main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end
finally:
    sys.setprofile(None)
    print("\\n".join(seen), file=sys.stderr)
"""


def walk(checkout: Path, recipe: str, output: Path) -> list[str]:
    """Return the modules of the functions of the host in the order in which a run first calls them."""
    path = [checkout, *(checkout / folder for folder in ("operators", "priors", "samplers"))]
    entry = "daps_kit.command.main" if (checkout / "daps_kit" / "command").is_dir() else "daps_kit.cli"
    done = subprocess.run(
        [sys.executable, "-c", WALK, entry, "run", recipe, "--quiet", "--output", str(output)],
        capture_output=True, text=True, check=False, cwd=checkout,
        env={**os.environ, "PYTHONPATH": ":".join(map(str, path))},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [line for line in done.stderr.splitlines() if line.startswith("daps_kit")]


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--recipe", help="walk through its run, too")
    parser.add_argument("--output", type=Path, help="a folder for its results")
    given = parser.parse_args()
    package = given.checkout.resolve() / "daps_kit"
    found = imports(package)
    rooms = {room(name) for name in modules(package) if name != "daps_kit"}
    between = {
        when: {
            (room(i.source), room(i.target))
            for i in found
            if i.when == when and room(i.source) != room(i.target) and "daps_kit" not in (i.source, i.target)
        }
        for when in ("module", "types", "late")
    }
    every = set().union(*between.values())
    print(f"rooms {len(rooms)}, files {len(modules(package))}")
    print(f"imports between rooms {len(every)}: {', '.join(f'{k} {len(v)}' for k, v in between.items())}")
    print(f"floors {floors(rooms, between['module'])}, of all imports {floors(rooms, every)}")
    print(f"circles at module level {len(circles(between['module']))}, of all imports {circles(every)}")
    if given.recipe:
        visited = [room(name) for name in walk(given.checkout.resolve(), given.recipe, given.output)]
        visits = [name for i, name in enumerate(visited) if i == 0 or visited[i - 1] != name]
        counts = {name: visits.count(name) for name in dict.fromkeys(visits)}
        print(f"walk: {len(visited)} functions in {len(counts)} rooms, {len(visits) - len(counts)} returns")
        print(
            ", ".join(
                f"{name.removeprefix('daps_kit.')} {n}"
                for name, n in sorted(counts.items(), key=lambda p: -p[1])
            )
        )


if __name__ == "__main__":
    main()
