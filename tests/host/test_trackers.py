"""Trackers are found by name, of the plugins that offer them."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.discovery import load_file
from daps_kit.errors import ComponentError
from daps_kit.registry import Registry
from daps_kit.trackers import OfferedTracker, Tracker

SOURCE = """
from daps_kit.hooks import hookimpl
from daps_kit.trackers import Tracker

class Diary(Tracker):
    name = {name}

@hookimpl
def daps_trackers():
    return [{returned}]
"""


def plugin(tmp_path: Path, name: str = '"diary"', returned: str = "Diary") -> Path:
    file = tmp_path / "diary.py"
    file.write_text(SOURCE.format(name=name, returned=returned))
    return file


def test_a_tracker_is_told_everything_and_does_nothing_by_default(tmp_path):
    tracker = Tracker()
    tracker.begin("run", tmp_path, "format: 1")
    tracker.level(0, 1.0, 1.0)
    tracker.sample("a", 0, False)
    tracker.metrics({"psnr": 20.0})
    tracker.picture("grid", tmp_path / "grid.png")
    tracker.end("")
    assert list(tmp_path.iterdir()) == []


def test_a_file_offers_one(tmp_path):
    registry = Registry()
    with registry.extended(files=[plugin(tmp_path)]):
        assert registry.tracker("diary").name == "diary"
        with pytest.raises(
            ComponentError, match="unknown tracker 'dairy'; there are diary; did you mean 'diary'"
        ):
            registry.tracker("dairy")
    with pytest.raises(ComponentError, match="unknown tracker 'diary'; none is installed"):
        registry.tracker("diary")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"returned": "3"}, "daps_trackers returned 3, which is no class of trackers"),
        ({"name": "'my diary'"}, "the name of the tracker Diary has letters"),
        ({"returned": "Diary, Diary"}, "offers the tracker 'diary' twice"),
    ],
)
def test_what_is_no_tracker_is_refused(tmp_path, changes, message):
    loaded = load_file(plugin(tmp_path, **changes), [])
    assert loaded.status == "broken"
    assert message in loaded.error
    assert loaded.trackers == ()


def test_two_that_offer_one_name():
    registry = Registry()
    registry.trackers = [OfferedTracker("diary", owner, Tracker) for owner in ("one", "two")]
    with pytest.raises(ComponentError, match="several plugins offer 'diary'.*one/diary or two/diary"):
        registry.tracker("diary")
    assert registry.tracker("two/diary") is Tracker
