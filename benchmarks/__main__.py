"""`python -m benchmarks NAME [arguments]` runs `benchmarks/NAME.py`, whose `main` takes the arguments."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

from benchmarks import __path__ as folder


def main(arguments: list[str]) -> int:
    """Run the benchmark named first; return the exit code."""
    names = sorted(module.name for module in iter_modules(folder) if not module.name.startswith("_"))
    if not arguments or arguments[0] not in names:
        print(
            f"usage: python -m benchmarks NAME [arguments]; NAME is one of: {', '.join(names)}",
            file=sys.stderr,
        )
        return 2
    code = import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
