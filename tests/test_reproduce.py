"""The page on reproducing the paper: its commands are valid, and its numbers are those of the table."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click import Context

from daps_kit.command.main import main
from daps_kit.recipe import load_recipe
from daps_kit.registry import Registry
from daps_kit.runs.published import published

PAGE = (Path(__file__).parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True) for line in PAGE.splitlines() if line.startswith("    daps-kit ")
]
RUNS = [words[2:] for words in COMMANDS if words[1] == "run"]


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_every_run_is_valid(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("ffhq", "imagenet"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "a.png").touch()
    recipe, *overrides = words
    assert any(each.startswith("data.path=images/") for each in overrides)
    for each in load_recipe(recipe, overrides):
        assert [file.name for file in each.data.files] == ["a.png"]


def test_the_published_phase_retrieval_has_4000_calls_and_4_runs(tmp_path):
    (words,) = [words for words in RUNS if words[0] == "ffhq256ddpm/phase_retrieval"]
    changes = [each for each in words[1:] if not each.startswith("data.")]
    (recipe,) = load_recipe(words[0], changes)
    sampler = recipe.sampler.model_dump()
    assert (sampler["annealing"]["levels"] * sampler["ode"]["steps"], recipe.runs) == (4000, 4)


def test_other_commands_exist():
    assert all(main.get_command(Context(main), words[1]) for words in COMMANDS)
    assert len(RUNS) >= 8
    (fetched,) = [words[3:] for words in COMMANDS if words[1:3] == ["checkpoints", "fetch"]]
    known = {source.name for source in Registry.discover(third_parties=False).sources}
    assert set(fetched) <= known
    table = PAGE.partition("| checkpoint |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([\w.-]+)`", table)) == known


def test_the_numbers_are_those_that_the_table_puts_beside_results():
    rows = {
        cells[1].strip(): cells
        for line in PAGE.partition("## What the paper reports")[2].partition("## How long")[0].splitlines()
        if len(cells := line.split("|")) == 6 and cells[1].strip() in published().tasks
    }
    assert list(rows) == list(published().tasks)
    for task, cells in rows.items():
        values = [[float(value) for value in cell.split("/")] for cell in cells[2:5]]
        models = ("ffhq256ddpm", "imagenet256ddpm", "ffhq256ldm")
        wanted = [list(published().means(model, task).values()) for model in models]
        assert values == wanted
        assert len(values[0]) == len(published().metrics)
