"""Events of a run: one JSON object a line, and what they say."""

from __future__ import annotations

import json

import daps_kit
from daps_kit.executor import State
from daps_kit.runs.events import EventDisplay


def test_events_of_a_run(toy, tmp_path, capfd):
    lines: list[str] = []
    with EventDisplay(lines.append) as events:
        result = daps_kit.run(toy(), ["runs=2", f"output={tmp_path / 'out'}"], progress=events)
        events.end(result.path, result.grid)
    told = [json.loads(line) for line in lines]
    assert capfd.readouterr().err == ""
    assert told[0]["event"] in ("begin", "note", "warning")
    (begin,) = [each for each in told if each["event"] == "begin"]
    assert begin["done"] == 0
    levels = [each for each in told if each["event"] == "level"]
    assert levels[0]["level"] == 1
    assert levels[-1]["level"] == levels[-1]["levels"]
    assert [each for each in told if each["event"] == "samples"][-1]["done"] == begin["samples"]
    assert told[-1] == {"event": "end", "folder": str(tmp_path / "out"), "picture": str(result.grid)}


def test_lines_are_told_once():
    lines: list[str] = []
    events = EventDisplay(lines.append)
    for _ in range(2):
        events.note("a")
        events.warn("b")
        events.level(0, 2, 1.0, lambda: float("nan"))
    assert [json.loads(line)["event"] for line in lines] == ["note", "warning", "level", "level"]
    assert json.loads(lines[2])["residual"] is None


def test_each_worker_is_told_of_once_a_second():
    lines: list[str] = []
    now = [0.0]
    events = EventDisplay(lines.append)
    events.clock = lambda: now[0]
    events.plan("blur", 4, 0)
    for now[0] in (0.5, 1.0, 1.5):
        events.together(0.5, lambda: [State("a", "at work", 0.5)])
    _, told = [json.loads(line) for line in lines]
    assert told == {
        "event": "workers", "recipe": "blur", "workers": [{"worker": "a", "doing": "at work", "share": 0.5}],
        "done": 0, "samples": 4, "rate": 30.0, "left": 7.0,
    }  # fmt: skip


def test_rate_and_time_left_are_those_of_all_points():
    lines: list[str] = []
    now = [0.0]
    events = EventDisplay(lines.append)
    events.clock = lambda: now[0]
    events.point(1, 3, "seed=1")
    events.plan("blur", 8, 0)
    events.begin(2)
    events.level(0, 2, 1.0, lambda: 1.0)
    now[0] = 30.0
    events.finish(2)
    point, _, _, samples = (json.loads(line) for line in lines)
    assert point == {"event": "point", "number": 1, "points": 3, "label": "seed=1"}
    assert samples["rate"] == 4.0  # two in half a minute
    assert samples["left"] == (3 * 8 - 2) * 15.0
