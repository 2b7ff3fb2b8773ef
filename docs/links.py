"""List the addresses outside of this repository that pages, papers and checkpoints name, and who names them.

`python docs/links.py` prints them, to be opened by a person or a checker that has a network; it ends with 1 where the
form of one is wrong, which a test sees, too. Nothing is fetched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "docs/gallery/**/*.py", "docs/gallery/**/*.rst", "docs/notebooks/*.ipynb")
PAGES += ("plugins/*/README.md", "benchmarks/**/*.md", "recipes/**/*.md")

ADDRESS = re.compile(r"https?://[^\s<>\"'`\\{}|]+")
FORMS = {
    "arxiv.org": re.compile(r"/(abs|pdf)/(\d{4}\.\d{4,5}|[a-z-]+/\d{7})(v\d+)?"),
    "doi.org": re.compile(r"/10\.\d{4,9}/\S+"),
}
"""What follows the host, where that is known."""


def addresses(text: str) -> list[str]:
    """Return the addresses in a text, without the punctuation around them."""
    found = []
    for match in ADDRESS.findall(text):
        address = match.rstrip(".,;:!?*]")
        while address.endswith(")") and address.count(")") > address.count("("):
            address = address[:-1].rstrip(".,;:!?*]")
        found.append(address)
    return found


def fault(address: str) -> str:
    """Return what is wrong with the form of an address; empty where nothing is."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme != "https":
        return "not https"
    if not re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", host):
        return "no host"
    if address.count("(") != address.count(")"):
        return "a bracket is missing"
    form = FORMS.get(host)
    return f"not of the form of {host}" if form and not form.fullmatch(parts.path) else ""


def named() -> Iterator[tuple[str, str]]:
    """Yield each address with who names it."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            for address in addresses(path.read_text(encoding="utf-8")):
                yield address, str(path.relative_to(ROOT))
    from daps_kit.registry import default_registry

    for component in default_registry().components():
        for paper in component.settings.papers:
            if paper.link:
                yield paper.link, f"{component.kind}/{component.name}"
    for plugin in default_registry().plugins:
        for source in plugin.sources:
            yield source.address, f"checkpoint {source.name}"


def main() -> int:
    """Print the addresses, each with who names it and what is wrong with it."""
    by: dict[str, dict[str, None]] = {}
    for address, who in named():
        by.setdefault(address, {})[who] = None
    faults = {address: fault(address) for address in by}
    for address in sorted(by):
        print(f"{address}\t{', '.join(by[address])}{faults[address] and f'  WRONG: {faults[address]}'}")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
