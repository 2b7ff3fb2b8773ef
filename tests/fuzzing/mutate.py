"""Bad input of every kind: bytes, values, trees of values."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

__all__ = ["NASTY", "WORDS", "mutated_bytes", "mutated_tree", "paths"]

WORDS = (
    "", " ", ".", "..", "...", "../..", "../../x", "/", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~", "~nobody",
    "~root/x", "a/b", "a\\b", "\0", "a\0b", "\x1b[31mred", "\x1b]0;title\x07", "\r\n", "a\nb", "\ud800", "\udcff", "\u202e", "\u2028",
    "\ufeff", "\U0010ffff", "é" * 200, "n" * 5000, "%s%n", "{x}", "{0}", "$HOME", "`id`", "[", "*", "**/*", "???", "[[rich]]", "[/]",
    "null", "NaN", "inf", "1e999", "0x", "con", "-", "--help", "-x", "daps", "gaussian", "identity", "embedded", "photos", "images",
    "y.npy", "mask.npy", "photos/a.png", "photos", "fifo", "cuda:99999999999999999999", "meta", "mps", "cpu", "auto",
)  # fmt: skip
"""Text."""
NASTY: tuple[Any, ...] = (
    *WORDS, None, True, False, 0, -1, 1, 2, 3, 7, 10**6, 10**9, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5,
    1e-300, 1e300, -1e300, 5e-324, float("inf"), float("-inf"), float("nan"), [], {}, [[]], [{}], {"use": None}, {"use": "x"},
    {"use": "gaussian"}, {"use": ["a"]}, [0, 0], [1, 2, 3], [-1, -1, -1], [3, 10**5, 10**5], [10**9, 10**9, 10**9], [1] * 1000,
    {"a": {"b": {"c": {}}}}, [None, None], ["a", 1, {}],
)  # fmt: skip
"""Values that a recipe or a description can hold."""


def paths(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the keys that lead to each value of a tree of dicts and lists, the tree itself included."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [before, *(path for key, value in inner for path in paths(value, (*before, key)))]


def mutated_tree(tree: Any, draw: Random) -> Any:
    """Return a copy of a tree with one to three of its values replaced, removed, doubled, renamed or nested."""
    changed = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        path = draw.choice(paths(changed))
        if not path:
            if draw.random() < 0.1:
                return draw.choice(NASTY)
            continue
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        key = path[-1]
        match draw.randrange(8):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[draw.choice(WORDS)] = parent.pop(key)
            case 2 if isinstance(parent, dict):
                parent[draw.choice(WORDS)] = copy.deepcopy(draw.choice(NASTY))
            case 3:
                parent[key] = [parent[key]] * draw.choice((1, 2, 300))
            case 4:
                parent[key] = {draw.choice(WORDS): parent[key]}
            case 5 if isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
                parent[key] = parent[key] * draw.choice((-1, 0, 10, 1e6, 1e18, 0.5))
            case _:
                parent[key] = copy.deepcopy(draw.choice(NASTY))
    return changed


def mutated_bytes(data: bytes, draw: Random, *, head: int = 400) -> bytes:
    """Return a file cut off, with bytes or bits changed, put in, taken out or repeated, more often near its head."""
    changed = bytearray(data)
    size = min(len(changed), head) if draw.random() < 0.6 else len(changed)
    place = draw.randrange(max(1, size))
    match draw.randrange(9):
        case 0:
            del changed[place:]
        case 1:
            del changed[place : place + draw.randint(1, 40)]
        case 2:
            changed[place:place] = changed[: draw.randint(1, 40)]
        case 3:
            changed[place:place] = draw.randbytes(draw.randint(1, 40))
        case 4:
            length = draw.choice((2, 4, 8))
            changed[place : place + length] = draw.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * length
        case 5:
            changed[place : place + 8] = draw.choice((1 << 31, 1 << 40, 1 << 60)).to_bytes(
                8, draw.choice(("little", "big"))
            )
        case 6:
            changed += draw.randbytes(draw.choice((1, 100, 10_000)))
        case _:
            for _ in range(draw.randint(1, 6)):
                if changed:
                    changed[(place + draw.randrange(40)) % len(changed)] ^= 1 << draw.randrange(8)
    return bytes(changed)
