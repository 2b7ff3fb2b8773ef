"""`daps-kit report`."""

from __future__ import annotations

import daps_kit
from tests.host.command_line import call, ok


def test_the_page_of_a_run_is_written_anew(toy) -> None:
    folder = daps_kit.run(toy(), quiet=True).path
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert ok("report", str(folder)) == f"{folder / 'report.html'}\n"
    assert (folder / "report.html").read_bytes() == before


def test_several_stand_side_by_side(toy, tmp_path, monkeypatch) -> None:
    for seed in (1, 2):
        daps_kit.run(toy(), [f"seed={seed}", f"output={tmp_path / 'runs' / str(seed)}"], quiet=True)
    page = tmp_path / "both.html"
    assert ok("report", str(tmp_path / "runs"), "--output", str(page)) == f"{page}\n"
    assert "<code>seed</code>" in page.read_text()
    monkeypatch.chdir(tmp_path)
    assert ok("report", "runs/1", "runs/2") == "report.html\n"


def test_what_is_wrong_is_said_in_a_line(toy, tmp_path) -> None:
    folder = daps_kit.run(toy(), quiet=True).path
    for arguments, message in [
        ([str(tmp_path / "none")], "no such folder"),
        ([str(folder), "--output", "page.pdf"], "--output page.pdf: the name of a page ends in .html"),
        ([str(folder), "--output", str(folder / "metrics.json" / "a.html")], "cannot write"),
    ]:
        result = call("report", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
