"""What options that several commands take complete in a shell."""

from __future__ import annotations

import click

from daps_kit.command.options import complete_components, complete_recipes

ASKED = click.Context(click.Command("run")), click.Argument(["recipe"])


def test_recipes_are_completed_and_files_where_there_are_none() -> None:
    assert [item.value for item in complete_recipes(*ASKED, "quick")] == ["quickstart"]
    (item,) = complete_recipes(*ASKED, "./my")
    assert (item.value, item.type) == ("./my", "file")


def test_components_are_completed_with_their_kinds() -> None:
    assert [item.value for item in complete_components(*ASKED, "operator/ga")] == ["operator/gaussian_blur"]
    assert complete_components(*ASKED, "nothing") == []
