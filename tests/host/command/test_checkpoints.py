"""`daps-kit checkpoints`, with a server that gives out one small file."""

from __future__ import annotations

from click.testing import CliRunner

from daps_kit.command.checkpoints import command
from daps_kit.errors import UserError
from daps_kit.registry import default_registry
from tests.host.weights.conftest import cache, site, source  # noqa: F401 (fixtures)


def run(*arguments):
    return CliRunner().invoke(command, list(arguments))


def test_on_the_command_line(source, cache, tmp_path):  # noqa: F811
    assert run("verify").output == "no checkpoints have been fetched\n"
    result = run("fetch", "small")
    assert result.output == f"small: {cache / 'small.ckpt'}\n"
    assert run("where", "small").output == f"{cache / 'small.ckpt'}\n"
    listed = run("list").output
    assert f"kept in {cache}" in listed
    for name in (each.name for each in default_registry().sources):
        assert any(line.split()[0] == name for line in listed.splitlines() if line)
    assert [line.split()[1] for line in listed.splitlines() if line.startswith(("small", "bkse"))] == [
        "absent",
        "fetched",
    ]
    assert run("verify").output == "small: as it was fetched\n"
    (cache / "small.ckpt").write_bytes(b"")
    result = run("verify", "small")
    assert isinstance(result.exception, UserError)
    assert "small: " in result.output
    assert isinstance(run("fetch", "small", "smal").exception, UserError)
    assert isinstance(
        run("convert", str(tmp_path / "a.ckpt"), str(tmp_path / "a.safetensors")).exception, UserError
    )
