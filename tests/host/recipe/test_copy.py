"""A copy of an installed recipe stands alone and means the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daps_kit.recipe import installed_recipes, load_recipe
from tests.host.command_line import ok

RUNS = [name for name in installed_recipes() if not name.startswith("train/")]


@pytest.mark.parametrize("name", RUNS)
def test_a_copy_stands_alone_and_means_the_same(name: str) -> None:
    told = ok("recipes", "copy", name, "mine.yaml")
    assert told == "mine.yaml: edit it, then `daps-kit run mine.yaml`\n"
    text = Path("mine.yaml").read_text()
    assert "extends" not in text
    summaries = {each["name"]: each["summary"] for each in json.loads(ok("recipes", "--json"))}
    assert text.startswith(f"# {summaries[name]}\n")
    original = load_recipe(name)
    copies = load_recipe("mine.yaml")
    assert [c.model_dump(exclude={"name", "output"}) for c in copies] == [
        o.model_dump(exclude={"name", "output"}) for o in original
    ]
    assert all("mine" in c.output.parts for c in copies), "its results do not meet those of the recipe"
    assert [c.sampler for c in copies] == [o.sampler for o in original]
    assert [c.operator for c in copies] == [o.operator for o in original]


def test_a_copy_keeps_the_comments_and_makes_paths_work(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("c"))  # a short path, so that the section stays on its line
    Path("base").mkdir()
    Path("base/photo.png").touch()
    Path("base/gaussian").touch()
    Path("base/part.yaml").write_text(
        "# Part: what all share.\nformat: 1\n\n# The picture.\ndata: {use: images, path: photo.png}  # a portrait\n"
        "prior: {use: gaussian}\n"
    )
    Path("base/r.yaml").write_text(
        "# A title.\n# And more.\nextends: part.yaml\noperator:\n  use: identity\n  noise:\n    use: gaussian\n"
        "    # Louder than usual.\n    sigma: 5e-1\nseed: 3  # any\n"
    )
    ok("recipes", "copy", "base/r.yaml", "r2.yaml")
    assert Path("r2.yaml").read_text() == (
        "# A title.\n# And more.\nformat: 1\n# The picture.\n"
        f"data: {{use: images, path: {Path.cwd()}/base/photo.png}}  # a portrait\nprior: {{use: gaussian}}\n"
        "operator:\n  use: identity\n  noise:\n    use: gaussian\n    # Louder than usual.\n    sigma: 0.5\nseed: 3  # any\n"
        "output: results/r2\n"
    )
