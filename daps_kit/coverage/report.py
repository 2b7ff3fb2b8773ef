"""Coverage as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from daps_kit.tables import markdown_table

from .found import Found
from .ranks import Coverage

__all__ = ["picture", "table"]

_INK, _FAINT, _ACCENT, _BAND = "#1d2733", "#6b7785", "#0b7a75", "#dbe7e6"
_COLOURS = (_ACCENT, "#b4532a", "#5b4b9a", "#3b6fb6", _INK)
_SIDE, _GAP, _MARGIN, _TOP = 220, 56, 44, 96


def table(found: Found) -> str:
    """Return coverage.md."""
    k = found.k
    rows = [
        [
            kind,
            f"{c.covered[k - 1]:.3f} ± {c.covered_errors[k - 1]:.3f}",
            f"{c.due[k - 1]:.3f}",
            f"{c.deviation(k):+.1f}",
        ]
        for kind, c in found.by_kind.items()
    ]
    what = (
        "range of the samples"
        if k == 1
        else f"interval from the {k}-th smallest to the {k}-th largest sample"
    )
    return "\n".join(
        [
            f"# Coverage of {found.name}",
            "",
            f"{found.verdict[0].upper()}{found.verdict[1:]}.",
            "",
            f"{found.images} truths ({found.truths}), {found.runs} samples each. Covered: the share of truths in the "
            f"{what}, ± standard error over images; due: what right samples cover; off by: in standard errors.",
            "",
            *markdown_table(["", "covered", "due", "off by"], rows, left=[0]),
            "",
            f"Intervals of pixels cover what is due if they are {found.widen:.2f} times as wide (`widen: "
            f"{found.widen:.2f}` in the recipe).",
            "",
            *(_spread(found.groups) if found.groups else []),
        ]
    )


def _spread(groups: Sequence[tuple[float, float]]) -> list[str]:
    rows = [[f"{s:.4f}", f"{e:.4f}", f"{s / e:.2f}" if e > 0 else "–"] for s, e in groups]
    return [
        "Pixels from the surest to the least sure: the spread of the samples and the error of their mean, which agree "
        "for right samples.",
        "",
        *markdown_table(["spread", "error", "spread / error"], rows, left=[]),
        "",
    ]


def picture(found: Found) -> str:
    """Return an SVG: how often each rank occurs, coverage of intervals of every width, and spread against error."""
    panels = [_histogram(kind, c) for kind, c in found.by_kind.items()]
    panels += [_curves(found.by_kind), *([_against(found.groups)] if found.groups else [])]
    columns = 3
    width = 2 * _MARGIN + columns * _SIDE + (columns - 1) * _GAP
    rows = -(-len(panels) // columns)
    height = _TOP + rows * (_SIDE + _GAP + 24)
    placed = [
        f'<g transform="translate({_MARGIN + column * (_SIDE + _GAP)},{_TOP + row * (_SIDE + _GAP + 24)})">{panel}</g>'
        for row, column, panel in ((*divmod(i, columns), panel) for i, panel in enumerate(panels))
    ]
    said = f"{found.images} truths ({found.truths}), {found.runs} samples each: {found.verdict}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="{_MARGIN}" y="34" font-size="20">Coverage of {escape(found.name)}</text>\n'
        f'<text x="{_MARGIN}" y="56" fill="{_FAINT}">{escape(said)}</text>\n'
        + "\n".join(placed)
        + "\n</svg>\n"
    )


def _frame(title: str, below: str) -> str:
    return (
        f'<text x="0" y="-8">{escape(title)}</text>'
        f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="{_FAINT}"/>'
        f'<text x="{_SIDE / 2}" y="{_SIDE + 16}" text-anchor="middle" fill="{_FAINT}">{escape(below)}</text>'
    )


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str = "") -> str:
    """Return a line through points of the unit square."""
    path = " ".join(f"{_SIDE * x:.1f},{_SIDE * (1 - y):.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}"/>'


def _histogram(kind: str, c: Coverage) -> str:
    """Return how often each rank occurs, in multiples of what is due, with two standard errors around that."""
    bins = len(c.shares)
    top = max(2.0, 1.05 * bins * max(c.shares))
    width = _SIDE / bins
    parts = []
    for place, (share, error) in enumerate(zip(c.shares, c.errors, strict=True)):
        x, high, band = place * width, bins * share / top, bins * 2 * error / top
        low = max(0.0, 1 / top - band)
        parts.append(
            f'<rect x="{x:.1f}" y="{_SIDE * (1 - min(1.0, 1 / top + band)):.1f}" width="{width:.1f}" '
            f'height="{_SIDE * (min(1.0, 1 / top + band) - low):.1f}" fill="{_BAND}"/>'
            f'<rect x="{x + 0.15 * width:.1f}" y="{_SIDE * (1 - high):.1f}" width="{0.7 * width:.1f}" '
            f'height="{_SIDE * high:.1f}" fill="{_ACCENT}" fill-opacity="0.75"/>'
        )
    parts.append(_line([(0, 1 / top), (1, 1 / top)], _INK, "4 3"))
    return "".join(parts) + _frame(kind, f"rank of the truth, 0 to {bins - 1}")


def _curves(by_kind: dict[str, Coverage]) -> str:
    """Return coverage against what is due, a line for each kind."""
    parts = [_line([(0, 0), (1, 1)], _FAINT, "4 3")]
    for place, (kind, c) in enumerate(by_kind.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(_line(list(zip(c.due, c.covered, strict=True)), colour))
        parts.append(f'<text x="8" y="{18 + 16 * place}" fill="{colour}">{escape(kind)}</text>')
    return "".join(parts) + _frame("covered", "due")


def _against(groups: Sequence[tuple[float, float]]) -> str:
    """Return error against spread of groups of pixels."""
    top = 1.05 * max(max(pair) for pair in groups) or 1.0
    dots = "".join(
        f'<circle cx="{_SIDE * s / top:.1f}" cy="{_SIDE * (1 - e / top):.1f}" r="4" fill="{_ACCENT}"/>'
        for s, e in groups
    )
    return _line([(0, 0), (1, 1)], _FAINT, "4 3") + dots + _frame("error", f"spread, to {top:.2g}")
