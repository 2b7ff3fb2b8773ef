"""Pictures of ranks and fronts: whole, and with everything where it belongs."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from daps_kit.compare.drawing import draw_front, draw_ranks

SVG = "{http://www.w3.org/2000/svg}"
RANKS = {"c": 2.9, "a": 1.1, "b": 1.9, "d<": 4.0}


def parts(picture: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(picture).findall(f"{SVG}{tag}")


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in parts(picture, "text")]


def test_ranks_are_named_best_first_and_joined_where_they_are_near() -> None:
    picture = draw_ranks("of two & more", RANKS, 1.2)
    found = texts(picture)
    assert found[0] == "of two & more"
    assert [text for text in found if "  " in text] == ["a  1.10", "b  1.90", "c  2.90", "d<  4.00"]
    bars = [line for line in parts(picture, "line") if line.get("stroke-width") == "3"]
    spans = [(float(bar.get("x1", 0)), float(bar.get("x2", 0))) for bar in bars]
    assert len(spans) == 3, "a with b, b with c, c with d"
    assert spans[0][1] > spans[1][0]
    assert "critical difference 1.20" in found


def test_without_a_critical_difference_nothing_is_joined_that_should_not_be() -> None:
    alone = draw_ranks("t", RANKS, 0.1)
    assert not [line for line in parts(alone, "line") if line.get("stroke-width") == "3"]
    assert not [text for text in texts(draw_ranks("t", RANKS, math.inf)) if "critical" in text]


def test_a_front_joins_its_points_by_rising_cost() -> None:
    points = {"a 20": (20.0, 24.0), "b 20": (20.0, 22.0), "a 1000": (1000.0, 27.0)}
    picture = draw_front("front", points, ["a 20", "a 1000"])
    (line,) = parts(picture, "polyline")
    ends = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert ends[0][0] < ends[1][0]
    assert ends[0][1] > ends[1][1], "more quality is higher"
    circles = {(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in parts(picture, "circle")}
    assert set(ends) < circles
    assert len(circles) == 3
    assert {"a 20", "b 20", "a 1000", "100"} <= set(texts(picture))
