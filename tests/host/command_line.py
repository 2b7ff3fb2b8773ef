"""The command line, called from Python."""

from __future__ import annotations

from click.testing import CliRunner, Result

from daps_kit.command.main import main


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def ok(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert result.exception is None
    assert result.stderr == ""
    return result.stdout
