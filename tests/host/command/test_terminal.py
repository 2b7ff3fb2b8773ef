"""What the command line prints."""

from __future__ import annotations

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
