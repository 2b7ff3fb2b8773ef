"""`daps-kit merge` hands on what it is told."""

from __future__ import annotations

from tests.host.command_line import call


def test_one_folder_is_not_enough() -> None:
    result = call("merge", "one")
    assert result.exit_code == 2
    assert "give the folders to be joined, and last the folder to join them into" in result.stderr


def test_a_folder_without_a_run_is_named() -> None:
    result = call("merge", "one", "two", "into")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: one holds no run: there is no recipe.yaml in it\n",
    )
