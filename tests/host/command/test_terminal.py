"""What the command line prints."""

from __future__ import annotations

import json
import sys

import click
import pytest


def test_tables_for_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from daps_kit.command import terminal

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    terminal.print_table(("a", "bracket"), [("x", "[whole number]")])
    terminal.print_yaml("use: x\n")
    text = click.unstyle(capsys.readouterr().out)
    assert "[whole number]" in text
    assert "use: x" in text


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from daps_kit.command import terminal

    terminal.say("one \x1b[2J\u202e\ntwo\ttoo")
    assert capsys.readouterr().out == "one \\x1b[2J\\u202e\ntwo\\ttoo\n"
    terminal.say("wrong", err=True)
    assert capsys.readouterr().err == "wrong\n"
    value = {"name é": "\x1b[2J\x7f\x9b\u202e\ud800\U000e0001"}
    terminal.print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert "é" in text
    assert all(line.isprintable() for line in text.splitlines())
