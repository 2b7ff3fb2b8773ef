"""Ranks with their critical difference, and fronts of quality against cost, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

__all__ = ["draw_front", "draw_ranks"]

WIDTH, LEFT, RIGHT, LINE = 760, 60, 40, 22
INK, FAINT, ACCENT = "#222", "#bbb", "#b03a2e"


def draw_ranks(title: str, ranks: Mapping[str, float], critical: float) -> str:
    """Return the picture of mean ranks on an axis, best at the left, with bars over those that cannot be told apart.

    Args:
        title: above it.
        ranks: of each sampler.
        critical: how far ranks have to be apart.
    """
    order = sorted(ranks, key=lambda name: ranks[name])
    most = max(len(order), 2)

    def x(rank: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (rank - 1) / (most - 1)

    bars = _bars([ranks[name] for name in order], critical)
    top = 66 + 10 * len(bars)
    height = top + LINE * len(order) + 24
    parts = [_text(LEFT, 20, title, bold=True)]
    parts += [_line(x(1), 46, x(most), 46, INK)]
    for tick in range(1, most + 1):
        parts += [_line(x(tick), 42, x(tick), 50, INK), _text(x(tick), 38, str(tick), anchor="middle")]
    if math.isfinite(critical):
        parts += [_text(WIDTH - RIGHT, 20, f"critical difference {critical:.2f}", anchor="end")]
    for place, (low, high) in enumerate(bars):
        parts.append(_line(x(low) - 4, 58 + 10 * place, x(high) + 4, 58 + 10 * place, ACCENT, 3))
    for place, name in enumerate(order):
        at, y = x(ranks[name]), top + LINE * place + 14
        parts.append(_line(at, 46, at, y - 4, FAINT))
        right = at > WIDTH / 2
        label = f"{name}  {ranks[name]:.2f}"
        parts.append(_text(at + (-6 if right else 6), y, label, anchor="end" if right else "start"))
    return _svg(height, parts)


def _bars(ranks: Sequence[float], critical: float) -> list[tuple[float, float]]:
    """Return the longest runs of ranks, rising, that are no further apart than the critical difference."""
    found: list[tuple[float, float]] = []
    for start, low in enumerate(ranks):
        high = max(rank for rank in ranks[start:] if rank - low <= critical)
        if high > low and (not found or high > found[-1][1]):
            found.append((low, high))
    return found


def draw_front(title: str, points: Mapping[str, tuple[float, float]], best: Sequence[str]) -> str:
    """Return the picture of points (cost, quality), cost on a logarithmic axis, the front joined.

    Args:
        title: above it.
        points: by name; costs are positive.
        best: names on the front, by rising cost.
    """
    height, bottom, top = 420, 370, 40
    costs = [math.log10(max(cost, 1e-9)) for cost, _ in points.values()]
    qualities = [quality for _, quality in points.values()]
    c0, c1 = min(costs) - 0.05, max(costs) + 0.35
    q0, q1 = min(qualities), max(qualities)
    room = 0.06 * (q1 - q0) or 1.0
    q0, q1 = q0 - room, q1 + room

    def at(name: str) -> tuple[float, float]:
        cost, quality = points[name]
        x = LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(max(cost, 1e-9)) - c0) / (c1 - c0)
        return x, bottom - (bottom - top) * (quality - q0) / (q1 - q0)

    parts = [_text(LEFT, 20, title, bold=True)]
    parts += [_line(LEFT, bottom, WIDTH - RIGHT, bottom, INK), _line(LEFT, top, LEFT, bottom, INK)]
    for power in range(math.floor(c0) - 1, math.ceil(c1) + 1):
        for digit in (1, 2, 5):
            tick = power + math.log10(digit)
            if c0 <= tick <= c1:
                x = LEFT + (WIDTH - LEFT - RIGHT) * (tick - c0) / (c1 - c0)
                parts += [
                    _line(x, bottom, x, bottom + 4, INK),
                    _text(x, bottom + 18, f"{digit * 10.0**power:g}", anchor="middle"),
                ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = q0 + share * (q1 - q0)
        parts.append(_text(LEFT - 6, bottom - share * (bottom - top) + 4, f"{value:.1f}", anchor="end"))
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, best))
    parts.append(f'<polyline points="{joined}" fill="none" stroke="{ACCENT}" stroke-width="2"/>')
    for name in points:
        x, y = at(name)
        colour = ACCENT if name in best else INK
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>', _text(x + 7, y + 4, name)]
    return _svg(height, parts)


def _svg(height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" font-size="12">'
    )
    return (
        "\n".join([head, f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>', *parts, "</svg>"])
        + "\n"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}"{weight}>{escape(text)}</text>'
