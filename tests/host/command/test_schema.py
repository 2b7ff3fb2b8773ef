"""`daps-kit schema`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.host.command_line import ok


def test_schema() -> None:
    told = json.loads(ok("schema"))
    assert told["title"] == "A recipe of daps-kit"
    assert ok("schema", "--output", "s.json") == ""
    assert json.loads(Path("s.json").read_text()) == told
