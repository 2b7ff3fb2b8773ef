"""A folder belongs to one run or training, and one program at a time works in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daps_kit.errors import UserError
from daps_kit.runs.claim import Claim


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    return Claim(tmp_path / "a" / "out", "output", "run")


def test_a_new_folder_is_told_from_one_that_was_begun(claim: Claim) -> None:
    with claim.held() as fresh:
        assert fresh
        claim.recipe.write_text("x")
    with claim.held() as fresh:
        assert not fresh


def fail(claim: Claim, *files: str) -> None:
    """Begin something that comes to nothing but these files."""
    with claim.held():
        for name in files:
            (claim.path / name).write_text("x")
        raise UserError("wrong")


def test_the_recipe_goes_where_nothing_came_of_it(claim: Claim) -> None:
    with pytest.raises(UserError, match="wrong"):
        fail(claim, "recipe.yaml")
    assert not claim.recipe.exists()
    with pytest.raises(UserError, match="wrong"):
        fail(claim, "recipe.yaml", "y")
    assert claim.recipe.exists()


def test_one_program_at_a_time(claim: Claim) -> None:
    program = "import sys; from pathlib import Path; from daps_kit.runs.claim import Claim\n"
    program += "with Claim(Path(sys.argv[1]), 'output', 'run').held(): pass"
    with claim.held():
        told = subprocess.run(
            [sys.executable, "-c", program, claim.path], capture_output=True, text=True, check=False
        )
    assert f"UserError: output: another daps-kit is at work in {claim.path}" in told.stderr
    assert "torch" not in told.stderr


def test_what_a_killed_program_left_goes_and_what_is_not_ours_stays(claim: Claim) -> None:
    (claim.path / "deep").mkdir(parents=True)
    (claim.path / "deep" / ".a.png.77.tmp").write_text("half")
    with (
        pytest.raises(UserError, match=r"output: .*out holds something that is no run \(deep, \.\.\.\)"),
        claim.held(),
    ):
        pass
    assert (claim.path / "deep" / ".a.png.77.tmp").exists()
    claim.recipe.write_text("x")
    with claim.held():
        assert not list(claim.path.rglob("*.tmp"))


def lose(claim: Claim, *, replaced: bool) -> None:
    """Move the folder away while it is held, and put another one in its place."""
    with claim.held():
        claim.require()
        claim.path.rename(claim.path.with_name("elsewhere"))
        if replaced:
            claim.path.mkdir()
            (claim.path / ".lock").touch()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_was_removed_or_replaced_is_noticed(claim: Claim, replaced: bool) -> None:
    claim.require()  # nobody holds it
    with pytest.raises(UserError, match="output: .*out was removed or moved while the run was at work"):
        lose(claim, replaced=replaced)
    assert claim.path.exists() == replaced
    claim.require()
