"""metrics.json is read image by image, as json.loads reads it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daps_kit.errors import UserError
from daps_kit.report import metrics_file
from daps_kit.report.metrics_file import ImageNumbers, read_metrics

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("block", [1, 7, 1 << 18])
@settings(max_examples=25, deadline=None)
@given(
    head=st.dictionaries(st.text().filter(lambda key: key != "images"), VALUES, max_size=3),
    images=st.dictionaries(st.text(), st.dictionaries(st.text(), VALUES, max_size=3), max_size=4),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
)
def test_it_is_what_json_reads(
    tmp_path_factory: pytest.TempPathFactory,
    block: int,
    head: Any,
    images: Any,
    indent: Any,
    ascii_only: bool,
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "metrics.json"
    content = {**head, "images": images, "last": 12}
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_file, "BLOCK", block)
        found = read_metrics(path)
        assert isinstance(found["images"], ImageNumbers)
        assert list(found["images"]) == list(images)
        assert {**found, "images": dict(found["images"])} == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ('{"images": {"a": {}}', "is damaged"),
        ('{"images": {"a": {}} "b": 1}', ", or } is expected|is damaged"),
        ('{"images": {"a" {}}}', "is damaged: : is expected at byte 16"),
        ("{} {}", "is damaged: something follows its end"),
        ("[1]", "is not what daps-kit run writes"),
        ("[" * 100_000, "is damaged"),
        ('{"a": ' + "[" * 200_000, "is damaged"),
    ],
)
def test_what_is_no_such_file_is_told_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_metrics(tmp_path / "metrics.json")
    assert "\n" not in str(caught.value)


def test_a_file_that_took_its_place_is_not_read_for_it(tmp_path: Path) -> None:
    path, other = tmp_path / "metrics.json", tmp_path / "other"
    path.write_text('{"images": {"a": {"x": 1}}}')
    images = read_metrics(path)["images"]
    assert images["a"] == {"x": 1}
    assert "b" not in images
    other.write_text('{"images": {"b": {"x": 1}}}')
    other.replace(path)
    with pytest.raises(UserError, match="written anew"):
        images["a"]


def test_it_reads_what_json_reads_of_images_that_are_no_object(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"images": [1, 2]}')
    assert read_metrics(tmp_path / "metrics.json") == {"images": [1, 2]}
