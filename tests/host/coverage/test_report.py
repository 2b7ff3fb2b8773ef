"""The table and the picture of coverage, and what it all comes to."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from daps_kit.coverage.found import Found
from daps_kit.coverage.ranks import Coverage, coverage
from daps_kit.coverage.report import picture, table


def found(**kinds: Coverage) -> Found:
    return Found("a <b> & c", Path("x"), 3, 2, "draws of the prior", kinds, [(0.1, 0.2), (0.3, 0.3)], 1.25)


def made(*ends: float) -> Coverage:
    """Of three samples and two images; `ends` are the shares of the outer ranks."""
    rows = [torch.tensor([e / 2, (1 - e) / 2, (1 - e) / 2, e / 2], dtype=torch.float64) for e in ends]
    return coverage(rows, 20_000)


def test_the_verdict_names_what_is_off() -> None:
    right, narrow, wide = made(0.49, 0.52), made(0.71, 0.72), made(0.21, 0.22)
    assert found(pixels=right).verdict == "calibrated, as far as 2 images tell"
    assert found(pixels=narrow, blocks=wide).verdict == "not calibrated: pixels too narrow, blocks too wide"
    assert (
        found(pixels=right, fit=narrow).verdict
        == "not calibrated: the samples explain y otherwise than the truths do"
    )


def test_the_table_tells_what_is_due() -> None:
    text = table(found(pixels=made(0.71, 0.73)))
    # Half of the truths are due between the least and the largest of three samples.
    assert "| pixels | 0.280 ± 0.010 | 0.500 | -22.0 |" in text
    assert "range of the samples" in text
    assert "(`widen: 1.25` in the recipe)" in text
    assert "| 0.1000 | 0.2000 | 0.50 |" in text


@pytest.mark.parametrize("count", [1, 5])
def test_the_picture_is_an_image_with_a_panel_for_each(count: int) -> None:
    kinds = {f"kind {i}": made(0.5, 0.6) for i in range(count)}
    root = ElementTree.fromstring(picture(found(**kinds)))
    groups = root.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == count + 2
    assert len(groups[-1].findall("{http://www.w3.org/2000/svg}circle")) == 2
    assert "Coverage of a <b> & c" in "".join(root.itertext())
